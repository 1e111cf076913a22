"""A locked folder in the temporary one, and the removal of those whose process was killed."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    import msvcrt

_PREFIX = "imgscan-spool-"
_LOCK = "lock"


class SpoolFolder:
    """Only the user can enter it. The system gives up its lock however the process ends."""

    def __init__(self) -> None:
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
            lock = self.path / _LOCK
            self._fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            # Whoever removes what is left over may come between the file and its lock.
            if _locked(self._fd) and lock.exists():
                return
            os.close(self._fd)

    def remove(self) -> None:
        """With all that is in it."""
        os.close(self._fd)  # Windows deletes no file that is open
        # A worker may still have a file open, which some systems do not delete then; what is left
        # in the temporary folder is no reason to fail after the scan, and the next removes it.
        shutil.rmtree(self.path, ignore_errors=True)


def remove_left_over() -> None:
    """Remove the user's folders that no process has locked: those of scans that were killed."""
    try:
        found = list(Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"))
    except OSError:
        return  # what cannot be listed cannot be tidied, either
    for folder in found:
        if _is_ours(folder) and _is_abandoned(folder / _LOCK):
            shutil.rmtree(folder, ignore_errors=True)


def _is_ours(folder: Path) -> bool:
    try:
        info = folder.lstat()  # anybody may have put a link there
    except OSError:
        return False
    return stat.S_ISDIR(info.st_mode) and (os.name == "nt" or info.st_uid == os.getuid())


def _is_abandoned(lock: Path) -> bool:
    try:
        fd = os.open(lock, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    except OSError:  # not there yet
        return False
    try:
        return _locked(fd)
    finally:
        os.close(fd)


def _locked(fd: int) -> bool:
    """Whether the file could be locked, without waiting."""
    try:
        if os.name == "nt":
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        else:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
