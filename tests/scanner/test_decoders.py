"""One file's decoding costs no other file anything: real crashes, hangs and lost memory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import hostile
import psutil
import pytest
from fakes import HALF, SPEC, BrightnessScorer, all_gone, encoded, gradient, save_grey

from scanner import decoders, limits
from scanner.decoders import Decoders
from scanner.errors import ImgscanError
from scanner.limits import (
    DecodeLimits,
    Limits,
    cgroup_limits,
    default_memory_mb,
    large_at_a_time,
    memory_for_workers_mb,
)
from scanner.scan import scan
from scanner.turns import Turns
from scanner.types import Failed, ImageRef
from scanner.workers import Decoded, Setup, Squares

ROOT = Path(__file__).parents[2]
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="only Linux enforces it")


def told(
    tmp_path: Path, names: list[str], limits: Limits, batch_size: int = 4
) -> list[tuple[str, str]]:
    """(name, verdict or reason) of white pictures under these names, in this order."""
    refs = [save_grey(tmp_path / f"{name}.png", 255) for name in names]
    results = scan(
        refs,
        BrightnessScorer(),
        point=HALF,
        batch_size=batch_size,
        limits=limits,
        decode=hostile.decode,
    )
    return [(r.ref.path.stem, r.reason if isinstance(r, Failed) else r.verdict) for r in results]


def good(*names: str) -> list[tuple[str, str]]:
    return [(name, "fake") for name in names]


@pytest.mark.parametrize("how", ["segfault", "abort", "killed", "exit"])
def test_a_decoder_that_ends_its_process_costs_its_own_file_alone(tmp_path: Path, how: str) -> None:
    # Past the first few, files travel in chunks: the guilty one has three innocent beside it.
    names = [f"{i:02}" for i in range(8)]
    names[6:6] = [how]
    expected = good(*names)
    expected[6] = (how, "crashed")
    assert told(tmp_path, names, Limits(1)) == expected


def test_every_file_may_crash(tmp_path: Path) -> None:
    names = [f"segfault-{i}" for i in range(6)]
    assert told(tmp_path, names, Limits(2)) == [(name, "crashed") for name in names]


def test_a_hang_ends_with_its_own_time_and_the_slow_beside_it_keep_theirs(tmp_path: Path) -> None:
    # Together they take longer than the limit, and none does alone.
    names = ["a", "b", "slow-1", "slow-2", "hang", "slow-3", "slow-4", "slow-5", "slow-6", "c"]
    start = time.monotonic()
    results = told(tmp_path, names, Limits(1, timeout_s=1.0))
    assert dict(results) == dict(good(*names)) | {"hang": "timeout"}
    assert [name for name, _ in results] == names
    assert time.monotonic() - start < 20


def test_a_decoder_that_lets_no_python_run_is_stopped_all_the_same(tmp_path: Path) -> None:
    assert told(tmp_path, ["a", "deaf", "b"], Limits(1, timeout_s=0.7)) == [
        ("a", "fake"),
        ("deaf", "timeout"),
        ("b", "fake"),
    ]


@linux_only
@pytest.mark.parametrize("how", ["eat", "eat_numpy"])
def test_a_decoder_that_eats_memory_costs_its_own_file_alone(tmp_path: Path, how: str) -> None:
    names = ["a", "b", "c", how, "d"]
    expected = good(*names)
    expected[3] = (how, "too_large")
    assert told(tmp_path, names, Limits(1, memory_mb=512)) == expected


@linux_only
@pytest.mark.parametrize("memory_mb", [16, 64])
def test_a_decoder_that_calls_lack_of_memory_damage_is_not_believed(
    tmp_path: Path, memory_mb: int
) -> None:
    """libwebp, libavif and libjpeg tell nothing else of an allocation that fails."""
    image = gradient((4000, 4000))
    kinds: dict[str, dict[str, object]] = {
        "a.webp": {"quality": 50, "method": 0},
        "b.webp": {"lossless": True, "quality": 0, "method": 0},
        "c.avif": {"quality": 50, "speed": 10},
        "d.jpg": {"progressive": True, "subsampling": 0},
    }
    refs = []
    for name, options in kinds.items():
        image.save(tmp_path / name, **options)
        refs.append(ImageRef(tmp_path / name))
    with closing_decoders(Limits(1, memory_mb=memory_mb)) as pool:
        for result in decoded(pool, refs):
            assert isinstance(result, Failed)
            assert (result.reason, result.facts.width) == ("too_large", 4000)
            assert f"within {memory_mb} MB; a higher --memory-limit" in result.detail
    with closing_decoders(Limits(1, memory_mb=512)) as pool:
        assert all(isinstance(result, Squares) for result in decoded(pool, refs))


@linux_only
def test_what_is_damaged_is_not_taken_for_too_large(tmp_path: Path) -> None:
    data = bytearray(encoded(gradient((800, 600)), "WEBP", lossless=True))
    data[40:400] = bytes(360)
    (tmp_path / "a.webp").write_bytes(data)
    with closing_decoders(Limits(1, memory_mb=64)) as pool:
        (failed,) = decoded(pool, [ImageRef(tmp_path / "a.webp")])
    assert isinstance(failed, Failed)
    assert failed.reason == "unreadable"


@linux_only
def test_memory_that_decoders_lose_is_not_charged_to_the_next_file(tmp_path: Path) -> None:
    """150 MB lost a file would reach the limit of 512 at the fourth, were it not replaced."""
    names = [f"lose-{i}" for i in range(7)]
    assert told(tmp_path, names, Limits(1, memory_mb=512)) == good(*names)


def test_what_a_decoder_raises_is_its_files_row(tmp_path: Path) -> None:
    ref = save_grey(tmp_path / "raise.png", 0)
    with closing_decoders(Limits(1)) as pool:
        (failed,) = decoded(pool, [ref])
    assert isinstance(failed, Failed)
    assert failed.reason == "crashed"
    assert failed.detail == "its decoding failed: ZeroDivisionError: a defect of the decoder"


def test_the_row_says_how_it_ended_and_what_can_be_done(tmp_path: Path) -> None:
    refs = [save_grey(tmp_path / f"{how}.png", 0) for how in ("segfault", "killed", "hang")]
    with closing_decoders(Limits(3, timeout_s=0.5)) as pool:
        details = [r.detail for r in decoded(pool, refs) if isinstance(r, Failed)]
    assert details == [
        "its decoding ended the process: SIGSEGV",
        "its decoding ended the process: SIGKILL, as when the system runs out of memory; "
        "try fewer --workers",
        "it was not decoded within 0.5 s; --timeout allows more",
    ]


def test_more_pixels_are_refused_and_allowed_by_the_limit(tmp_path: Path) -> None:
    ref = save_grey(tmp_path / "a.png", 0, (100, 90))
    with closing_decoders(Limits(1, decode=DecodeLimits(max_pixels=8_000))) as pool:
        (failed,) = decoded(pool, [ref])
    assert isinstance(failed, Failed)
    assert failed.reason == "too_large"
    assert "limit of 8,000" in failed.detail
    assert "--max-pixels" in failed.detail
    with closing_decoders(Limits(1, decode=DecodeLimits(max_pixels=9_000))) as pool:
        assert isinstance(decoded(pool, [ref])[0], Squares)


def test_squares_travel_as_bytes(tmp_path: Path) -> None:
    ref = save_grey(tmp_path / "a.png", 200)
    with closing_decoders(Limits(1)) as pool:
        (squares,) = decoded(pool, [ref])
    assert isinstance(squares, Squares)
    assert squares.squares.dtype == "uint8"
    assert squares.squares.shape == (2, 32, 32, 3)
    assert (squares.ref, squares.facts.width) == (ref, 40)


# --- processes that cannot be had, or do not answer ---


def test_workers_that_cannot_start_end_the_scan_with_a_line(tmp_path: Path) -> None:
    refs = [save_grey(tmp_path / f"{i}.png", 0) for i in range(5)]
    results = scan(
        refs,
        BrightnessScorer(),
        point=HALF,
        batch_size=4,
        limits=Limits(2),
        decode=Unloadable(),  # type: ignore[arg-type]
    )
    start = time.monotonic()
    with pytest.raises(ImgscanError, match="processes that decode ended or stalled"):
        list(results)
    assert time.monotonic() - start < 30


class Unloadable:
    """Pickles well, and ends the process that unpickles it."""

    def __reduce__(self) -> tuple[object, tuple[int]]:
        return os._exit, (1,)


def test_idle_workers_that_are_killed_are_replaced(tmp_path: Path) -> None:
    refs = [save_grey(tmp_path / f"{i}.png", 0) for i in range(3)]
    with closing_decoders(Limits(2)) as pool:
        for _ in range(3):
            assert isinstance(decoded(pool, refs)[2], Squares)
            for worker in worker_processes():
                worker.kill()
            time.sleep(0.3)


def test_a_pool_that_does_not_answer_is_replaced_and_its_files_have_timed_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a worker waits for a dead disk, and not even a kill ends it."""
    refs = [save_grey(tmp_path / f"{name}.png", 0) for name in ("a", "hang", "b")]
    monkeypatch.setattr(decoders, "_GRACE_S", -0.3)  # sooner than pebble's own time limit
    with closing_decoders(Limits(1, timeout_s=1.5)) as pool:
        results = decoded(pool, refs)
    reasons = [r.reason if isinstance(r, Failed) else "" for r in results]
    assert reasons == ["", "timeout", ""]


