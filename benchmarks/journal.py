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
from pathlib import Path

from scanner.journal import Journal, Pipeline
from scanner.types import FileFacts, ImageRef, Scored

PIPELINE = Pipeline("bench", "0123456789ab", "aaaaaaaaaaaa", "bbbbbbbbbbbb")
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
                contents.find(f"{n:064x}")
            _say("contents found", files // 10, start)


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
