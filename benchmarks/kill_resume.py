"""Kill a scan outright at random moments, resume it, and compare the reports.

    python -m benchmarks.kill_resume [--files 2000] [--kills 100] [--seed 0] [--model FOLDER]

Of a scan that nothing disturbs it is measured how long it is from the first result in its journal
to the last. Then, each time anew: a scan with an empty journal is killed (SIGKILL) at a moment
drawn evenly from that span, counted from its own first result, every other time with all of its
processes and every other time the scanning one alone; and the same command is run to its end. Its
report must be, byte for byte, that of a scan that was never killed and kept no journal, and all
that was in the journal must have been recalled. Exits with 1 if not, or if fewer than a third of
the kills came midway: when some files were in the journal and others not.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from scanner.journal import Journal

ROOT = Path(__file__).parents[1]
LONG_AGO_S = 1_600_000_000
_TICK_S = 0.005


@dataclass(frozen=True)
class Kill:
    """What became of one: seconds from the first result until it, files in the journal then,
    files recalled after. `alone`: the worker processes were not killed with it."""

    seconds: float
    alone: bool
    kept: int
    recalled: int
    equal: bool

    def midway(self, files: int) -> bool:
        """Whether some of the `files` were in the journal, and others not."""
        return 0 < self.kept < files


def make_pictures(folder: Path, files: int, seed: int) -> None:
    """Small JPEG and PNG files, each with its own content, in folders of 100; some are damaged."""
    rng = np.random.default_rng(seed)
    for n in range(files):
        path = folder / f"{n // 100:03}" / f"{n:05}.{'png' if n % 5 == 0 else 'jpg'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((96, 72), Image.Resampling.BICUBIC).save(path)
        if n % 40 == 7:
            path.write_bytes(path.read_bytes()[:200])
        elif n % 40 == 17:
            path.write_bytes(b"no picture")
        # A file changed just now is not believed by its time.
        os.utime(path, (LONG_AGO_S, LONG_AGO_S))


def command(pictures: Path, report: Path, journal: Path | None, model: Path | None) -> list[str]:
    """The scan, with the journal or with none."""
    return [
        *(sys.executable, "-m", "scanner", str(pictures), "--quiet", "--exit-zero"),
        *("--report", str(report), "--device", "cpu"),
        *(("--no-journal",) if journal is None else ("--journal", str(journal))),
        *(() if model is None else ("--model", str(model))),
    ]


def whole_scan(pictures: Path, work: Path, model: Path | None) -> tuple[bytes, float]:
    """The report of a scan that nothing disturbs and that keeps no journal.

    And the seconds from the first result to the last in the journal of another.
    """
    report, journal = work / "whole.csv", work / "whole.sqlite"
    subprocess.run(command(pictures, report, None, model), cwd=ROOT, check=True)
    expected = report.read_bytes()
    with subprocess.Popen(command(pictures, report, journal, model), cwd=ROOT) as process:
        wait_for_first(process, journal)
        first = last = time.perf_counter()
        most = 0
        while process.poll() is None:
            count = kept_in(journal)
            if count > most:
                most, last = count, time.perf_counter()
            time.sleep(_TICK_S)
    if process.returncode:
        raise RuntimeError(f"the undisturbed scan ended with status {process.returncode}")
    return expected, last - first


def kept_in(journal: Path) -> int:
    """Results in the journal, which may be in the making."""
    try:
        with closing(sqlite3.connect(f"{journal.absolute().as_uri()}?mode=ro", uri=True)) as opened:
            return int(opened.execute("SELECT count(*) FROM results").fetchone()[0])
    except sqlite3.OperationalError:  # neither file nor table yet
        return 0


def wait_for_first(process: subprocess.Popen[bytes], journal: Path) -> None:
    """Until there is a result in the journal, or the scan has ended."""
    while process.poll() is None and not kept_in(journal):
        time.sleep(_TICK_S)


def kill_and_resume(
    pictures: Path,
    work: Path,
    model: Path | None,
    seconds: float,
    expected: bytes,
    *,
    alone: bool = False,
) -> Kill:
    """Kill a scan `seconds` after its first result, and run it again to its end."""
    work.mkdir()
    journal, report = work / "journal.sqlite", work / "report.csv"
    scan = command(pictures, report, journal, model)
    with subprocess.Popen(scan, cwd=ROOT, start_new_session=True) as process:
        wait_for_first(process, journal)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            if alone:
                process.kill()
            else:  # with its workers: all of it is gone at once, as when the system goes down
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    kept = kept_in(journal)
    report.unlink(missing_ok=True)  # of a scan that was quicker than its kill
    subprocess.run(scan, cwd=ROOT, check=True)
    with Journal(journal) as opened:
        recalled = opened.scans()[0].known
    return Kill(seconds, alone, kept, recalled, report.read_bytes() == expected)


def main() -> int:
    """Print what each kill came to."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", type=Path)
    asked = parser.parse_args()
    rng = random.Random(asked.seed)
    with tempfile.TemporaryDirectory() as temporary:
        pictures = Path(temporary) / "pictures"
        make_pictures(pictures, asked.files, asked.seed)
        expected, seconds = whole_scan(pictures, Path(temporary), asked.model)
        print(f"{asked.files} files, {seconds:.1f} s from first to last result", flush=True)
        kills = []
        for n in range(asked.kills):
            work = Path(temporary) / str(n)
            moment = rng.uniform(0, seconds)
            kills.append(
                kill_and_resume(pictures, work, asked.model, moment, expected, alone=n % 2 == 1)
            )
            shutil.rmtree(work)
            print(n, kills[-1], flush=True)
    equal = sum(kill.equal for kill in kills)
    midway = sum(kill.midway(asked.files) for kill in kills)
    lost = sum(kill.recalled < kill.kept for kill in kills)
    print(
        f"{equal} of {len(kills)} reports are equal; {midway} kills came midway, "
        f"{lost} resumed scans recalled fewer files than had been kept"
    )
    return 0 if equal == len(kills) and not lost and 3 * midway >= len(kills) else 1


if __name__ == "__main__":
    sys.exit(main())
