"""Files to pixels: `decode()` for a path, `decode_stream()` for what is already open.

Training and scanning both read pictures through here.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, BinaryIO, TypeVar, cast, overload

from PIL import Image, UnidentifiedImageError

from scanner.archives import ArchiveLimits, MemberError, archive_kind, open_member
from scanner.clipped import Clipped
from scanner.find import failed_to_open, find_images, open_regular
from scanner.formats import (
    HEAD_BYTES,
    JXL_CODESTREAM,
    KNOWN_EXTENSIONS,
    REMEDIES,
    ends_early,
    extension_of,
    name_notes,
    sniff,
)
from scanner.jpeg import end_of_data
from scanner.limits import DEFAULT_LIMITS, DecodeLimits
from scanner.preprocess import PreprocessSpec
from scanner.raw import kind_of_tiff
from scanner.reading import (
    MIN_SIDE,
    Source,
    one_large_at_a_time,
    read,
    read_part,
    source_of,
    stored_size,
    too_large,
)
from scanner.refused import RefusedError
from scanner.text import one_line
from scanner.types import Failed, FileFacts, ImageRef, Pixels, Reason
from scanner.webp import declared_size

__all__ = [
    "KNOWN_EXTENSIONS",
    "MIN_SIDE",
    "decode",
    "decode_stream",
    "find_images",
]

T = TypeVar("T")

NO_MEMORY = "there is not enough memory to decode it"

# Files of more bytes than this take turns: a decoder may hold them whole.
_LARGE_BYTES = 64 * 2**20


@overload
def decode(ref: ImageRef, spec: PreprocessSpec, limits: DecodeLimits = ...) -> Pixels | Failed: ...
@overload
def decode(
    ref: ImageRef,
    spec: PreprocessSpec,
    limits: DecodeLimits = ...,
    *,
    known: Callable[[FileFacts], T | None],
) -> Pixels | Failed | T: ...
def decode(
    ref: ImageRef,
    spec: PreprocessSpec,
    limits: DecodeLimits = DEFAULT_LIMITS,
    *,
    known: Callable[[FileFacts], T | None] | None = None,
) -> Pixels | Failed | T:
    """The picture at `ref.path`, upright, as RGB; the file is opened once.

    `known` is asked once the file's hash, size, time of change and format are known: what it
    answers, unless None, is the result, and nothing is decoded. A file that is written to
    meanwhile is `changed`, whatever came of it. Never raises for what the file holds.
    """
    if ref.member is not None:
        try:
            member = open_member(ref, ArchiveLimits(max_member_bytes=limits.max_bytes))
        except MemberError as error:
            return Failed(ref, error.reason, error.detail)
        with member.stream:
            facts = FileFacts(bytes=member.size_bytes, mtime_ns=member.mtime_ns)
            return _decode(member.stream, ref, spec, facts, limits, known)
    try:
        fd, _ = open_regular(ref.path)
    except OSError as error:
        return failed_to_open(ref.path, error)
    with os.fdopen(fd, "rb") as stream:
        before = os.fstat(fd)
        facts = FileFacts(bytes=before.st_size, mtime_ns=before.st_mtime_ns)
        result = _decode(stream, ref, spec, facts, limits, known)
        after = os.fstat(fd)
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        # Half of one picture and half of another may well have decoded.
        facts = FileFacts(bytes=after.st_size, mtime_ns=after.st_mtime_ns)
        return Failed(ref, "changed", "it was written to while it was read; scan it again", facts)
    return result


@overload
def decode_stream(
    stream: BinaryIO,
    ref: ImageRef,
    spec: PreprocessSpec,
    *,
    size_bytes: int,
    mtime_ns: int | None = ...,
    limits: DecodeLimits = ...,
) -> Pixels | Failed: ...
@overload
def decode_stream(
    stream: BinaryIO,
    ref: ImageRef,
    spec: PreprocessSpec,
    *,
    size_bytes: int,
    mtime_ns: int | None = ...,
    limits: DecodeLimits = ...,
    known: Callable[[FileFacts], T | None],
) -> Pixels | Failed | T: ...
def decode_stream(
    stream: BinaryIO,
    ref: ImageRef,
    spec: PreprocessSpec,
    *,
    size_bytes: int,
    mtime_ns: int | None = None,
    limits: DecodeLimits = DEFAULT_LIMITS,
    known: Callable[[FileFacts], T | None] | None = None,
) -> Pixels | Failed | T:
    """The same for a seekable stream of `size_bytes` bytes, which stays open.

    A JPEG comes at the smallest scale (1/1, 1/2, 1/4, 1/8) that leaves what `prepare(rgb, spec,
    box)` makes of it within the tolerance stated in docs/preprocessing.md. `mtime_ns` goes into
    the facts as it is.
    """
    facts = FileFacts(bytes=size_bytes, mtime_ns=mtime_ns)
    return _decode(stream, ref, spec, facts, limits, known)


def _decode(
    stream: BinaryIO,
    ref: ImageRef,
    spec: PreprocessSpec,
    facts: FileFacts,
    limits: DecodeLimits,
    known: Callable[[FileFacts], T | None] | None,
) -> Pixels | Failed | T:
    size = facts.bytes or 0
    # Pillow refuses twice its own limit by itself, also for frames and tiles whose size the header
    # does not tell. That limit is a global: raised where more is allowed here, and never lowered,
    # which would refuse pictures to whoever else uses Pillow in this process.
    if Image.MAX_IMAGE_PIXELS is not None and limits.max_pixels > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = limits.max_pixels
    try:
        # Files that a system makes up as they are read (/proc) are of no size and yet not empty.
        if size == 0 and not stream.read(1):
            raise RefusedError("empty", "the file has no bytes")
        if size > limits.max_bytes:  # before its bytes are read, which may take minutes
            raise RefusedError(
                "too_large",
                f"{size:,} bytes are more than the limit of {limits.max_bytes:,}; "
                "raise --max-file-bytes or save it at a smaller size to scan it",
            )
        stream.seek(0)
        facts = replace(facts, sha256=hashlib.file_digest(cast(Any, stream), "sha256").hexdigest())
        stream = cast(BinaryIO, Clipped(stream, size))
        kind = _kind(stream, ref)
        facts = replace(facts, format=kind, notes=name_notes(ref, kind))
        if kind == "WEBP":  # whose decoder tells its size only once it has memory for the pixels
            facts = _with_webp_size(stream, facts)
        if kind in REMEDIES:
            raise RefusedError("unsupported", REMEDIES[kind])
        answer = None if known is None else known(facts)
        if answer is not None:
            return answer
        if kind == "JPEG":
            size = end_of_data(stream, size)
            stream = cast(BinaryIO, Clipped(stream, size))
        with one_large_at_a_time if size > _LARGE_BYTES else nullcontext():
            source = source_of(stream, size, kind, limits)
            with source.open() as image:
                facts = _facts(image, source, ref, facts)
                try:
                    rgb, box = read(image, source, spec, limits)
                    if kind == "HEIF":  # a damaged one's header may say anything of its size
                        facts = _facts(image, source, ref, facts)
                    return Pixels(ref, rgb, facts, box)
                except RefusedError:
                    raise
                # As below: what it was is told there, unless most of the picture can be had.
                except Exception as error:
                    if not _ends_early(error, stream, size):
                        raise
            part, share = read_part(source, spec)
            if part is None:
                raise RefusedError("truncated", _cut_short(size, share))
            facts = replace(facts, notes=(*facts.notes, "truncated"))
            return Pixels(ref, part[0], facts, part[1])
    except RefusedError as refused:
        return Failed(ref, refused.reason, refused.detail, facts)
    # Decoders of damaged files raise whatever their authors did not foresee (OSError,
    # SyntaxError, struct.error, IndexError, zlib.error, MemoryError...). One file's damage must
    # not end a scan of a million, so all of it becomes that file's row, here and only here.
    except Exception as error:  # noqa: BLE001
        reason, detail = _explain(error, stream, size, facts, limits)
        if reason == "not_an_image" and _is_archive(stream, ref):
            detail = "an archive; --archives looks for pictures inside"
        if isinstance(error, OSError) and error.errno is not None:
            # The disk failed after it had given the bytes: this is no result of theirs.
            facts = replace(facts, sha256=None)
        return Failed(ref, reason, detail, facts)


def _kind(stream: BinaryIO, ref: ImageRef) -> str | None:
    """The format by content; None if its signature is too short, or of nothing known here."""
    stream.seek(0)
    head = stream.read(HEAD_BYTES)
    kind = sniff(head)
    if kind == "TIFF":
        return kind_of_tiff(stream, extension_of(ref))
    if extension_of(ref) == ".jxl" and head.startswith(JXL_CODESTREAM):
        return "JXL"
    return kind


def _is_archive(stream: BinaryIO, ref: ImageRef) -> bool:
    try:
        stream.seek(0)
        head = stream.read(HEAD_BYTES)
    except OSError:  # the disk's; the row tells what the decoder said
        return False
    # Inside of an archive, archives are not looked into.
    return ref.member is None and archive_kind(ref.path.name, head) is not None


def _with_webp_size(stream: BinaryIO, facts: FileFacts) -> FileFacts:
    stream.seek(0)
    width, height = declared_size(stream.read(HEAD_BYTES)) or (None, None)
    return replace(facts, width=width, height=height)


def _facts(image: Image.Image, source: Source, ref: ImageRef, facts: FileFacts) -> FileFacts:
    width, height = stored_size(image)
    kind = facts.format or image.format
    notes = (*name_notes(ref, kind), *source.notes)
    return replace(facts, width=width, height=height, format=kind, notes=notes)


def _ends_early(error: Exception, stream: BinaryIO, size: int) -> bool:
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno is not None):
        return False
    try:
        return ends_early(stream, size) or "truncated" in str(error).lower()
    except OSError:  # the disk's; the row tells of the decoder's
        return False


def _cut_short(size: int, share: float = 0.0) -> str:
    rows = f"; only {share:.0%} of its rows could be decoded" if share else ""
    return f"the file ends before the picture does ({size} bytes){rows}"


def _explain(
    error: Exception, stream: BinaryIO, size: int, facts: FileFacts, limits: DecodeLimits
) -> tuple[Reason, str]:
    """What a codec's exception means for the user."""
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        declared = re.search(r"\d+", str(error))
        return "too_large", too_large(f"{declared[0] if declared else 'its'} pixels are", limits)
    if isinstance(error, MemoryError):
        return "too_large", NO_MEMORY
    if isinstance(error, OSError) and error.errno is not None:  # from the disk, not the codec
        return "unreadable", error.strerror or one_line(error)
    if facts.format is None:
        return "not_an_image", "the content is of no picture format that is known here"
    if _ends_early(error, stream, size):
        return "truncated", _cut_short(size)
    if isinstance(error, UnidentifiedImageError):
        return "unreadable", f"the {facts.format} header is damaged or of an unknown kind"
    return "unreadable", f"the {facts.format} decoder gave up: {one_line(error)}"
