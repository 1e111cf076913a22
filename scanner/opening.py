"""Opening files that may be anything, and rows for those that the system would not hand over."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from scanner.types import Failed, ImageRef, Reason


def open_regular(path: Path) -> tuple[int, int]:
    """A descriptor for reading and the size in bytes; OSError for anything but a plain file.

    Never waits: a pipe put in the place of a file since it was listed is opened without
    blocking, seen for what it is, and closed.
    """
    flags = os.O_RDONLY
    for name in ("O_CLOEXEC", "O_NONBLOCK", "O_NOCTTY", "O_BINARY"):  # those the system has
        flags |= getattr(os, name, 0)
    fd = os.open(path, flags)
    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            raise OSError(errno.EINVAL, "not a plain file")
    except BaseException:
        os.close(fd)
        raise
    return fd, info.st_size


def failed_to_open(path: Path, error: OSError) -> Failed:
    """The row of a file or folder that the operating system would not hand over."""
    reason: Reason
    match error:
        case PermissionError():
            reason = "permission"
        case FileNotFoundError() | NotADirectoryError():
            reason = "vanished"
        case _:
            reason = "unreadable"
    detail = error.strerror or type(error).__name__
    if error.errno == errno.ENAMETOOLONG:
        detail += ": longer than the system takes; scan from a folder nearer to it"
    return Failed(ImageRef(path), reason, detail)
