"""Pictures inside archives, read where they are: `list_members()` and `open_member()`.

A member's name is only ever a name: nothing is written under it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

from scanner.formats import HEAD_BYTES
from scanner.members import (
    CHANGED,
    CHUNK_BYTES,
    DEFAULT_ARCHIVE_LIMITS,
    ArchiveLimits,
    Listed,
    MemberError,
    chunks_of,
    explain,
    held,
    unchanged,
)
from scanner.opening import open_regular
from scanner.spool import Spool
from scanner.tars import Compression, list_tar
from scanner.types import Extent, ImageRef
from scanner.zips import list_zip, read_zip

__all__ = [
    "CHANGED",
    "DEFAULT_ARCHIVE_LIMITS",
    "ArchiveKind",
    "ArchiveLimits",
    "MemberError",
    "OpenMember",
    "archive_kind",
    "list_members",
    "locate",
    "named_as_archive",
    "open_member",
    "read_head",
]

ArchiveKind = Literal["zip", "tar", "gz", "bz2", "xz", "zst"]

_NAMES: tuple[tuple[tuple[str, ...], ArchiveKind], ...] = (
    ((".zip", ".cbz"), "zip"),
    ((".tar", ".cbt"), "tar"),
    ((".tar.gz", ".tgz"), "gz"),
    ((".tar.bz2", ".tbz2", ".tbz"), "bz2"),
    ((".tar.xz", ".txz"), "xz"),
    ((".tar.zst", ".tzst"), "zst"),
)
_MAGIC: tuple[tuple[bytes, ArchiveKind], ...] = (
    (b"\x1f\x8b", "gz"),
    (b"BZh", "bz2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "zst"),
)


class OpenMember(NamedTuple):
    """A member's bytes from the first on, how many, and when its archive last changed."""

    stream: BinaryIO  # seekable; the caller closes it
    size_bytes: int
    mtime_ns: int


def named_as_archive(name: str) -> ArchiveKind | None:
    """What the extension says."""
    lowered = name.lower()
    return next((kind for endings, kind in _NAMES if lowered.endswith(endings)), None)


def archive_kind(name: str, head: bytes) -> ArchiveKind | None:
    """What a file is, by its first `HEAD_BYTES` bytes; by its name where they are of no known kind.

    A compressed file is an archive only if its name says so: what is in it cannot be seen.
    """
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    if head[257:262] == b"ustar":
        return "tar"
    named = named_as_archive(name)
    if named is None:
        return None
    return next((kind for magic, kind in _MAGIC if head.startswith(magic)), named)


def list_members(
    path: Path, kind: ArchiveKind, limits: ArchiveLimits = DEFAULT_ARCHIVE_LIMITS
) -> Iterator[Listed]:
    """The members of an archive that are no folders, in its own order.

    Raises MemberError where the archive cannot be read, or goes above the limits; what came
    before is good.
    """
    try:
        match kind:
            case "zip":
                yield from list_zip(path, limits)
            case "tar":
                yield from list_tar(path, limits)
            case _:
                compression: Compression = kind
                yield from list_tar(path, limits, compression)
    # The readers of damaged archives raise whatever their authors did not foresee (struct.error,
    # zlib.error, UnicodeDecodeError, RecursionError...), as those of damaged pictures do.
    except Exception as error:  # noqa: BLE001
        raise explain(error) from None


def read_head(member: Listed) -> bytes:
    """The first bytes of a member that is being listed. Raises MemberError."""
    try:
        if member.at_random:
            with member.open() as stream:
                return stream.read(HEAD_BYTES)
        return member.open().read(HEAD_BYTES)
    except Exception as error:  # noqa: BLE001 - as above
        raise explain(error) from None


def locate(member: Listed, head: bytes, mtime_ns: int, spool: Spool | None) -> Extent | Path | None:
    """Where a member that is being listed can be read later on, in any order; None in a zip file.

    `head` is what `read_head()` gave, empty if it was not asked. What only the listing comes by (a
    compressed tar file) goes into the `spool`. Raises MemberError.
    """
    try:
        if member.offset is not None:
            return Extent(member.offset, member.size, mtime_ns)
        if member.at_random:
            return None
        if spool is None:
            detail = "in a compressed tar file; decompress it to a plain .tar"
            raise MemberError("unsupported", detail)
        left = member.size - len(head)
        rest = chunks_of(member.open(), left, DEFAULT_ARCHIVE_LIMITS, CHUNK_BYTES)
        return spool.put(chain([head], rest), member.size, mtime_ns)
    except Exception as error:  # noqa: BLE001 - as above
        raise explain(error) from None


def open_member(ref: ImageRef, limits: ArchiveLimits = DEFAULT_ARCHIVE_LIMITS) -> OpenMember:
    """The member of an archive that `ref` names.

    Quick where the walk has noted where it is (`ref.at`), and in zip files; else the archive is
    searched from its beginning. Raises MemberError, with the row's reason and detail.
    """
    assert ref.member is not None
    try:
        if isinstance(ref.at, Path):
            return _whole_file(ref.at, limits)
        if isinstance(ref.at, Extent):
            return _part(ref.path, ref.at, limits)
        return _searched(ref.path, ref.member, limits)
    except Exception as error:  # noqa: BLE001 - as above
        raise explain(error) from None


def _whole_file(path: Path, limits: ArchiveLimits) -> OpenMember:
    fd, size = open_regular(path)
    return OpenMember(os.fdopen(fd, "rb"), size, os.fstat(fd).st_mtime_ns)


def _part(path: Path, extent: Extent, limits: ArchiveLimits) -> OpenMember:
    fd, size = open_regular(path)
    with os.fdopen(fd, "rb") as file:
        with unchanged(fd, size, extent.mtime_ns):
            file.seek(extent.offset)
            chunks = chunks_of(file, extent.size, limits, CHUNK_BYTES)
            stream = held(chunks, extent.size)
        return OpenMember(stream, extent.size, extent.mtime_ns)


def _searched(path: Path, member: str, limits: ArchiveLimits) -> OpenMember:
    fd, size = open_regular(path)
    with os.fdopen(fd, "rb") as file:
        kind = archive_kind(path.name, file.read(HEAD_BYTES))
        if kind == "zip":
            return OpenMember(*read_zip(path, member, limits))
        mtime_ns = os.fstat(fd).st_mtime_ns
        with unchanged(fd, size, mtime_ns):
            for listed in () if kind is None else list_members(path, kind, limits):
                if listed.name == member and listed.cause is None:
                    with listed.open() as source:
                        chunks = chunks_of(source, listed.size, limits, CHUNK_BYTES)
                        stream = held(chunks, listed.size)
                    return OpenMember(stream, listed.size, mtime_ns)
    raise MemberError("vanished", "the archive has no such member")
