"""Small camera raw files of every layout that scanner.raw knows, made from nothing.

No camera wrote them: they have the structure (tags, folders, boxes) and a JPEG of ours, and show
that what is looked for is found where it stands. Only the DNG has sensor data that LibRaw develops.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

_BYTE, _ASCII, _SHORT, _LONG, _UNDEFINED, _SRATIONAL = 1, 2, 3, 4, 7, 10

_MAKES = {
    "NEF": "NIKON CORPORATION",
    "ARW": "SONY",
    "PEF": "PENTAX",
    "SRW": "SAMSUNG",
    "CR2": "Canon",
    "ORF": "OLYMPUS CORPORATION",
    "RW2": "Panasonic",
}

Value = bytes | str | int | tuple[int, ...]


class Tiff:
    """A TIFF in the making: blocks and folders are appended, and told by where they begin."""

    def __init__(self, magic: bytes = b"II*\0") -> None:
        self.order = "<" if magic[:2] == b"II" else ">"
        self.data = bytearray(magic + bytes(4))

    def block(self, content: bytes) -> int:
        """Append `content` at an even offset, which is returned."""
        self.data += bytes(len(self.data) % 2)
        at = len(self.data)
        self.data += content
        return at

    def folder(self, tags: Mapping[int, Value], after: int = 0, base: int = 0) -> int:
        """An IFD of `tags`; `after` is where the next one is. Offsets count from `base`."""
        entries = b""
        for tag, value in sorted(tags.items()):
            if isinstance(value, bytes):
                kind, count, raw = _UNDEFINED, len(value), value
            elif isinstance(value, str):
                kind, raw = _ASCII, value.encode() + b"\0"
                count = len(raw)
            else:
                numbers = (value,) if isinstance(value, int) else value
                kind, count = _LONG, len(numbers)
                raw = struct.pack(f"{self.order}{count}I", *numbers)
            where = raw.ljust(4, b"\0")
            if len(raw) > 4:
                where = struct.pack(self.order + "I", self.block(raw) - base)
            entries += struct.pack(self.order + "HHI", tag, kind, count) + where
        head = struct.pack(self.order + "H", len(tags))
        return self.block(head + entries + struct.pack(self.order + "I", after))

    def done(self, first: int) -> bytes:
        """The file whose first folder is at `first`."""
        self.data[4:8] = struct.pack(self.order + "I", first)
        return bytes(self.data)


def raw_file(kind: str, jpeg: bytes, *, orientation: int = 1, sensor: int = 4000) -> bytes:
    """A file of the raw format `kind` with `jpeg` as its preview and a sensor of that long side."""
    if kind == "RAF":
        head = b"FUJIFILMCCD-RAW 0201".ljust(84, b"\0")
        return head + struct.pack(">II", 92, len(jpeg)) + jpeg
    if kind == "CR3":
        return _cr3(jpeg)
    magic = {"ORF": b"IIRO", "RW2": b"IIU\0"}.get(kind, b"MM\0*" if kind == "PEF" else b"II*\0")
    tiff = Tiff(magic)
    if kind == "CR2":
        tiff.data += b"CR\x02\0" + bytes(4)
        tiff.data[4:8] = struct.pack("<I", 16)
    if kind == "RW2":
        tiff.data += bytes(16)
    mosaic: dict[int, Value] = {
        256: sensor, 257: sensor * 3 // 4, 258: 14, 259: 1, 262: 32803, 273: 8, 279: 8,
    }  # fmt: skip
    at = tiff.block(jpeg) if kind != "ORF" else 0
    as_strip: dict[int, Value] = {254: 1, 259: 7, 262: 6, 273: at, 279: len(jpeg)}
    as_thumb: dict[int, Value] = {259: 6, 513: at, 514: len(jpeg)}
    first: dict[int, Value] = {271: _MAKES.get(kind, "Ours"), 274: orientation}
    match kind:
        case "DNG":
            first |= {50706: b"\1\4\0\0", 254: 1, 330: (tiff.folder(mosaic), tiff.folder(as_strip))}
        case "NEF" | "SRW":
            first |= {254: 1, 330: (tiff.folder(as_thumb), tiff.folder(mosaic))}
        case "ARW":
            first |= {254: 1, 330: tiff.folder(mosaic)} | as_thumb
        case "PEF":
            first |= mosaic
            return tiff.done(tiff.folder(first, after=tiff.folder(as_thumb)))
        case "CR2":
            first |= as_strip | {259: 6}
            return tiff.done(tiff.folder(first, after=tiff.folder(mosaic)))
        case "RW2":
            first |= {2: sensor, 3: sensor * 3 // 4, 0x2E: jpeg}
        case "ORF":
            note = tiff.block(b"OLYMPUS\0II\3\0" + bytes(2))  # the folder begins 12 after it
            del tiff.data[note + 12 :]
            # The settings lie behind the note's own folder of one entry (18 bytes).
            settings = note + 12 + 18
            tiff.data += struct.pack("<HHHIII", 1, 0x2020, 13, 1, settings - note, 0)
            behind = settings + 2 + 2 * 12 + 4
            tiff.folder({0x101: behind - note, 0x102: len(jpeg)}, base=note)
            tiff.data += jpeg
            size = len(tiff.data) - note
            exif = tiff.block(struct.pack("<HHHIII", 1, 37500, _UNDEFINED, size, note, 0))
            first |= mosaic | {34665: exif}
    return tiff.done(tiff.folder(first))


def sensor_dng(side: int = 64, level: int = 12000) -> bytes:
    """A DNG of an even grey in 16 bits, without any preview, that LibRaw can develop."""
    tiff = Tiff()
    at = tiff.block(struct.pack("<H", level) * side * side)
    matrix = tiff.block(struct.pack("<18i", *(n for i in range(9) for n in (int(i % 4 == 0), 1))))
    entries = [
        (254, _LONG, 1, struct.pack("<I", 0)),
        (256, _LONG, 1, struct.pack("<I", side)),
        (257, _LONG, 1, struct.pack("<I", side)),
        (258, _SHORT, 1, struct.pack("<HH", 16, 0)),
        (259, _SHORT, 1, struct.pack("<HH", 1, 0)),
        (262, _SHORT, 1, struct.pack("<HH", 32803, 0)),
        (271, _ASCII, 4, b"Our\0"),
        (272, _ASCII, 4, b"Cam\0"),
        (273, _LONG, 1, struct.pack("<I", at)),
        (274, _SHORT, 1, struct.pack("<HH", 1, 0)),
        (277, _SHORT, 1, struct.pack("<HH", 1, 0)),
        (278, _LONG, 1, struct.pack("<I", side)),
        (279, _LONG, 1, struct.pack("<I", 2 * side * side)),
        (33421, _SHORT, 2, struct.pack("<HH", 2, 2)),
        (33422, _BYTE, 4, bytes((0, 1, 1, 2))),
        (50706, _BYTE, 4, bytes((1, 4, 0, 0))),
        (50708, _ASCII, 4, b"Our\0"),
        (50717, _LONG, 1, struct.pack("<I", 65535)),
        (50721, _SRATIONAL, 9, struct.pack("<I", matrix)),
    ]
    head = struct.pack("<H", len(entries))
    body = b"".join(struct.pack("<HHI", *entry[:3]) + entry[3] for entry in entries)
    return tiff.done(tiff.block(head + body + bytes(4)))


def _box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content) + 8) + name + content


def _cr3(jpeg: bytes) -> bytes:
    preview = _box(b"PRVW", bytes(12) + struct.pack(">I", len(jpeg)) + jpeg)
    uuid = bytes.fromhex("eaf42b5e1c984b88b9fbb7dc406e4d16")
    return (
        _box(b"ftyp", b"crx \0\0\0\1crx isom")
        + _box(b"moov", bytes(32))
        + _box(b"uuid", uuid + bytes(8) + preview)
        + _box(b"mdat", bytes(64))
    )