# --- nothing is left behind ---


def test_no_process_outlives_the_scan(tmp_path: Path) -> None:
    refs = [save_grey(tmp_path / f"{i}.png", 0) for i in range(4)]
    results = scan(refs, BrightnessScorer(), point=HALF, batch_size=4, limits=Limits(2))
    assert len(list(results)) == 4
    assert worker_processes() == []


def test_closing_ends_workers_whatever_they_are_at(tmp_path: Path) -> None:
    refs = [save_grey(tmp_path / f"{name}.png", 0) for name in ("a", "deaf-1", "deaf-2", "b")]
    results = scan(
        refs, BrightnessScorer(), point=HALF, batch_size=1, limits=Limits(2), decode=hostile.decode
    )
    with closing_decoders(Limits(2)) as pool:
        pool.submit([(0, refs[1])])
        pool.submit([(1, refs[2])])
        until(lambda: len(worker_processes()) == 2)
        time.sleep(0.3)
        start = time.monotonic()
    assert time.monotonic() - start < 2
    until(lambda: worker_processes() == [], seconds=2)
    results.close()  # never begun: nothing to end


_SCAN = """
import sys
from pathlib import Path
import hostile
from fakes import HALF, BrightnessScorer
from scanner.find import find_images
from scanner.limits import Limits
from scanner.scan import scan

refs = find_images([Path(sys.argv[1])])
list(scan(refs, BrightnessScorer(), point=HALF, batch_size=1, limits=Limits(2),
          decode=hostile.stuck))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_scan_that_is_killed_leaves_no_orphans(tmp_path: Path, number: signal.Signals) -> None:
    """Though its workers are deep in a library that lets no Python run."""
    for i in range(2):
        save_grey(tmp_path / f"{i}.png", 0)
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests/scanner")])
    process = subprocess.Popen(
        [sys.executable, "-c", _SCAN, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": path},
        stderr=subprocess.DEVNULL,
    )
    pids = [tmp_path / f"{i}.png.pid" for i in range(2)]
    until(lambda: all(pid.exists() and pid.read_text() for pid in pids))
    children = [psutil.Process(int(pid.read_text())) for pid in pids]
    process.send_signal(number)
    process.wait(10)
    assert all_gone(children, seconds=2)


_SHORT = """
import sys
from pathlib import Path
from fakes import HALF, BrightnessScorer
from scanner.limits import Limits
from scanner.scan import scan
from scanner.types import ImageRef

