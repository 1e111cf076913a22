"""The folders of tags (IFDs) of a TIFF or of a camera raw file that is built like one.

Only what scanner.raw asks for. Every number read is taken for hostile: counts are bounded, no
folder is read twice, and nothing is read beyond the file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

_MAX_FOLDERS = 64
_MAX_ENTRIES = 1024
_MAX_VALUES = 64
# TIFF 6.0, section 2, and IFD (13) from its supplement.
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I"}

_SUB_IFDS, _EXIF_IFD = 330, 34665


@dataclass(frozen=True, slots=True)
class Entry:
    """One tag: its type, how many values, and where in the file they stand."""

    kind: int
    count: int
    offset: int


@dataclass(frozen=True, slots=True)
class Folder:
    """The tags of one IFD."""

    stream: BinaryIO
    order: str  # "<" or ">", as struct has it
    entries: dict[int, Entry]

    def ints(self, tag: int, most: int = _MAX_VALUES) -> tuple[int, ...]:
        """The values of a tag of whole numbers; none for any other, or for more than `most`."""
        entry = self.entries.get(tag)
        if entry is None or entry.kind not in _INTEGERS or entry.count > most:
            return ()
        layout = f"{self.order}{entry.count}{_INTEGERS[entry.kind]}"
        self.stream.seek(entry.offset)
        raw = self.stream.read(struct.calcsize(layout))
        return struct.unpack(layout, raw) if len(raw) == struct.calcsize(layout) else ()

    def number(self, tag: int) -> int | None:
        """The first value, or None."""
        return next(iter(self.ints(tag)), None)

    def text(self, tag: int) -> str:
        """At most 64 characters of a tag of text."""
        entry = self.entries.get(tag)
        if entry is None or entry.kind != 2:
            return ""
        self.stream.seek(entry.offset)
        raw = self.stream.read(min(entry.count, _MAX_VALUES))
        return raw.split(b"\0")[0].decode("ascii", "replace")


def byte_order(head: bytes) -> str | None:
    """ "<" or ">" of the file that begins with `head`; None if it is not built like a TIFF."""
    return {b"II": "<", b"MM": ">"}.get(bytes(head[:2]))


def read_folders(stream: BinaryIO) -> list[Folder]:
    """The main folders, each followed by those below it: sub-images and EXIF.

    Empty where the head is not a TIFF's. Version numbers other than 42 (Olympus', Panasonic's)
    are accepted; the 64-bit BigTIFF is not.
    """
    stream.seek(0)
    head = stream.read(8)
    order = byte_order(head)
    if order is None or len(head) < 8:
        return []
    return list(_folders(stream, order, struct.unpack(order + "I", head[4:])[0], 0, set()))


def read_folder(stream: BinaryIO, order: str, at: int, base: int = 0) -> tuple[Folder, int]:
    """The folder at `at`, and where the next one is (0: nowhere). Offsets count from `base`."""
    stream.seek(at)
    raw = stream.read(2)
    count = struct.unpack(order + "H", raw)[0] if len(raw) == 2 else 0
    if count > _MAX_ENTRIES:
        return Folder(stream, order, {}), 0
    table = stream.read(12 * count + 4)
    entries: dict[int, Entry] = {}
    for i in range(len(table) // 12):
        tag, kind, values, where = struct.unpack_from(order + "HHII", table, 12 * i)
        if kind in _SIZES and values:
            inside = _SIZES[kind] * values <= 4
            entries[tag] = Entry(kind, values, at + 2 + 12 * i + 8 if inside else base + where)
    following = table[12 * count : 12 * count + 4]
    after = struct.unpack(order + "I", following)[0] if len(following) == 4 else 0
    return Folder(stream, order, entries), after


def _folders(stream: BinaryIO, order: str, at: int, depth: int, seen: set[int]) -> Iterator[Folder]:
    while at and at not in seen and len(seen) < _MAX_FOLDERS:
        seen.add(at)
        folder, at = read_folder(stream, order, at)
        yield folder
        if depth < 2:
            for below in (*folder.ints(_SUB_IFDS), *folder.ints(_EXIF_IFD)):
                yield from _folders(stream, order, below, depth + 1, seen)
