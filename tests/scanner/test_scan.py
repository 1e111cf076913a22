from __future__ import annotations

import gc
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import hostile
import numpy as np
import numpy.typing as npt
import pytest
from fakes import HALF, BrightnessScorer, encoded, grey, save_grey

from scanner import scan as engine
from scanner.errors import ImgscanError
from scanner.find import find_images
from scanner.limits import Limits
from scanner.scan import scan
from scanner.tally import Tally
from scanner.types import Failed, FileFacts, ImageRef, Verdict
from scanner.verdict import OperatingPoint, judge


def run(refs: list[ImageRef | Failed], **options: int) -> list[Verdict | Failed]:
    limits = Limits(options.get("workers", 2))
    batch_size = options.get("batch_size", 4)
    return list(scan(refs, BrightnessScorer(), point=HALF, batch_size=batch_size, limits=limits))


# --- the pipeline ---


def test_results_come_in_the_order_of_the_refs(tmp_path: Path) -> None:
    """However long each file takes."""
    sizes = [(40, 32), (900, 800)] * 11
    refs = [save_grey(tmp_path / f"{i}.png", i * 10, size) for i, size in enumerate(sizes)]
    results = run(list(refs), workers=4)
    assert [result.ref for result in results] == refs
    scores = [result.p_fake for result in results if isinstance(result, Verdict)]
    assert scores == pytest.approx([i * 10 / 255 for i in range(len(sizes))], abs=1e-6)


def test_one_bad_image_does_not_stop_its_batch(tmp_path: Path) -> None:
    refs: list[ImageRef | Failed] = [save_grey(tmp_path / f"{i}.png", 200) for i in range(4)]
    (tmp_path / "2.png").write_bytes(b"damaged")
    refs.insert(1, Failed(ImageRef(tmp_path / "locked"), "permission", "no"))
    results = run(refs)
    assert [isinstance(result, Failed) for result in results] == [False, True, False, True, False]
    assert [r.verdict for r in results if isinstance(r, Verdict)] == ["fake"] * 3


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 1), (3, 2), (7, 3), (64, 4)])
def test_batch_size_and_workers_change_no_result(
    tmp_path: Path, batch_size: int, workers: int
) -> None:
    refs: list[ImageRef | Failed] = [save_grey(tmp_path / f"{i}.png", i * 20) for i in range(10)]
    assert run(refs, batch_size=batch_size, workers=workers) == run(refs)


def test_pictures_are_scored_in_batches_of_the_asked_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_BATCH_WAIT_S", 60.0)
    refs = [save_grey(tmp_path / f"{i}.png", 0) for i in range(10)]
    (tmp_path / "1.png").write_bytes(b"damaged")
    scorer = BrightnessScorer()
    list(scan(refs, scorer, point=HALF, batch_size=4, limits=Limits(2)))
    assert scorer.batches == [4, 4, 1]


def test_refs_are_drawn_only_as_far_ahead_as_promised(tmp_path: Path) -> None:
    ref = save_grey(tmp_path / "a.png", 0)
    drawn = 0

    def endless() -> Iterator[ImageRef]:
        nonlocal drawn
        while True:
            drawn += 1
            yield ref

    results = scan(endless(), BrightnessScorer(), point=HALF, batch_size=4, limits=Limits(2))
    for given in range(1, 50):
        next(results)
        # Three batches around the scorer, and the window of the decoders.
        assert drawn <= given + 3 * 4 + 16 * 2
    results.close()


def test_results_come_while_the_next_ref_is_long_in_coming(tmp_path: Path) -> None:
    refs = [save_grey(tmp_path / f"{i}.png", 0) for i in range(7)]
    more = threading.Event()

    def slow() -> Iterator[ImageRef]:
        yield from refs[:6]
        more.wait(60)
        yield refs[6]

    results = scan(slow(), BrightnessScorer(), point=HALF, batch_size=4, limits=Limits(2))
    assert [next(results).ref for _ in range(6)] == refs[:6]
    assert not more.is_set()
    more.set()
    assert [result.ref for result in results] == refs[6:]


def test_closing_does_not_wait_for_a_ref_that_never_comes(tmp_path: Path) -> None:
    ref = save_grey(tmp_path / "a.png", 0)
    never = threading.Event()

    def stuck() -> Iterator[ImageRef]:
        yield ref
        never.wait(60)

    results = scan(stuck(), BrightnessScorer(), point=HALF, batch_size=4, limits=Limits(2))
    assert next(results).ref == ref
    start = time.monotonic()
    results.close()
    assert time.monotonic() - start < 4
    never.set()


def test_what_the_list_of_refs_raises_ends_the_scan(tmp_path: Path) -> None:
    ref = save_grey(tmp_path / "a.png", 0)

    def broken() -> Iterator[ImageRef]:
        yield ref
        raise ImgscanError("the list broke off")

    results = scan(broken(), BrightnessScorer(), point=HALF, batch_size=1, limits=Limits(1))
    with pytest.raises(ImgscanError, match="broke off"):
        list(results)


