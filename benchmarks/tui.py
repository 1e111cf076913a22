"""How soon the triage screen answers a key, with a list of 100,000 files.

    python -m benchmarks.tui [FILES] [--cpu]

Fills a journal under a temporary folder with a scan of FILES made-up files in folders of 500,
opens the screen on it in a terminal of 160x50 (a pty), and presses keys as a person would. For
each it prints the median and the longest time from the press to the end of what the screen then
writes, and the processor's time per press. Exits with 1 if a median is over 50 ms; with --cpu, if
the processor's time is (for a machine that is busy with other things). Not for Windows.
"""

from __future__ import annotations

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

    def wait(self, first_seconds: float) -> tuple[float, bytes]:
        """When the last of the answer came, and all of it."""
        last, answer, patience = time.perf_counter(), b"", first_seconds
        while select.select([self._fd], [], [], patience)[0]:
            try:
                answer += os.read(self._fd, 1 << 16)
            except OSError:  # it has ended
                break
            last, patience = time.perf_counter(), _QUIET_SECONDS
        return last, answer

    def settle(self) -> None:
        """Until the panel, which follows a cursor that rests, is no part of the next answer."""
        while select.select([self._fd], [], [], _SETTLED_SECONDS)[0]:
            os.read(self._fd, 1 << 16)

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
    args = [arg for arg in sys.argv[1:] if arg != "--cpu"]
    files = int(args[0]) if args else 100_000
    by_cpu = "--cpu" in sys.argv
    late = False
    with tempfile.TemporaryDirectory() as temporary:
        journal = Path(temporary) / "journal.sqlite"
        made_up_journal(journal, files)
        start = time.perf_counter()
        terminal = Terminal(journal)
        seen = b""
        while f"{files:,}".encode() not in seen:
            seen += terminal.wait(1.0)[1]
        print(f"opened, and all listed, after {time.perf_counter() - start:.2f} s")
        terminal.wait(1.0)
        print(f"{'':>18} {'median':>8} {'longest':>8} {'CPU':>8}  ms, {files:,} files")
        for name, keys, rounds in ROUNDS:
            took: list[float] = []
            before = terminal.cpu_seconds()
            for _ in range(rounds):
                for key in keys:
                    terminal.settle()
                    start = time.perf_counter()
                    terminal.press(key)
                    took.append(max(0.0, terminal.wait(1.0)[0] - start))
            cpu = 1000 * (terminal.cpu_seconds() - before) / len(took)
            median = 1000 * statistics.median(took)
            late |= (cpu if by_cpu else median) > LIMIT_MS
            print(f"{name:>18} {median:8.1f} {1000 * max(took):8.1f} {cpu:8.1f}")
        terminal.press("\x1b")
        terminal.wait(1.0)
        terminal.close()
    return int(late)


if __name__ == "__main__":
    sys.exit(main())
