"""Turns: few pictures that take much memory at a time, among threads and among processes."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows: threads of one process alone take turns
    fcntl = None  # type: ignore[assignment]

_POLL_S = 0.02


class Turns:
    """One turn at a time in this process, and once shared, `slots` among all that share the file.

    A process that ends, however it ends, loses its turn: the lock on the file is the system's.
    Whoever has waited `patience_s` seconds for the others goes on without: waiting counts as
    decoding, and no file is to time out because of it.
    """

    def __init__(self) -> None:
        self._threads = threading.RLock()
        self._depth = 0
        self._file: BinaryIO | None = None
        self._slots, self._patience_s = 1, 0.0
        self._held: int | None = None

    def share(self, path: Path, slots: int, patience_s: float) -> None:
        """From here on with every other process that shares `path`, a file that exists."""
        with self._threads:
            self._file = path.open("r+b")
            self._slots, self._patience_s = slots, patience_s

    def __enter__(self) -> Turns:
        self._threads.acquire()
        try:
            if self._depth == 0:
                self._held = self._wait()
            self._depth += 1
        except BaseException:
            self._threads.release()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._depth -= 1
            if self._depth == 0 and self._held is not None and self._file is not None:
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, self._held)
                self._held = None
        finally:
            self._threads.release()

    def _wait(self) -> int | None:
        """The slot that is held from here on; None if there is nothing to share, or no turn."""
        if self._file is None or fcntl is None:
            return None
        end = time.monotonic() + self._patience_s
        while True:
            for slot in range(self._slots):
                try:
                    fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, slot)
                except OSError:  # another's, or a file system without locks
                    continue
                return slot
            if time.monotonic() > end:
                return None
            time.sleep(_POLL_S)
