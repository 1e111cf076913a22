"""A temporary folder for what can only be read in passing, until the scan is done with it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from scanner.members import MemberError
from scanner.spool_folder import SpoolFolder, remove_left_over
from scanner.types import ImageRef

_MAX_BYTES = 8 * 2**30
# So long nothing is released while there is no room: then whoever should has forgotten it.
_STALL_S = 600.0


class Spool:
    """Members of compressed tar files, each from `put()` to `release()`; safe to share by threads.

    The files are named by number, in a folder that only the user can enter. They are at most
    `max_bytes` together: `put()` waits for room, unless it is called in the thread that entered
    the spool, which would wait for itself.
    """

    def __init__(self, max_bytes: int = _MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._folder: SpoolFolder | None = None
        # By where they are: an archive that is listed twice has each of its members twice.
        self._held: dict[Path, int] = {}
        self._bytes = 0
        self._count = 0
        self._owner: int | None = None
        self._closed = False
        self._released_at = 0.0
        self._changed = threading.Condition()

    def __enter__(self) -> Spool:
        self._owner = threading.get_ident()
        self._closed = False
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            folder, self._folder = self._folder, None
            self._held.clear()
            self._bytes = 0
        if folder is not None:
            folder.remove()

    def tidy(self) -> None:
        """Remove what scans that were killed have left."""
        remove_left_over()

    def put(self, chunks: Iterator[bytes], size: int, mtime_ns: int) -> Path:
        """Where the bytes now are, in a file that says it changed at `mtime_ns`.

        `release()` takes the ref whose `at` this is. Raises MemberError if there is no room for
        `size` bytes and none to be waited for, and what `chunks` raises.
        """
        with self._changed:
            self._wait_for(size)
            if self._folder is None:
                self._folder = SpoolFolder()
            self._bytes += size
            self._count += 1
            path = self._folder.path / str(self._count)
            self._held[path] = size
        try:
            with path.open("xb") as file:
                for chunk in chunks:
                    file.write(chunk)
            os.utime(path, ns=(mtime_ns, mtime_ns))
        except BaseException:
            self._drop(path)
            raise
        return path

    def release(self, ref: ImageRef) -> None:
        """Forget `ref`, if it is here: it has its result."""
        if isinstance(ref.at, Path):
            self._drop(ref.at)

    def _wait_for(self, size: int) -> None:
        self._released_at = time.monotonic()
        while self._bytes + size > self._max_bytes or self._closed:
            left = self._released_at + _STALL_S - time.monotonic()
            nobody = self._owner in (None, threading.get_ident()) or left <= 0
            if self._closed or nobody or size > self._max_bytes:
                detail = "the temporary folder is full; decompress the archive to a plain .tar"
                raise MemberError("too_large", detail)
            self._changed.wait(left)

    def _drop(self, path: Path) -> None:
        with self._changed:
            size = self._held.pop(path, None)
            if size is None:
                return
            self._bytes -= size
            self._released_at = time.monotonic()
            self._changed.notify_all()
        path.unlink(missing_ok=True)
