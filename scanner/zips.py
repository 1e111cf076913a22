"""Members of zip files, listed from the directory at the end and read where they are."""

from __future__ import annotations

import os
import stat
import struct
import threading
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import IO, BinaryIO, cast

from scanner.members import (
    CHUNK_BYTES,
    MAX_NAME_CHARACTERS,
    ArchiveLimits,
    Guarded,
    Listed,
    MemberError,
    check_ratio,
    chunks_of,
    held,
    too_much,
    unchanged,
)
from scanner.opening import open_regular
from scanner.rules import Cause

# A directory of a hundred thousand names takes some 60 MB, in every process that reads of it.
_KEPT_OPEN = 2
# Asked for more, zipfile hands that much to bzip2 and LZMA at once, and takes all they answer.
_CAREFUL_BYTES = 4096
# A member in the directory: it begins so, and of its fixed part these say how long the rest is
# (name, extra field, comment).
_ENTRY = b"PK\x01\x02"
_LENGTHS = struct.Struct("<28x3H12x")


class _Counted(Guarded):
    """Refuses a directory of too many members before zipfile makes an object of each.

    They are counted in the directory itself: what the archive says their number is, zipfile
    does not heed.
    """

    def __init__(self, file: BinaryIO, limits: ArchiveLimits) -> None:
        super().__init__(file, limits.max_header_bytes)
        self._max_members = limits.max_members

    def read(self, size: int = -1) -> bytes:
        data = super().read(size)
        if data.startswith(_ENTRY):
            count = at = 0
            while data.startswith(_ENTRY, at) and len(data) >= at + _LENGTHS.size:
                count += 1
                at += _LENGTHS.size + sum(_LENGTHS.unpack_from(data, at))
                if count > self._max_members:
                    raise too_much(f"it has more than {self._max_members:,} members")
        return data


class _Opened:
    """A zip file and its directory: the first of each name, as it was when it was opened."""

    def __init__(self, path: Path, limits: ArchiveLimits) -> None:
        fd, self.size = open_regular(path)
        self._file = os.fdopen(fd, "rb")
        try:
            if not self.size:
                raise MemberError("empty", "the file has no bytes")
            self.mtime_ns = os.fstat(fd).st_mtime_ns
            self.zip = zipfile.ZipFile(cast(BinaryIO, _Counted(self._file, limits)))
            self.infos: dict[str, zipfile.ZipInfo] = {}
            for info in self.zip.infolist():
                if len(info.filename) > MAX_NAME_CHARACTERS:
                    what = f"a member's name has more than {MAX_NAME_CHARACTERS:,} characters"
                    raise too_much(what)
                self.infos.setdefault(info.filename, info)
        except BaseException:
            self._file.close()
            raise

    def unchanged(self) -> AbstractContextManager[None]:
        """While it is read."""
        return unchanged(self._file.fileno(), self.size, self.mtime_ns)

    def close(self) -> None:
        self.zip.close()
        self._file.close()


def list_zip(path: Path, limits: ArchiveLimits) -> Iterator[Listed]:
    """The members that are no folders, in the order of the directory.

    Raises MemberError for what is above the limits, and whatever zipfile raises for damage.
    """
    opened = _Opened(path, limits)
    try:
        everything = opened.zip.infolist()
        # Declared sizes can be relied on: zipfile reads no more than them. Members may lie over
        # each other, so that each alone looks harmless.
        total = sum(info.file_size for info in everything)
        if total > limits.max_total_bytes:
            raise too_much(f"it unpacks to {total:,} bytes")
        check_ratio(total, opened.size, limits)
        for info in everything:
            if info.is_dir():
                continue
            cause: Cause | None = None
            if opened.infos[info.filename] is not info:
                cause = "same_name"
            elif stat.S_ISLNK(info.external_attr >> 16):
                cause = "symlink"
            opener = partial(_open, opened, info)
            yield Listed(info.filename, info.file_size, opener, cause, at_random=True)
    finally:
        opened.close()


def read_zip(path: Path, member: str, limits: ArchiveLimits) -> tuple[BinaryIO, int, int]:
    """A member as a seekable stream, its size, and the archive's time of change.

    The archives that were read last stay open, in each thread for itself, until they change.
    """
    opened = _cached(path, limits)
    info = opened.infos.get(member)
    if info is None:
        raise MemberError("vanished", "the archive has no such member")
    step = CHUNK_BYTES if info.compress_type in _PLAIN_METHODS else _CAREFUL_BYTES
    with opened.unchanged(), _open(opened, info) as stream:
        data = held(chunks_of(stream, info.file_size, limits, step), info.file_size)
    return data, info.file_size, opened.mtime_ns


_PLAIN_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def _open(opened: _Opened, info: zipfile.ZipInfo) -> IO[bytes]:
    if info.flag_bits & 0x1:
        raise MemberError("unsupported", "it is encrypted; unpack the archive with its password")
    try:
        return opened.zip.open(info)
    except NotImplementedError:
        detail = "it is compressed by a method that is not read here; unpack the archive"
        raise MemberError("unsupported", detail) from None


class _Cache(threading.local):
    def __init__(self) -> None:
        self.opened: OrderedDict[tuple[object, ...], _Opened] = OrderedDict()


_cache = _Cache()


def _cached(path: Path, limits: ArchiveLimits) -> _Opened:
    info = path.stat()
    # A forked process shares the position in an open file with its parent, and must open its own.
    key = (os.getpid(), path, info.st_ino, info.st_size, info.st_mtime_ns, limits)
    kept = _cache.opened
    if key in kept:
        kept.move_to_end(key)
        return kept[key]
    opened = kept[key] = _Opened(path, limits)
    while len(kept) > _KEPT_OPEN:
        kept.popitem(last=False)[1].close()
    return opened
