"""How soon the triage screen answers a key, with a list of 100,000 files.

    python -m benchmarks.tui [FILES] [--cpu]

Fills a journal under a temporary folder with a scan of FILES made-up files in folders of 500,
opens the screen on it in a terminal of 160x50 (a pty), and presses keys as a person would. For
each it prints the median and the longest time from the press to the end of what the screen then
writes; the longest with the picture's panel, which follows when the cursor has rested; and the
processor's time per press, panel and all. Exits with 1 if a median is over 50 ms; with --cpu, if
the processor's time is (for a machine that is busy with other things). Not for Windows.

The panel's part is what comes after the time that the panel waits for, and after a silence. All
that comes before that time is the answer, and so is all that follows it without a silence.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import random
import select
import statistics
import struct
import sys
import tempfile
import termios
import time
from pathlib import Path

from scanner.journal import Journal, Pipeline
from scanner.tui.screens.triage import REST_SECONDS
from scanner.types import FileFacts, ImageRef
from scanner.verdict import OperatingPoint, judge

LIMIT_MS = 50.0
PIPELINE = Pipeline("bench", "0123456789ab", "aaaaaaaaaaaa", "bbbbbbbbbbbb")
POINT = OperatingPoint("youden", 0.6)
# What is pressed, by name, and how many rounds of it.
ROUNDS: tuple[tuple[str, tuple[str, ...], int], ...] = (
    ("down", ("\x1b[B",), 40),
    ("page down", ("\x1b[6~",), 20),
    ("end, home", ("\x1b[F", "\x1b[H"), 10),
    ("decide", ("f", "r", "u", "s"), 10),
    ("undo", ("\x1a",), 20),
    ("redo", ("\x19",), 20),
    ("next undecided", ("n",), 20),
    ("most doubtful", ("d", "s"), 10),
    ("select", (" ",), 20),
    ("clear selection", ("\x1b",), 1),
    ("select all, none", ("\x01",), 10),
    ("select all, clear", ("\x01", "\x1b"), 10),
    ("sort by p", ("1",), 6),
    ("sort by verdict", ("2",), 6),
    ("sort by folder", ("4",), 6),
    ("sort by size", ("5",), 6),
    ("sort by review", ("6",), 6),
    ("sort by doubt", ("7",), 6),
    ("sort by name", ("3",), 6),
    ("folders", ("g",), 6),
    ("help, close", ("?", "\x1b"), 5),
    ("note, close", ("e", "\x1b"), 5),
)
# The screen has answered when it has written nothing for this long.
_QUIET_SECONDS = 0.08
_SETTLED_SECONDS = 0.15
# What comes after such a silence, and no sooner than the panel may, is the panel's: two frames.
_SILENCE_SECONDS = 0.035


def made_up_journal(path: Path, files: int) -> None:
    """A journal with one finished scan of `files` files; the same for the same number."""
    dice = random.Random(0)
    with Journal(path) as journal:
        recorder = journal.record(PIPELINE, [Path("/pictures")], POINT)
        for n in range(files):
            ref = ImageRef(Path(f"/pictures/{n // 500:04}/IMG_{dice.randrange(10**7):07}.jpg"))
            facts = FileFacts(4000, 3000, "JPEG", dice.randrange(10**7), f"{n:064x}")
            recorder.add(judge(ref, facts, dice.betavariate(0.5, 0.5), POINT))
        recorder.finish()


class Terminal:
    """The triage screen in a process of its own, behind a pty."""

    def __init__(self, journal: Path) -> None:
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            os.environ.update(TERM="xterm-256color", COLORTERM="truecolor")
            args = ["-m", "scanner", "--tui", "--journal", str(journal)]
            os.execv(sys.executable, [sys.executable, *args])
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 160, 0, 0))

    def press(self, keys: str) -> None:
        """Type."""
        os.write(self._fd, keys.encode())

    def wait(self, first_seconds: float) -> bytes:
        """All that it writes, until it has been quiet for a while."""
        answer, patience = b"", first_seconds
        while select.select([self._fd], [], [], patience)[0]:
            try:
                answer += os.read(self._fd, 1 << 16)
            except OSError:  # it has ended
                break
            patience = _QUIET_SECONDS
        return answer

    def answer(self, keys: str) -> tuple[float, float]:
        """Type; seconds until the end of the answer, and until the end of the panel's too."""
        while select.select([self._fd], [], [], _SETTLED_SECONDS)[0]:
            os.read(self._fd, 1 << 16)
        start = time.perf_counter()
        self.press(keys)
        last, answered, patience = 0.0, None, 1.0
        while select.select([self._fd], [], [], patience)[0]:
            os.read(self._fd, 1 << 16)
            now = time.perf_counter() - start
            panel = now > REST_SECONDS and last > 0.0 and now - last > _SILENCE_SECONDS
            if answered is None and panel:
                answered = last
            last, patience = now, _SETTLED_SECONDS
        return last if answered is None else answered, last

    def cpu_seconds(self) -> float:
        """What the process has used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        """Quit as a person does."""
        self.press("q")
        self.wait(1.0)
        os.close(self._fd)
        os.waitpid(self.pid, 0)


def main() -> int:
    """Print the table; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tui",
        description="How soon the triage screen answers a key.",
        epilog="Exits with 1 if a median is over 50 ms.",
    )
    parser.add_argument(
        "files", nargs="?", type=int, default=100_000, help="files in the list (100,000)"
    )
    parser.add_argument(
        "--cpu", action="store_true", help="hold the processor's time to 50 ms, not the clock's"
    )
    args = parser.parse_args()
    files: int = args.files
    if files < 500:
        parser.error("files: at least 500, a folder's worth")
    late = False
    with tempfile.TemporaryDirectory() as temporary:
        journal = Path(temporary) / "journal.sqlite"
        made_up_journal(journal, files)
        start = time.perf_counter()
        terminal = Terminal(journal)
        seen = b""
        while f"{files:,}".encode() not in seen:
            seen += terminal.wait(1.0)
        print(f"opened, and all listed, after {time.perf_counter() - start:.2f} s")
        terminal.wait(1.0)
        print(
            f"{'':>18} {'median':>8} {'longest':>8} {'+ panel':>8} {'CPU':>8}  ms, {files:,} files"
        )
        for name, keys, rounds in ROUNDS:
            before = terminal.cpu_seconds()
            took = [terminal.answer(key) for _ in range(rounds) for key in keys]
            cpu = 1000 * (terminal.cpu_seconds() - before) / len(took)
            answered, all_drawn = zip(*took, strict=True)
            median = 1000 * statistics.median(answered)
            late |= (cpu if args.cpu else median) > LIMIT_MS
            longest, last = 1000 * max(answered), 1000 * max(all_drawn)
            print(f"{name:>18} {median:8.1f} {longest:8.1f} {last:8.1f} {cpu:8.1f}")
        terminal.press("\x1b")
        terminal.wait(1.0)
        terminal.close()
    return int(late)


if __name__ == "__main__":
    sys.exit(main())
