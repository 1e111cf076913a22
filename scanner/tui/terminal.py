"""The terminal before and while the screen is on it."""

from __future__ import annotations

import os
import select
import sys
import time

# A terminal at the far end of a slow line has answered by then; one that never answers costs this.
_SETTLE_SECONDS = 2.0


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


def settle() -> None:
    """Read away what the terminal still answers to questions asked before.

    What it can show is asked when the picture's panel is imported, and over a slow line the answer
    may come when nobody waits for it any more: it would be taken for keys. Answers come in order,
    so that what comes before the one to a last question is all there was.
    """
    if sys.platform == "win32" or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return
    import termios
    import tty

    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    try:
        tty.setcbreak(fd, termios.TCSANOW)
        os.write(sys.stdout.fileno(), b"\x1b[6n")  # where the cursor is; every terminal knows it
        end, seen = time.monotonic() + _SETTLE_SECONDS, b""
        while not seen.endswith(b"R"):
            left = end - time.monotonic()
            if left <= 0 or not select.select([fd], [], [], left)[0]:
                return
            seen += os.read(fd, 1)
    finally:
        termios.tcsetattr(fd, termios.TCSANOW, before)
