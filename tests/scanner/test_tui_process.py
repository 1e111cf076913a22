"""The triage screen in a process of its own, on a terminal, and what a kill leaves."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tui_fakes import recorded

from scanner.journal import Journal

pty = pytest.importorskip("pty", reason="terminals of this kind are POSIX")
ROOT = Path(__file__).parents[2]


class Terminal:
    """`imgscan` behind a pty of 80x24."""

    def __init__(self, *args: str, home: Path) -> None:
        import fcntl
        import struct
        import termios

        self._fd, child = pty.openpty()
        fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        environment = {**os.environ, "TERM": "xterm-256color", "HOME": str(home)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "scanner", *args],
            cwd=ROOT,
            env=environment,
            stdin=child,
            stdout=child,
            stderr=child,
            start_new_session=True,
        )
        self.shell = child  # the terminal's end that a shell would read once this has ended
        self.seen = self.answer = b""

    def until(self, text: str, seconds: float = 60.0) -> None:
        """Read until the terminal has been written this; answers where the cursor is, if asked."""
        end = time.monotonic() + seconds
        while text.encode() not in self.seen:
            assert time.monotonic() < end, self.seen[-2000:]
            if select.select([self._fd], [], [], 0.2)[0]:
                try:
                    more = os.read(self._fd, 1 << 16)
                except OSError:
                    more = b""
                if b"\x1b[6n" in more:
                    os.write(self._fd, self.answer + b"\x1b[1;1R")
                self.seen += more

    def press(self, keys: str) -> None:
        os.write(self._fd, keys.encode())

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.shell)
        os.close(self._fd)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return recorded(tmp_path / "case.sqlite")


def decisions(journal: Path) -> dict[str, str]:
    with Journal(journal) as opened:
        return {Path(review.path).stem: review.decision for review in opened.reviews.all()}


def test_decisions_outlive_a_kill_at_the_moment_they_are_on_the_screen(journal, tmp_path) -> None:
    terminal = Terminal("--tui", "--journal", str(journal), home=tmp_path)
    try:
        terminal.until("eel.png")
        for count, key in enumerate("frus", start=1):
            terminal.press(key)
            terminal.until(f"{count} decided")
        os.kill(terminal.process.pid, signal.SIGKILL)
        terminal.process.wait()
    finally:
        terminal.close()
    assert decisions(journal) == {"eel": "fake", "ant": "real", "hen": "unsure", "jay": "skip"}
    # And the way back in shows them.
    terminal = Terminal("--tui", "--journal", str(journal), home=tmp_path)
    try:
        terminal.until("4 decided")
        terminal.press("q")
        # To be read to its end: what nobody reads fills the pty and holds up the process.
        terminal.until("go on with: imgscan --tui --journal")
        assert terminal.process.wait(30) == 0
    finally:
        terminal.close()


def test_after_quitting_no_answer_of_the_terminal_is_left_for_the_shell(journal, tmp_path) -> None:
    """As over a slow line: what was asked at the start is answered when the screen has gone."""
    import termios
    import tty

    terminal = Terminal("--tui", "--journal", str(journal), home=tmp_path)
    try:
        before = termios.tcgetattr(terminal.shell)
        terminal.until("eel.png")
        terminal.seen = b""
        terminal.press("fq")
        # The answers come in the order of the questions; `until` gives that to the last.
        terminal.answer = b"\x1b[?2026;2$y\x1b_Gi=1;OK\x1b\\"
        terminal.until("go on with: imgscan --tui --journal")
        assert terminal.process.wait(30) == 0
        assert b"decided on 1 picture: 1 fake" in terminal.seen
        assert b"2026;2$y" not in terminal.seen  # nor echoed
        assert b"\x1b[6n" in terminal.seen
        assert termios.tcgetattr(terminal.shell)[3] == before[3]
        tty.setcbreak(terminal.shell)
        assert not select.select([terminal.shell], [], [], 0.1)[0]
    finally:
        terminal.close()


def test_what_goes_with_no_screen_is_refused_in_one_line(journal, tmp_path) -> None:
    def said(*args: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "scanner", "--tui", *args],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env={**os.environ, "HOME": str(tmp_path)},
        )
        assert done.returncode == 3
        assert done.stderr.count("\n") == 1
        return done.stderr

    assert "needs a terminal" in said("--journal", str(journal))
    assert "leave out --no-journal" in said("--no-journal", "sample_images")
    assert "there is no such journal" in said("--plain", "--journal", str(tmp_path / "typo.sqlite"))
    assert not (tmp_path / "typo.sqlite").exists()
