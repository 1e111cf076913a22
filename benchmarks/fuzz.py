"""Damage valid files of every format and decode them: a result for each, no crash, no hang.

    python -m benchmarks.fuzz --files 20000 --save offenders

Seeded: file number N is the same on every machine with the same Pillow. The files go through
`scanner.scan.scan()` with its worker processes and their limits. An offender is a file that ended
its worker or exceeded its time (for a scan a failed row, here worth a look), or whose reason is not
on the closed list. Exits with 1 if there are any, or a file without a result.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import click
import numpy as np
import numpy.typing as npt

from benchmarks.seeds import seeds
from scanner.limits import Limits
from scanner.preprocess import PreprocessSpec
from scanner.scan import scan
from scanner.types import Failed, ImageRef, Reason, Verdict
from scanner.verdict import OperatingPoint

_SPEC = PreprocessSpec(size=32)
_REASONS = frozenset(get_args(Reason))
_SEEDS = seeds()


def damaged(number: int, run: int) -> tuple[str, bytes]:
    """The format of the file that was damaged, and what became of it."""
    rng = random.Random(f"{run}/{number}")
    kind, content = _SEEDS[number % len(_SEEDS)]
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
    order: Literal["big", "little"] = rng.choice(("big", "little"))
    was = int.from_bytes(data[at : at + size], order)
    top = 1 << (8 * size)
    new = rng.choice((0, 1, top - 1, top // 2, top // 2 - 1, was + 1, was - 1, was * 2, len(data)))
    data[at : at + size] = (new % top).to_bytes(size, order)


def _splice(rng: random.Random, data: bytearray) -> None:
    other = rng.choice(_SEEDS)[1]
    start = rng.randrange(len(other))
    at = rng.randrange(len(data))
    data[at : at + rng.choice((0, 16, 999))] = other[start : start + rng.choice((16, 999, 1 << 16))]


_DAMAGES = (_cut, _flip, _flip, _duplicate, _length, _length, _splice)


@dataclass(frozen=True)
class _Bundle:
    spec: PreprocessSpec = _SPEC


class _Scorer:
    """Fast, and of no importance: what is looked at is what comes before it."""

    bundle = _Bundle()
    streams = 1

    def score(self, batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        return batch.astype(np.float64).mean(axis=(1, 2, 3, 4)).clip(0, 1)


def _outcome(result: Verdict | Failed) -> str:
    if isinstance(result, Failed):
        good = result.reason in _REASONS and result.detail.isprintable()
        return result.reason if good else "BAD"
    return "scored in part" if "truncated" in result.facts.notes else "scored"


@click.command()
@click.option("--files", default=20_000, show_default=True, type=click.IntRange(min=1))
@click.option("--first", default=0, help="Number of the first file.", type=click.IntRange(min=0))
@click.option("--run", default=0, show_default=True, help="Another number, other files.")
@click.option("--workers", default=os.cpu_count() or 1, type=click.IntRange(min=1))
@click.option("--timeout", default=20.0, show_default=True, help="Seconds for each file.")
@click.option("--memory", default=1024, show_default=True, help="MiB for each file.")
@click.option("--save", type=click.Path(path_type=Path), help="A folder for the offenders.")
def main(
    files: int, first: int, run: int, workers: int, timeout: float, memory: int, save: Path | None
) -> None:
    """Print format x outcome, and each offender's number."""
    table: Counter[tuple[str, str]] = Counter()
    offenders: list[tuple[int, str]] = []
    began = time.monotonic()
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)  # the C libraries' remarks
    with tempfile.TemporaryDirectory() as folder:

        def refs() -> Iterator[ImageRef]:
            for number in range(first, first + files):
                path = Path(folder) / f"{number}.bin"
                path.write_bytes(damaged(number, run)[1])
                yield ImageRef(path)

        limits = Limits(workers, timeout_s=timeout, memory_mb=memory)
        point = OperatingPoint("half", 0.5)
        results = scan(refs(), _Scorer(), point=point, batch_size=16, limits=limits)
        with closing(results):
            for result in results:
                number = int(result.ref.path.stem)
                result.ref.path.unlink()
                outcome = _outcome(result)
                table[_SEEDS[number % len(_SEEDS)][0], outcome] += 1
                if outcome in ("BAD", "crashed", "timeout"):
                    offenders.append((number, outcome))
    without = files - table.total()
    _print(table)
    seconds = time.monotonic() - began
    print(
        f"{files} files in {seconds:.0f} s, {len(offenders)} offenders, {without} without a result"
    )
    for number, outcome in offenders:
        kind, data = damaged(number, run)
        print(f"  {number} {kind} {outcome}")
        if save is not None:
            save.mkdir(parents=True, exist_ok=True)
            (save / f"{run}-{number}.{kind.lower()}").write_bytes(data)
    sys.exit(bool(offenders or without))


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
