"""A scan with a memory: what is known costs nothing, what is new is kept before it is told."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import hostile
import pytest
from fakes import HALF, BrightnessScorer, save_grey

from scanner import scan as engine
from scanner.bundle import Bundle
from scanner.detector import Detector
from scanner.limits import Limits
from scanner.memory import Contents
from scanner.scan import scan
from scanner.types import Failed, FileFacts, ImageRef, Scored, Verdict
from scanner.verdict import OperatingPoint


@dataclass
class FakeMemory:
    """Recalls what it was given or has kept, by the ref."""

    known: dict[ImageRef, Scored | Failed] = field(default_factory=dict)
    contents: Contents | None = None
    asked: list[int] = field(default_factory=list)
    kept: list[list[Scored | Failed]] = field(default_factory=list)

    def recall(self, refs: Sequence[ImageRef]) -> list[Scored | Failed | None]:
        self.asked.append(len(refs))
        return [self.known.get(ref) for ref in refs]

    def keep(self, results: Sequence[Scored | Failed]) -> None:
        self.kept.append(list(results))
        self.known.update((result.ref, result) for result in results)


def run(
    refs: Sequence[ImageRef | Failed], memory: FakeMemory, point: OperatingPoint = HALF
) -> Iterator[Verdict | Failed]:
    return scan(
        refs, BrightnessScorer(), point=point, batch_size=4, limits=Limits(2), memory=memory
    )


def test_what_is_known_is_told_in_its_place_and_no_file_of_it_is_opened(tmp_path: Path) -> None:
    gone = [ImageRef(tmp_path / f"gone-{i}.png") for i in range(30)]
    memory = FakeMemory({ref: Scored(ref, 0.7, FileFacts(width=i)) for i, ref in enumerate(gone)})
    memory.known[gone[3]] = Failed(gone[3], "empty", "it was")
    there = [save_grey(tmp_path / f"{i}.png", 0) for i in range(6)]
    locked = Failed(ImageRef(tmp_path / "locked"), "permission", "no")
    refs = [there[0], *gone[:10], *there[1:4], locked, *gone[10:], *there[4:]]
    results = list(run(refs, memory))
    assert [r.ref for r in results] == [r.ref if isinstance(r, Failed) else r for r in refs]
    told = {r.ref: r for r in results}
    assert told[gone[3]] == memory.known[gone[3]]
    assert told[locked.ref] == locked
    verdict = told[gone[7]]
    assert isinstance(verdict, Verdict)
    assert (verdict.verdict, verdict.p_fake, verdict.facts.width) == ("fake", 0.7, 7)
    assert all(told[ref].verdict == "real" for ref in there)  # type: ignore[union-attr]
    # Only what was new is kept, as it came to be known.
    kept = [result.ref for batch in memory.kept for result in batch]
    assert sorted(kept, key=str) == there


def test_another_threshold_judges_what_is_known_anew(tmp_path: Path) -> None:
    refs = [save_grey(tmp_path / "a.png", 150)]
    memory = FakeMemory()
    first = list(run(refs, memory))
    again = list(run(refs, memory, OperatingPoint("high", 0.9)))
    assert [r.verdict for r in (*first, *again)] == ["fake", "real"]  # type: ignore[union-attr]
    assert len(memory.kept) == 1


def test_a_result_is_kept_before_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_BATCH_WAIT_S", 60.0)
    memory = FakeMemory()
    refs = [save_grey(tmp_path / f"{i}.png", 0) for i in range(20)]
    for result in run(refs, memory):
        assert result.ref in memory.known
    # In batches: the memory may have to wait for the disk each time.
    assert len(memory.kept) <= 6


def test_what_is_scored_is_kept_though_a_file_before_it_hangs(tmp_path: Path) -> None:
    """A kill then costs the row of the report, and not the work."""
    names = ["hang", *(f"{i}" for i in range(9))]
    refs = [save_grey(tmp_path / f"{name}.png", 0) for name in names]
    memory = FakeMemory()
    results = scan(
        refs,
        BrightnessScorer(),
        point=HALF,
        batch_size=4,
        limits=Limits(2, timeout_s=4.0),
        memory=memory,
        decode=hostile.decode,
    )
    first = next(results)
    assert (first.ref, getattr(first, "reason", None)) == (refs[0], "timeout")
    assert {ref for ref, kept in memory.known.items() if isinstance(kept, Scored)} == set(refs[1:])
    assert isinstance(memory.kept[0][0], Scored)
    assert [result.ref for result in results] == refs[1:]


def test_what_is_scored_when_the_scan_is_closed_is_kept(tmp_path: Path) -> None:
    refs = [save_grey(tmp_path / f"{i}.png", 0) for i in range(12)]
    memory = FakeMemory()
    scorer = BrightnessScorer()
    results = scan(refs, scorer, point=HALF, batch_size=4, limits=Limits(2), memory=memory)
    next(results)
    end = time.monotonic() + 20
    while not scorer.batches and time.monotonic() < end:
        time.sleep(0.02)
    time.sleep(0.1)
    results.close()
    kept = {result.ref for batch in memory.kept for result in batch}
    assert len(kept) == sum(scorer.batches)


def test_what_an_interruption_kept_from_being_kept_is_tried_again(tmp_path: Path) -> None:
    class Interrupted(FakeMemory):
        tries = 0

        def keep(self, results: Sequence[Scored | Failed]) -> None:
            self.tries += 1
            if self.tries == 1:
                raise KeyboardInterrupt
            super().keep(results)

    memory = Interrupted()
    refs = [save_grey(tmp_path / f"{i}.png", 0) for i in range(4)]
    with pytest.raises(KeyboardInterrupt):
        list(run(refs, memory))
    assert set(memory.known) == set(refs)


def test_many_known_refs_are_asked_for_together(tmp_path: Path) -> None:
    refs = [ImageRef(tmp_path / f"{i}.png") for i in range(10_000)]
    memory = FakeMemory({ref: Scored(ref, 0.1, FileFacts()) for ref in refs})
    assert len(list(run(refs, memory))) == 10_000
    assert len(memory.asked) < 40
    assert max(memory.asked) <= 512


def test_moved_and_duplicate_files_are_neither_decoded_nor_scored(tmp_path: Path) -> None:
    refs = [save_grey(tmp_path / f"{i}.png", 0) for i in range(5)]
    refs.append(ImageRef(refs[0].path.rename(tmp_path / "0.jpg")))
    del refs[0]
    refs.append(save_grey(tmp_path / "6.png", 0))
    memory = FakeMemory(contents=hostile.Known())
    results = list(run(refs, memory))
    assert [(r.p_fake, r.facts.width) for r in results] == [(0.75, 7)] * 6  # type: ignore[union-attr]
    # What the file itself tells is its own.
    size = refs[0].path.stat().st_size
    assert all(r.facts.bytes == size and r.facts.sha256 for r in results)
    notes = [r.facts.notes for r in results if r.ref.path.suffix == ".jpg"]
    assert notes == [("extension_mismatch",)]
    assert len([r for batch in memory.kept for r in batch]) == 6


@pytest.mark.parametrize("batch_size", [1, 5, 16])
def test_a_score_hangs_on_its_picture_alone_to_the_last_bit(
    tmp_path: Path, tiny_bundle: Bundle, batch_size: int
) -> None:
    """Whatever is scanned with it: a scan that was interrupted and resumed gives the same."""
    refs = [save_grey(tmp_path / f"{i:02}.png", 10 * i, (40 + i, 50)) for i in range(23)]
    detector = Detector(tiny_bundle, device="cpu")

    def scores(some: Sequence[ImageRef], size: int) -> dict[ImageRef, float]:
        results = scan(some, detector, point=HALF, batch_size=size, limits=Limits(2))
        return {r.ref: r.p_fake for r in results if isinstance(r, Verdict)}

    whole = scores(refs, 16)
    assert len(whole) == 23
    parts = scores(refs[:7], batch_size) | scores(refs[7:], batch_size)
    assert parts == whole