def test_an_endless_run_of_failures_passes_through() -> None:
    def endless() -> Iterator[Failed]:
        while True:
            yield Failed(ImageRef(Path("locked")), "permission", "no")

    results = scan(endless(), BrightnessScorer(), point=HALF, batch_size=4, limits=Limits(2))
    assert [next(results).ref.path.name for _ in range(1000)] == ["locked"] * 1000
    results.close()


def test_memory_does_not_grow_with_the_number_of_files(tmp_path: Path) -> None:
    ref = save_grey(tmp_path / "a.png", 0)

    def peak(count: int) -> int:
        gc.collect()
        tracemalloc.start()
        for _ in scan(
            [ref] * count, BrightnessScorer(), point=HALF, batch_size=4, limits=Limits(2)
        ):
            pass
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    peak(8)  # imports and caches
    few, many = peak(100), peak(800)
    squares = 3 * 32 * 32 * 4  # bytes of one prepared picture
    # Kept, the 700 more would come to 700 of these; a tenth is room for what else goes on.
    assert many < few + 700 * squares / 10
    assert many < 600 * 2 * squares / 10


def test_closing_early_drops_what_has_not_begun(tmp_path: Path) -> None:
    refs = [save_grey(tmp_path / f"{i}.png", 0) for i in range(3)]
    hanging = save_grey(tmp_path / "hang.png", 0)
    results = scan(
        [*refs, *[hanging] * 100],
        BrightnessScorer(),
        point=HALF,
        batch_size=1,
        limits=Limits(2),
        decode=hostile.decode,
    )
    next(results)
    start = time.monotonic()
    results.close()
    assert time.monotonic() - start < 2
    assert not [t for t in threading.enumerate() if t.name.startswith("score")]


@pytest.mark.parametrize(
    "scores",
    [
        np.full(4, np.nan),
        np.full(4, 1.5),
        np.full(4, -0.1),
        np.zeros(3),
        np.zeros((4, 1)),
    ],
)
def test_a_scorer_that_gives_no_probability_ends_the_scan(
    tmp_path: Path, scores: npt.NDArray[np.float64]
) -> None:
    class Broken(BrightnessScorer):
        def score(self, batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
            return scores

    ref = save_grey(tmp_path / "a.png", 0)
    with pytest.raises(ImgscanError, match="no probability"):
        list(scan([ref] * 4, Broken(), point=HALF, batch_size=4, limits=Limits(1)))


def test_a_scorer_that_crashes_says_what_can_be_done(tmp_path: Path) -> None:
    class Crashing(BrightnessScorer):
        def score(self, batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
            raise RuntimeError("out of memory\n at 0x7f00deadbeef")

    ref = save_grey(tmp_path / "a.png", 0)
    with pytest.raises(ImgscanError, match=r"batch of 1: out of memory at …; try a smaller"):
        list(scan([ref], Crashing(), point=HALF, batch_size=4, limits=Limits(1)))


def test_two_thousand_mixed_files_give_exactly_one_row_each(tmp_path: Path) -> None:
    good = encoded(grey(255), "PNG")
    bad = [b"", b"junk", good[:60]]
    for i in range(2000):
        path = tmp_path / f"{i % 7}" / f"{i:04}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bad[i % 3] if i % 10 == 0 else good)
    results = run(list(find_images([tmp_path])), batch_size=16)
    assert len(results) == len({result.ref for result in results}) == 2000
    failed = [result for result in results if isinstance(result, Failed)]
    assert sorted(int(result.ref.path.stem) for result in failed) == list(range(0, 2000, 10))


# --- what it comes to ---


def test_the_tally_keeps_the_surest_suspects_and_no_more() -> None:
    point = OperatingPoint("low", 0.1)
    tally = Tally(keep_suspects=3, keep_unsure=1, keep_failures=1)
    for name, score in [("d", 0.5), ("b", 0.9), ("c", 0.9), ("a", 0.9), ("e", 0.05), ("f", 0.95)]:
        tally.add(judge(ImageRef(Path(name)), FileFacts(), score, point))
    tally.add(Failed(ImageRef(Path("g")), "empty", ""))
    tally.add(Failed(ImageRef(Path("h")), "empty", ""))
    assert [verdict.ref.path.name for verdict in tally.surest] == ["f", "a", "b"]
    assert [failed.ref.path.name for failed in tally.first_failed] == ["g"]
    assert (tally.scanned, tally.suspects, tally.failed) == (8, 5, 2)


def test_a_suspect_without_a_band_keeps_its_place_whatever_its_notes() -> None:
    tally = Tally(keep_suspects=2, keep_unsure=1, keep_failures=1)
    for name, score, odd in [("a", 0.24, False), ("b", 0.59, True), ("c", 0.71, False)]:
        facts = FileFacts(notes=("elongated",)) if odd else FileFacts()
        tally.add(judge(ImageRef(Path(name)), facts, score, OperatingPoint("given", 0.2)))
    assert [verdict.ref.path.name for verdict in tally.surest] == ["c", "b"]
