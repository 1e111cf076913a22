"""A temporary folder for what can only be read in passing, until the scan is done with it."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from scanner.members import MemberError
from scanner.types import ImageRef

_MAX_BYTES = 8 * 2**30


class Spool:
    """Members of compressed tar files, each from `put()` to `release()`; safe to share by threads.

    The files are named by number, in a folder that only the user can enter. What would bring
    them above `max_bytes` is refused: a scan has but a few hundred pictures under way.
    """

    def __init__(self, max_bytes: int = _MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._folder: Path | None = None
        # By where they are: an archive that is listed twice has each of its members twice.
        self._held: dict[Path, int] = {}
        self._bytes = 0
        self._count = 0
        self._lock = threading.Lock()

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._folder is not None:
            # A worker may still have a file open, which some systems do not delete then; what
            # is left in the temporary folder is no reason to fail after the scan.
            shutil.rmtree(self._folder, ignore_errors=True)

    def put(self, chunks: Iterator[bytes], size: int, mtime_ns: int) -> Path:
        """Where the bytes now are, in a file that says it changed at `mtime_ns`.

        `release()` takes the ref whose `at` this is. Raises MemberError if there is no room for
        `size` bytes, and what `chunks` raises.
        """
        with self._lock:
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="imgscan-"))
            if self._bytes + size > self._max_bytes:
                detail = "the temporary folder is full; decompress the archive to a plain .tar"
                raise MemberError("too_large", detail)
            self._bytes += size
            self._count += 1
            path = self._folder / str(self._count)
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

    def _drop(self, path: Path) -> None:
        with self._lock:
            size = self._held.pop(path, None)
            if size is None:
                return
            self._bytes -= size
        path.unlink(missing_ok=True)
