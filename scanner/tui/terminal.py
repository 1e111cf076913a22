"""The terminal before and while the screen is on it."""

from __future__ import annotations

import os
import re
import select
import sys
import time
from typing import Any

# A terminal at the far end of a slow line has answered by then; one that never answers costs this.
_SETTLE_SECONDS = 2.0
# The same where somebody waits for the shell.
_LEAVE_SECONDS = 0.5
_CURSOR = re.compile(rb"\x1b\[\d+;\d+R$")


class QuietStderr:
    """While entered, what libraries print to stderr goes to a file, not over the screen.

    The screen itself is drawn through `sys.__stderr__` on some systems, which keeps the terminal.
    """

    def __init__(self) -> None:
        self._terminal: int | None = None
        self._before = sys.__stderr__

    def __enter__(self) -> QuietStderr:
        stream = sys.__stderr__
        try:
            if stream is None or not os.isatty(2) or stream.fileno() != 2:
                return self
        except (OSError, ValueError):
            return self
        stream.flush()
        self._terminal = os.dup(2)
        # Left open: the driver's writer may outlive this for a moment.
        sys.__stderr__ = os.fdopen(  # type: ignore[misc]
            os.dup(self._terminal), "w", encoding=stream.encoding, errors=stream.errors
        )
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, 2)
        os.close(sink)
        return self

    def __exit__(self, *_: object) -> None:
        if self._terminal is None:
            return
        if sys.__stderr__ is not None:
            sys.__stderr__.flush()
        sys.__stderr__ = self._before  # type: ignore[misc]
        os.dup2(self._terminal, 2)
        os.close(self._terminal)
        self._terminal = None


class Answers:
    """Keeps what the terminal answers to questions away from the screen's keys and from the shell.

    What it can show is asked when the picture's panel is imported, and more by Textual at its
    start. Over a slow line an answer may come when nobody waits for it any more: it would be
    taken for keys, or, after a quick quit, for what is typed to the shell. Answers come in order,
    so that what comes before the one to a last question is all there was.
    """

    def __init__(self) -> None:
        self._before: list[Any] | None = None

    def __enter__(self) -> Answers:
        if sys.platform == "win32" or not (sys.stdin.isatty() and sys.stdout.isatty()):
            return self
        import termios
        import tty

        fd = sys.stdin.fileno()
        self._before = termios.tcgetattr(fd)
        # Until the end: between Textual's end and that of this, nothing is to be echoed.
        tty.setcbreak(fd, termios.TCSANOW)
        _read_away(fd, _SETTLE_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        if sys.platform == "win32" or self._before is None:
            return
        import termios

        fd = sys.stdin.fileno()
        try:
            _read_away(fd, _LEAVE_SECONDS)
        finally:
            termios.tcsetattr(fd, termios.TCSANOW, self._before)


def _read_away(fd: int, seconds: float) -> None:
    """All that comes before the answer to a question that every terminal knows."""
    os.write(sys.stdout.fileno(), b"\x1b[6n")  # where the cursor is
    end, seen = time.monotonic() + seconds, b""
    while not _CURSOR.search(seen):
        left = end - time.monotonic()
        if left <= 0 or not select.select([fd], [], [], left)[0]:
            return
        more = os.read(fd, 1)
        if not more:  # the terminal was closed
            return
        seen += more