list(scan([ImageRef(Path(sys.argv[1]))], BrightnessScorer(), point=HALF, batch_size=1,
          limits=Limits(12)))
"""


def test_a_scan_that_is_over_before_all_workers_are_up_says_nothing_of_it(tmp_path: Path) -> None:
    save_grey(tmp_path / "a.png", 0)
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests/scanner")])
    done = subprocess.run(
        [sys.executable, "-c", _SHORT, str(tmp_path / "a.png")],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")


# --- what the limits are by themselves ---


@pytest.mark.parametrize("wrong", [{"workers": 0}, {"timeout_s": 0}, {"memory_mb": 0}])
def test_limits_that_make_no_sense_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Limits(**({"workers": 1} | wrong))  # type: ignore[arg-type]


def test_by_default_all_workers_fit_into_the_machine_beside_the_model() -> None:
    physical = psutil.virtual_memory().total // 2**20
    available = memory_for_workers_mb()
    assert available is not None
    assert 0 < available <= physical * 4 // 5 + 1
    for count in (1, 2, 8, 1000):
        assert default_memory_mb(count) == max(512, min(4096, available // count))


def test_as_many_decode_a_large_picture_at_a_time_as_have_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "memory_for_workers_mb", lambda: 3000)
    assert large_at_a_time(Limits(8, memory_mb=1000)) == 3
    assert large_at_a_time(Limits(2, memory_mb=1000)) == 2
    assert large_at_a_time(Limits(8, memory_mb=4000)) == 1
    assert large_at_a_time(Limits(8)) == 1


@pytest.mark.parametrize(
    ("groups", "files", "found"),
    [
        ("0::/a/b", {"a/b/memory.max": "max", "a/memory.max": "3000", "memory.max": "5000"}, 3000),
        ("0::/of/the/host", {"memory.max": "2000"}, 2000),
        ("4:memory:/a\n0::/", {"memory/a/memory.limit_in_bytes": "4000"}, 4000),
        ("4:cpu,memory:/a", {"memory/memory.limit_in_bytes": "6000"}, 6000),
        ("0::/", {"memory.max": "max"}, None),
        ("0::/../x", {}, None),
    ],
)
def test_the_limit_of_a_container_counts(
    tmp_path: Path, groups: str, files: dict[str, str], found: int | None
) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(f"{groups}\n")
    for name, text in files.items():
        path = tmp_path / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    assert min(cgroup_limits(tmp_path), default=None) == found


def test_a_system_without_control_groups_has_no_such_limit(tmp_path: Path) -> None:
    assert cgroup_limits(tmp_path) == []


def test_workers_take_turns_over_large_pictures_by_one_file_that_goes_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "memory_for_workers_mb", lambda: 1000)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    pool = Decoders(Setup(SPEC, Limits(3, memory_mb=1000), None, hostile.decode))
    (turns,) = tmp_path.glob("imgscan-turns-*")
    mine = Turns()
    mine.share(turns, 1, 60.0)
    large = save_grey(tmp_path / "a.png", 0, (8000, 5001))
    with mine:
        pool.submit([(0, large)])
        time.sleep(2.0)
        assert pool.take() == []
    done: list[tuple[int, Decoded]] = []
    until(lambda: done.extend(pool.take()) or done)
    assert isinstance(done[0][1], Squares)
    pool.close()
    assert not turns.exists()


# --- helpers ---


class closing_decoders:  # noqa: N801 - used like contextlib.closing
    def __init__(self, limits: Limits) -> None:
        self._pool = Decoders(Setup(SPEC, limits, None, hostile.decode))

    def __enter__(self) -> Decoders:
        return self._pool

    def __exit__(self, *error: object) -> None:
        self._pool.close()


def decoded(pool: Decoders, refs: list[ImageRef]) -> list[Decoded]:
    """One job of these files, in their order."""
    pool.submit(list(enumerate(refs)))
    done: dict[int, Decoded] = {}
    until(lambda: done.update(pool.take()) or len(done) == len(refs), seconds=60)
    return [done[place] for place in range(len(refs))]


def worker_processes() -> list[psutil.Process]:
    """Of this process's pools: what the fork server has started and is still there."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            parents = [p for p in process.parents() if "forkserver" in " ".join(p.cmdline())]
            if parents and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def until(condition: object, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.02)
