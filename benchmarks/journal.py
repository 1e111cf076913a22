"""How fast the journal recalls, keeps and pages.

    python -m benchmarks.journal [FILES]

Makes FILES (100,000) empty-looking files in folders of 500 under a temporary folder, and prints
rates and times, and how the process's memory and open files grew.
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import get_args

from scanner.journal import Journal, Pipeline, Query, Sort
from scanner.journal.pages import SortColumn
from scanner.types import FileFacts, ImageRef, Scored
from scanner.verdict import OperatingPoint, judge

PIPELINE = Pipeline("bench", "0123456789ab", "aaaaaaaaaaaa", "bbbbbbbbbbbb")
POINT = OperatingPoint("half", 0.5)
CHUNK = 500
LONG_AGO_NS = 1_600_000_000_000_000_000


def main() -> None:
    """Print the figures."""
    files = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        refs = [_made(root / f"{n // 500:04}" / f"IMG_{n:07}.jpg") for n in range(files)]
        results = [_scored(ref, n) for n, ref in enumerate(refs)]
        chunks = range(0, files, CHUNK)
        with Journal(root / "journal.sqlite") as journal:
            memory = journal.memory(PIPELINE)
            start = time.perf_counter()
            for at in chunks:
                memory.keep(results[at : at + CHUNK])
            _say("kept", files, start)
        size = (root / "journal.sqlite").stat().st_size
        print(f"{'journal':>24}  {size / files:10.0f} bytes a file")
        with Journal(root / "journal.sqlite") as journal:
            memory = journal.memory(PIPELINE)
            before = _memory_and_files()
            start = time.perf_counter()
            for at in chunks:
                memory.recall(refs[at : at + CHUNK])
            _say("recalled, with stat", files, start)
            assert memory.known == files
            start = time.perf_counter()
            for ref in refs:
                os.stat(ref.path)  # noqa: PTH116 - what recall() does
            _say("stat alone", files, start)
            after = _memory_and_files()
            print(
                f"{'grown by':>24}  {(after[0] - before[0]) / 1024:10.1f} MiB, "
                f"{after[1] - before[1]} open files"
            )
            contents = memory.contents
            start = time.perf_counter()
            for n in range(0, files, 10):
                contents.find(f"{n:064x}", "PNG")
            _say("contents found", files // 10, start)
            _lists(journal, root, results)


def _lists(journal: Journal, root: Path, results: list[Scored]) -> None:
    """Record a scan of `results`, and page through it."""
    recorder = journal.record(PIPELINE, [root], POINT)
    start = time.perf_counter()
    for n, result in enumerate(results):
        facts = replace(result.facts, bytes=n * 7919 % 1_000_003)
        recorder.add(judge(result.ref, facts, result.p_fake, POINT))
    recorder.finish()
    _say("listed", len(results), start)
    for n in range(0, len(results), 100):
        journal.reviews.set(results[n].ref, f"{n:064x}", "fake", reviewer="bench")
    print("\nmilliseconds for a page of 100: the slowest of the first, the middle and the last one")
    filters = {
        "all": Query(),
        "suspects": Query(verdict="fake"),
        "p over 0.999": Query(p_min=0.999),
        "unreviewed": Query(review="unreviewed"),
        "one folder": Query(folder=root / "0001"),
        "rare text": Query(text="0099999"),
    }
    print(f"{'':>24}" + "".join(f"{name:>14}" for name in filters))
    for column in get_args(SortColumn):
        for descending in (False, True):
            cells = []
            for query in filters.values():
                count = journal.pages.count(recorder.id, query)
                slowest = 0.0
                for offset in (0, count // 2, max(0, count - 100)):
                    best = float("inf")
                    for _ in range(3):
                        start = time.perf_counter()
                        page = journal.pages.page(
                            recorder.id, query, Sort(column, descending), offset=offset
                        )
                        best = min(best, time.perf_counter() - start)
                    assert len(page) == min(100, count - offset)
                    slowest = max(slowest, best)
                cells.append(f"{slowest * 1000:14.1f}")
            print(f"{column + (' descending' if descending else ''):>24}" + "".join(cells))
    for name, query in filters.items():
        start = time.perf_counter()
        journal.pages.count(recorder.id, query)
        print(f"{'count of ' + name:>24}{(time.perf_counter() - start) * 1000:14.1f}")
    start = time.perf_counter()
    journal.pages.folders(recorder.id)
    print(f"{'folders':>24}{(time.perf_counter() - start) * 1000:14.1f}")


def _made(path: Path) -> ImageRef:
    path.parent.mkdir(exist_ok=True)
    path.touch()
    os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS))
    return ImageRef(path)


def _scored(ref: ImageRef, n: int) -> Scored:
    facts = FileFacts(4000, 3000, "JPEG", 0, f"{n:064x}", LONG_AGO_NS)
    return Scored(ref, (n * 7919 % 10_007) / 10_007, facts)


def _say(what: str, files: int, start: float) -> None:
    seconds = time.perf_counter() - start
    print(f"{what:>24}  {files / seconds:10,.0f} a second")


def _memory_and_files() -> tuple[int, int]:
    """Peak resident KiB, and descriptors."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak, len(os.listdir("/proc/self/fd"))  # noqa: PTH208


if __name__ == "__main__":
    main()
