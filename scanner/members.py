"""What the readers of archives share: limits, what a member is, and why one is refused."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, BinaryIO, Literal, cast

from scanner.limits import DEFAULT_LIMITS
from scanner.rules import Cause
from scanner.text import one_line
from scanner.types import Reason

CHUNK_BYTES = 1 << 18
MAX_NAME_CHARACTERS = 4096  # no path is longer; a hostile archive's names would fill the memory
_IN_MEMORY_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """What one archive may cost at most; beyond it there is a failed row, as `too_large`.

    `max_members` counts members of any kind. `max_member_bytes` is the size of one picture, and
    `max_total_bytes` what comes out of one compressed archive, both uncompressed. `max_ratio` is
    of uncompressed to compressed bytes: pictures come to about 1, blank scans to 50. It is not
    asked of what comes to fewer bytes than `ratio_from_bytes`. `max_header_bytes` bounds what
    a reader takes into memory besides pictures, as the list of names of a zip file.
    """

    max_members: int = 1_000_000
    max_member_bytes: int = DEFAULT_LIMITS.max_bytes
    max_total_bytes: int = 64 * 2**30
    max_ratio: int = 200
    ratio_from_bytes: int = 64 * 2**20
    max_header_bytes: int = 16 * 2**20
    max_tar_header_bytes: int = 2**20


DEFAULT_ARCHIVE_LIMITS = ArchiveLimits()


class MemberError(Exception):
    """A member, or an archive, that is not read, with the row's reason and detail."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason: Reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Listed:
    """A member as an archive's directory has it: only while the listing is at it.

    `size` is in bytes, uncompressed. `cause` says why it is left out, and `open()` gives its
    bytes, going on where it was left, or raises. `offset` is where they lie in the archive, if
    they lie there as they are; `at_random` says that the archive can be asked for them later.
    """

    name: str
    size: int
    open: Callable[[], IO[bytes]]
    cause: Cause | None = None
    offset: int | None = None
    at_random: bool = False


def explain(error: Exception) -> MemberError:
    """What anything that the reading of an archive raises means for the user."""
    if isinstance(error, MemberError):
        return error
    if isinstance(error, MemoryError):
        return MemberError("too_large", "there is not enough memory to read the archive")
    if isinstance(error, EOFError):
        return MemberError("truncated", "the archive ends before its content does")
    if isinstance(error, PermissionError):
        return MemberError("permission", error.strerror or one_line(error))
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return MemberError("vanished", error.strerror or one_line(error))
    if isinstance(error, OSError) and error.errno is not None:
        return MemberError("unreadable", error.strerror or one_line(error))
    if "end of data" in str(error) or "truncated" in str(error):
        return MemberError("truncated", "the archive ends before its content does")
    return MemberError("unreadable", f"the archive is damaged: {one_line(error)}")


def too_much(what: str) -> MemberError:
    """The refusal of what is above a limit."""
    return MemberError("too_large", f"{what}; unpack the archive to scan it")


def check_ratio(unpacked_bytes: int, packed_bytes: int, limits: ArchiveLimits) -> None:
    """Raises MemberError for what grows more in unpacking than pictures do."""
    if unpacked_bytes > limits.ratio_from_bytes:
        ratio = unpacked_bytes // max(1, packed_bytes)
        if ratio > limits.max_ratio:
            raise too_much(f"it unpacks to more than {limits.max_ratio} times its size")


def chunks_of(stream: IO[bytes], size: int, limits: ArchiveLimits, step: int) -> Iterator[bytes]:
    """The next `size` bytes, those of a member, at most `step` at a time.

    Raises MemberError if they are more than the limit, whatever it declares, or not there.
    """
    if size > limits.max_member_bytes:
        raise too_much(f"{size:,} bytes are more than the limit of {limits.max_member_bytes:,}")
    left = size
    while left:
        chunk = stream.read(min(left, step))
        if not chunk:
            raise MemberError("truncated", "the archive ends before its content does")
        left -= len(chunk)
        yield chunk


def held(chunks: Iterator[bytes], size: int) -> BinaryIO:
    """`chunks` as a seekable stream: in memory, above 64 MiB in a temporary file without a name."""
    stream = cast(
        BinaryIO,
        io.BytesIO() if size <= _IN_MEMORY_BYTES else tempfile.TemporaryFile(),  # noqa: SIM115
    )
    try:
        for chunk in chunks:
            stream.write(chunk)
    except BaseException:
        stream.close()
        raise
    stream.seek(0)
    return stream


CHANGED = "the archive was written to meanwhile; scan it again"


@contextmanager
def unchanged(fd: int, size: int, mtime_ns: int) -> Iterator[None]:
    """Raises MemberError, whatever came of it, if the open archive is not as it was before.

    Half of one picture and half of another may well decode.
    """
    try:
        yield
    except Exception:
        _compare(fd, size, mtime_ns)
        raise
    _compare(fd, size, mtime_ns)


def _compare(fd: int, size: int, mtime_ns: int) -> None:
    info = os.fstat(fd)
    if (info.st_size, info.st_mtime_ns) != (size, mtime_ns):
        raise MemberError("changed", CHANGED) from None


class Guarded:
    """A file for a reader that would take as much into memory as the file tells it to."""

    def __init__(self, file: BinaryIO, max_bytes: int) -> None:
        self._file = file
        self._max = max_bytes
        self.last = b""  # what was read last

    def read(self, size: int = -1) -> bytes:
        """The next `size` bytes or what there is; without a size, to the end."""
        if size > self._max:
            raise too_much("its directory or one of its headers is too large")
        self.last = self._file.read(self._max + 1 if size < 0 else size)
        if len(self.last) > self._max:
            raise too_much("its directory or one of its headers is too large")
        return self.last

    def seek(self, offset: int, whence: Literal[0, 1, 2] = 0) -> int:
        """As of a file."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """As of a file."""
        return self._file.tell()

    def seekable(self) -> bool:
        """As of a file."""
        return True
