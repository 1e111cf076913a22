"""Members of tar files, also compressed ones, in one pass and in memory that does not grow."""

from __future__ import annotations

import bz2
import gzip
import importlib
import io
import lzma
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO, Literal, cast

from scanner.members import (
    CHUNK_BYTES,
    MAX_NAME_CHARACTERS,
    ArchiveLimits,
    Guarded,
    Listed,
    MemberError,
    check_ratio,
    too_much,
)
from scanner.opening import open_regular
from scanner.rules import Cause

Compression = Literal["gz", "bz2", "xz", "zst"]
# A decoder keeps a window as large as the file says, up to 4 GiB. `xz -9` makes one of 64 MiB.
_XZ_MEMORY_BYTES = 256 * 2**20


def list_tar(
    path: Path, limits: ArchiveLimits, compression: Compression | None = None
) -> Iterator[Listed]:
    """The members that are no folders, in the order of the archive.

    Of a compressed one `offset` is None, and a member's bytes are only there while it is the
    one at hand. Raises MemberError for what is above the limits, and whatever tarfile raises for
    damage.
    """
    fd, size = open_regular(path)
    with os.fdopen(fd, "rb") as file:
        if not size:
            raise MemberError("empty", "the file has no bytes")
        source: Any = file
        if compression is not None:
            source = _Forward(_decompressed(file, compression), file, limits)
        guarded = Guarded(source, limits.max_tar_header_bytes)
        # The header's encoding must not depend on where the program runs.
        with tarfile.open(fileobj=cast(Any, guarded), mode="r:", encoding="utf-8") as tar:
            yield from _members(tar, limits, plain=compression is None)
            # tarfile takes a damaged header for the end. The true one is a block of zeros; some
            # writers leave it out.
            if guarded.last.strip(b"\0"):
                raise MemberError("unreadable", "the archive is damaged: a header is not one")


def _members(tar: tarfile.TarFile, limits: ArchiveLimits, *, plain: bool) -> Iterator[Listed]:
    seen: set[int] = set()  # hashes: a million long names would fill the memory
    count, end = 0, -1
    while (info := tar.next()) is not None:
        tar.members = []  # type: ignore[attr-defined]  # it would keep them all
        count += 1
        if count > limits.max_members:
            raise too_much(f"it has more than {limits.max_members:,} members")
        # What a global header says is kept for all members after it.
        if sum(len(key) + len(value) for key, value in tar.pax_headers.items()) > (
            limits.max_tar_header_bytes
        ):
            raise too_much("its headers are too large")
        if len(info.name) > MAX_NAME_CHARACTERS:
            raise too_much(f"a member's name has more than {MAX_NAME_CHARACTERS:,} characters")
        # Sizes below zero would lead back to where the reader has been.
        if info.size < 0 or info.offset_data <= end:
            raise MemberError("unreadable", "the archive is damaged: a member has no size")
        end = info.offset_data
        if info.isdir():
            continue
        cause: Cause | None = None
        if info.issym() or info.islnk():
            cause = "symlink"
        elif not info.isreg():
            cause = "special"
        elif hash(info.name) in seen:
            cause = "same_name"
        seen.add(hash(info.name))
        offset = info.offset_data if plain and not info.issparse() else None
        yield Listed(info.name, info.size, _opener(tar, info), cause, offset)


def _opener(tar: tarfile.TarFile, info: tarfile.TarInfo) -> Callable[[], IO[bytes]]:
    stream: IO[bytes] | None = None

    def opened() -> IO[bytes]:
        nonlocal stream
        if stream is not None:
            return stream
        if info.issparse():
            raise MemberError("unsupported", "it is stored as a sparse file; unpack the archive")
        stream = tar.extractfile(info)
        assert stream is not None  # it is None for what is no file
        return stream

    return opened


def _decompressed(file: BinaryIO, compression: Compression) -> IO[bytes]:
    match compression:
        case "gz":
            return cast(IO[bytes], gzip.GzipFile(fileobj=file))
        case "bz2":
            return cast(IO[bytes], _Streams(file, bz2.BZ2Decompressor))
        case "xz":
            make = lambda: lzma.LZMADecompressor(memlimit=_XZ_MEMORY_BYTES)  # noqa: E731
            return cast(IO[bytes], _Streams(file, make))
        case "zst":
            try:
                zstd = importlib.import_module("compression.zstd")
            except ImportError:
                detail = "Zstandard needs Python 3.14 or newer; decompress it to a .tar"
                raise MemberError("unsupported", detail) from None
            return cast(IO[bytes], _Streams(file, zstd.ZstdDecompressor))


class _Streams(io.RawIOBase):
    """One or more compressed streams, one behind the other, as the bytes they stand for.

    bz2 and lzma have such readers too; theirs set no bound to a decoder's memory.
    """

    def __init__(self, file: BinaryIO, make: Callable[[], Any]) -> None:
        self._file, self._make, self._decoder = file, make, make()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            data = b""
            if self._decoder.eof:
                data = self._decoder.unused_data or self._file.read(CHUNK_BYTES)
                if not data.strip(b"\0"):  # padding
                    return 0
                self._decoder = self._make()
            elif self._decoder.needs_input:
                data = self._file.read(CHUNK_BYTES)
                if not data:
                    raise EOFError
            out = self._decoder.decompress(data, len(buffer))
            if out:
                buffer[: len(out)] = out
                return len(out)


class _Forward:
    """What tarfile needs of a file, over a stream that only goes forward, within the limits."""

    def __init__(self, stream: IO[bytes], file: BinaryIO, limits: ArchiveLimits) -> None:
        self._stream, self._file, self._limits = stream, file, limits
        self._at = 0  # bytes that came out of the stream
        self._last = b""  # the last of them
        self._back = 0  # how many of `_last` are to be given again: tarfile steps back by one

    def read(self, size: int) -> bytes:
        parts = []
        if self._back and size:
            parts.append(self._last)
            self._back, size = 0, size - 1
        while size:
            part = self._stream.read(min(size, CHUNK_BYTES))
            if not part:
                break
            size -= len(part)
            self._at += len(part)
            self._last = part[-1:]
            parts.append(part)
            if self._at > self._limits.max_total_bytes:
                raise too_much(f"it unpacks to more than {self._limits.max_total_bytes:,} bytes")
            check_ratio(self._at, self._file.tell(), self._limits)
        return b"".join(parts)

    def tell(self) -> int:
        return self._at - self._back

    def seek(self, offset: int, whence: int = 0) -> int:
        assert whence == 0
        distance = offset - self.tell()
        if distance == -1 and self._last and not self._back:
            self._back, distance = 1, 0
        if distance < 0:
            raise MemberError("unreadable", "the archive is damaged: it leads back into itself")
        while distance:
            part = self.read(min(distance, CHUNK_BYTES))
            if not part:
                break
            distance -= len(part)
        return self.tell()
