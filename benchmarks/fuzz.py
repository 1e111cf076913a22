"""Damage valid files of every format and decode them: a result for each, no crash, no hang.

    python -m benchmarks.fuzz --files 20000 --save offenders

Seeded: file number N is the same on every machine with the same Pillow. Each is decoded by
`scanner.images.decode()` in a process of its own limits (time, address space), as a scan does. An
offender is a file that ends its process, exceeds its time, raises, or gives a reason that is not on
the closed list. Exits with 1 if there are any.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
import warnings
from collections import Counter
from concurrent.futures import TimeoutError as TimedOut
from multiprocessing import get_context
from pathlib import Path
from typing import get_args

import click
from pebble import ProcessExpired, ProcessPool

from benchmarks.seeds import seeds
from scanner.preprocess import PreprocessSpec
from scanner.types import Failed, ImageRef, Reason

_SPEC = PreprocessSpec(size=32)
_REASONS = frozenset(get_args(Reason))
_seeds: list[tuple[str, bytes]] = []
_folder = ""


def damaged(number: int, run: int) -> tuple[str, bytes]:
    """The format of the file that was damaged, and what became of it."""
    rng = random.Random(f"{run}/{number}")
    kind, content = _seeds[number % len(_seeds)]
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        if data:
            rng.choice(_DAMAGES)(rng, data)
    return kind, bytes(data)


def _cut(rng: random.Random, data: bytearray) -> None:
    del data[rng.randrange(len(data)) :]


def _flip(rng: random.Random, data: bytearray) -> None:
    near = min(len(data), rng.choice((32, 256, len(data))))  # headers matter more than pixels
    for _ in range(rng.choice((1, 3, 30))):
        data[rng.randrange(near)] ^= 1 << rng.randrange(8)


def _duplicate(rng: random.Random, data: bytearray) -> None:
    start = rng.randrange(len(data))
    piece = data[start : start + rng.choice((4, 12, 64, 1024))]
    at = rng.randrange(len(data))
    data[at:at] = piece * rng.choice((1, 1, 8))


def _length(rng: random.Random, data: bytearray) -> None:
    """Where a length or count may stand: numbers that are too large, too small, or just off."""
    size = rng.choice((2, 4, 4, 8))
    at = rng.randrange(max(1, min(len(data), rng.choice((64, 512, len(data)))) - size))
    order = rng.choice(("big", "little"))
    was = int.from_bytes(data[at : at + size], order)
    top = 1 << (8 * size)
    new = rng.choice((0, 1, top - 1, top // 2, top // 2 - 1, was + 1, was - 1, was * 2, len(data)))
    data[at : at + size] = (new % top).to_bytes(size, order)


def _splice(rng: random.Random, data: bytearray) -> None:
    other = rng.choice(_seeds)[1]
    start = rng.randrange(len(other))
    at = rng.randrange(len(data))
    data[at : at + rng.choice((0, 16, 999))] = other[start : start + rng.choice((16, 999, 1 << 16))]


_DAMAGES = (_cut, _flip, _flip, _duplicate, _length, _length, _splice)


def _start(memory_mb: int, folder: str, found: list[tuple[str, bytes]]) -> None:
    global _seeds, _folder
    _seeds, _folder = found, folder
    warnings.simplefilter("ignore")
    null = os.open(os.devnull, os.O_WRONLY)  # the C libraries' remarks
    os.dup2(null, 2)
    import scanner.images  # noqa: F401 - before the limit, which is on what comes on top

    if sys.platform == "linux":
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + memory_mb * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _decode(job: tuple[int, int]) -> tuple[str, str]:
    """(format, outcome)."""
    from scanner.images import decode
    from scanner.preprocess import prepare

    number, run = job
    kind, data = damaged(number, run)
    path = Path(_folder) / f"{os.getpid()}.bin"
    path.write_bytes(data)
    result = decode(ImageRef(path), _SPEC)
    if isinstance(result, Failed):
        if result.reason not in _REASONS or not result.detail.isprintable():
            return kind, f"BAD {result!r}"
        return kind, result.reason
    prepare(result.rgb, _SPEC, result.box)
    return kind, "scored in part" if "truncated" in result.facts.notes else "scored"


@click.command()
@click.option("--files", default=20_000, show_default=True, type=click.IntRange(min=1))
@click.option("--first", default=0, help="Number of the first file.", type=click.IntRange(min=0))
@click.option("--run", default=0, show_default=True, help="Another number, other files.")
@click.option("--workers", default=os.cpu_count() or 1, type=click.IntRange(min=1))
@click.option("--timeout", default=20.0, show_default=True, help="Seconds for each file.")
@click.option("--memory", default=1024, show_default=True, help="MiB for each process.")
@click.option("--save", type=click.Path(path_type=Path), help="A folder for the offenders.")
def main(
    files: int, first: int, run: int, workers: int, timeout: float, memory: int, save: Path | None
) -> None:
    """Print format x outcome, and each offender's number."""
    global _seeds
    _seeds = seeds()
    began = time.monotonic()
    jobs = [(number, run) for number in range(first, first + files)]
    table: Counter[tuple[str, str]] = Counter()
    offenders: list[tuple[int, str]] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPool(
            workers,
            context=get_context("spawn"),
            initializer=_start,
            initargs=(memory, folder, _seeds),
        ) as pool,
    ):
        results = pool.map(_decode, jobs, timeout=timeout).result()
        for number, _ in jobs:
            kind = _seeds[number % len(_seeds)][0]
            try:
                kind, outcome = next(results)
            except TimedOut:
                outcome = "TIMEOUT"
            except ProcessExpired as error:
                outcome = f"CRASH {error.exitcode}"
            except Exception as error:  # noqa: BLE001 - whatever it is, it is what is looked for
                outcome = f"RAISED {type(error).__name__}"
            if outcome.split()[0].isupper():
                offenders.append((number, outcome))
                outcome = outcome.split()[0]
            table[kind, outcome] += 1
    _print(table)
    print(f"{files} files in {time.monotonic() - began:.0f} s, {len(offenders)} offenders")
    for number, outcome in offenders:
        kind, data = damaged(number, run)
        print(f"  {number} {kind} {outcome}")
        if save is not None:
            save.mkdir(parents=True, exist_ok=True)
            (save / f"{run}-{number}.{kind.lower()}").write_bytes(data)
    sys.exit(bool(offenders))


def _print(table: Counter[tuple[str, str]]) -> None:
    outcomes = sorted({outcome for _, outcome in table})
    rows = [("", *outcomes)]
    for kind in sorted({kind for kind, _ in table}):
        rows.append((kind, *(str(table[kind, outcome] or "-") for outcome in outcomes)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))


if __name__ == "__main__":
    main()
