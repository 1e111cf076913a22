"""Facts and failures as the journal's columns, and back."""

from __future__ import annotations

from typing import Any, cast, get_args

from scanner.limits import DecodeLimits
from scanner.types import FileFacts, Note, Reason

# The file may be another, or the machine less busy, the next time; what is not here is a
# property of the file's bytes, and lasts as long as they do.
TRANSIENT: frozenset[Reason] = frozenset(
    ("permission", "vanished", "changed", "timeout", "crashed")
)
# Of these, what the bytes alone decide. The others hang on the file's name too: bytes that are
# a camera's raw data under one name are a TIFF under another.
OF_CONTENT: frozenset[Reason] = frozenset(("truncated", "too_large", "too_small", "unreadable"))
# Notes on the name, not on the bytes.
_OF_NAME: frozenset[Note] = frozenset(("extension_mismatch",))
_REASONS = frozenset(get_args(Reason))


def lasts(reason: Reason, facts: FileFacts, limits: DecodeLimits) -> bool:
    """Whether the file, unchanged as it is, would fail again in the same way."""
    match reason:
        case "unreadable":
            # Without a hash it was the disk, not a decoder: it did not give all of the bytes.
            return facts.sha256 is not None
        case "too_large":
            # Otherwise it was too large for the memory that there was.
            pixels = (facts.width or 0) * (facts.height or 0)
            return (facts.bytes or 0) > limits.max_bytes or pixels > limits.max_pixels
        case _:
            return reason not in TRANSIENT


def pack_sha256(sha256: str | None) -> bytes | None:
    """Hexadecimal to 32 bytes."""
    return None if sha256 is None else bytes.fromhex(sha256)


def pack_notes(notes: tuple[Note, ...]) -> str | None:
    """None for no notes, which are most."""
    return " ".join(notes) or None


def unpack_notes(text: str | None, *, of_name: bool = True) -> tuple[Note, ...]:
    """The notes; without `of_name` only those that belong to the content wherever it lies."""
    notes = cast("list[Note]", text.split()) if text else []
    return tuple(note for note in notes if of_name or note not in _OF_NAME)


def unpack_reason(text: str) -> Reason:
    """The reason; raises ValueError for what is none."""
    if text not in _REASONS:
        raise ValueError(f"unknown reason {text[:40]!r}")
    return cast(Reason, text)


def unpack_facts(
    width: Any, height: Any, kind: Any, size: Any, sha256: Any, mtime_ns: Any, notes: Any
) -> FileFacts:
    """The facts from their columns."""
    return FileFacts(
        width=width,
        height=height,
        format=kind,
        bytes=size,
        sha256=None if sha256 is None else sha256.hex(),
        mtime_ns=mtime_ns,
        notes=unpack_notes(notes),
    )
