"""Camera raw: which kind a file is, and the JPEG that the camera put inside.

What the sensor saw is not a picture yet: each converter makes another one of it. The camera's own
is in the file, and is what people see of it. Where the layouts are from: TIFF 6.0 and DNG 1.7 for
DNG, NEF, ARW, CR2, PEF and SRW; exiftool's documented tags for the makers' own (RW2's JpgFromRaw,
Olympus' CameraSettings, Fuji's header, Canon's PRVW box).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from scanner.formats import EXTENSIONS, RAW_FORMATS
from scanner.jpeg import read_header
from scanner.refused import RefusedError
from scanner.tiff import Folder, byte_order, read_folder, read_folders

_SUBFILE, _WIDTH, _HEIGHT, _COMPRESSION, _PHOTOMETRIC, _MAKE = 254, 256, 257, 259, 262, 271
_STRIPS, _STRIP_BYTES, _ORIENTATION, _SUB_IFDS = 273, 279, 274, 330
_JPEG_AT, _JPEG_BYTES, _MAKER_NOTE, _DNG_VERSION = 513, 514, 37500, 50706
_JPG_FROM_RAW, _SENSOR_WIDTH, _SENSOR_HEIGHT = 0x2E, 2, 3  # Panasonic's
_CAMERA_SETTINGS, _PREVIEW_AT, _PREVIEW_BYTES = 0x2020, 0x101, 0x102  # Olympus'

_SENSOR_DATA = frozenset({32803, 34892})  # photometric: a colour filter's mosaic, linear raw
_MAKERS_PACKING = {34713: "NEF", 32767: "ARW", 65535: "PEF", 32770: "SRW", 32772: "SRW"}
_MAKERS = {
    "NIKON": "NEF", "SONY": "ARW", "PENTAX": "PEF", "RICOH": "PEF", "SAMSUNG": "SRW",
    "CANON": "CR2", "OLYMPUS": "ORF", "OM DIGITAL": "ORF", "PANASONIC": "RW2",
}  # fmt: skip
_CR3_BOX = bytes.fromhex("eaf42b5e1c984b88b9fbb7dc406e4d16")

# A preview of fewer pixels is a thumbnail: what tells generated pictures from others is gone.
MIN_LONG_SIDE = 1000
MIN_PART_OF_SENSOR = 1 / 4


@dataclass(frozen=True, slots=True)
class Preview:
    """Where the JPEG lies, its size in pixels, and the orientation (EXIF) of the raw file."""

    offset: int
    length: int
    width: int
    height: int
    orientation: int = 1


def kind_of_tiff(stream: BinaryIO, extension: str) -> str:
    """The raw format of a file with a TIFF's signature; "RAW" if of no known maker; else "TIFF".

    A file named as raw is believed to be: that it does not look like one may mean that its maker
    did it in a way not known here, and its first image would be taken for the photograph.
    """
    folders = read_folders(stream)
    if folders and _DNG_VERSION in folders[0].entries:
        return "DNG"
    packing = (_MAKERS_PACKING.get(folder.number(_COMPRESSION) or 0) for folder in folders)
    packed = next((kind for kind in packing if kind), None)
    if packed or any(folder.number(_PHOTOMETRIC) in _SENSOR_DATA for folder in folders):
        make = folders[0].text(_MAKE).upper()
        named = next((kind for name, kind in _MAKERS.items() if make.startswith(name)), None)
        return named or packed or "RAW"
    for kind in RAW_FORMATS:
        if extension in EXTENSIONS[kind]:
            return kind
    # "A smaller version of another image" of the file, in a folder of images.
    if folders and (folders[0].number(_SUBFILE) or 0) & 1 and _SUB_IFDS in folders[0].entries:
        return "RAW"
    return "TIFF"


def find_preview(stream: BinaryIO, size: int, kind: str) -> Preview | None:
    """The largest JPEG in the raw file of the format `kind`; None without one of enough size.

    Raises RefusedError where a JPEG should be that lies beyond the end of the file.
    """
    sensor = orientation = 0
    match kind:
        case "RAF":
            places = _fuji(stream)
        case "CR3":
            places = _canon(stream, size)
        case _:
            folders = read_folders(stream)
            places = (place for folder in folders for place in _places(folder))
            sides = (_WIDTH, _HEIGHT, _SENSOR_WIDTH, _SENSOR_HEIGHT)
            sensor = max(
                (folder.number(tag) or 0 for folder in folders for tag in sides), default=0
            )
            orientation = (folders[0].number(_ORIENTATION) or 0) if folders else 0
    best: Preview | None = None
    cut = False
    for offset, length in places:
        if offset + length > size:
            cut = True
            continue
        header = read_header(stream, offset)
        if header and (best is None or header.width * header.height > best.width * best.height):
            best = Preview(offset, length, header.width, header.height, orientation or 1)
    if best and is_enough(best.width, best.height, sensor):
        return best
    if cut:
        raise RefusedError("truncated", f"the file ends before its picture does ({size} bytes)")
    return None


def is_enough(width: int, height: int, sensor_long_side: int) -> bool:
    """Whether a preview of this size stands for its photograph; 0 for a sensor not known."""
    long = max(width, height)
    return long >= MIN_LONG_SIDE or 0 < sensor_long_side * MIN_PART_OF_SENSOR <= long


def _places(folder: Folder) -> Iterator[tuple[int, int]]:
    """(offset, length) of what this folder says is a JPEG."""
    at, length = folder.number(_JPEG_AT), folder.number(_JPEG_BYTES)
    if at and length:
        yield at, length
    strips, lengths = folder.ints(_STRIPS), folder.ints(_STRIP_BYTES)
    packed = folder.number(_COMPRESSION) in (
        6,
        7,
    )  # JPEG, which for sensor data is the lossless one
    if packed and len(strips) == len(lengths) == 1:
        yield strips[0], lengths[0]
    panasonic = folder.entries.get(_JPG_FROM_RAW)
    if panasonic and panasonic.kind == 7:
        yield panasonic.offset, panasonic.count
    note = folder.entries.get(_MAKER_NOTE)
    if note:
        yield from _olympus(folder.stream, note.offset)


def _olympus(stream: BinaryIO, start: int) -> Iterator[tuple[int, int]]:
    """From the maker note at `start`, in which offsets count from its own beginning."""
    stream.seek(start)
    head = stream.read(16)
    for magic, tags in ((b"OLYMPUS\0", 12), (b"OM SYSTEM\0\0\0", 16)):
        order = byte_order(head[len(magic) : len(magic) + 2])
        if not head.startswith(magic) or order is None:
            continue
        note, _ = read_folder(stream, order, start + tags, start)
        entry = note.entries.get(_CAMERA_SETTINGS)
        if entry is None:
            return
        below = note.number(_CAMERA_SETTINGS) if entry.kind in (4, 13) else None
        at = entry.offset if below is None else start + below
        settings, _ = read_folder(stream, order, at, start)
        offset, length = settings.number(_PREVIEW_AT), settings.number(_PREVIEW_BYTES)
        if offset and length:
            yield start + offset, length


def _fuji(stream: BinaryIO) -> Iterator[tuple[int, int]]:
    stream.seek(84)
    where = stream.read(8)
    yield int.from_bytes(where[:4], "big"), int.from_bytes(where[4:], "big")


def _canon(stream: BinaryIO, size: int) -> Iterator[tuple[int, int]]:
    """From the PRVW box of a CR3: 1620 pixels wide in those there are."""
    for start, end, name in _boxes(stream, 0, size):
        if name != b"uuid":
            continue
        stream.seek(start)
        if stream.read(16) != _CR3_BOX:
            continue
        for inner, _, inner_name in _boxes(stream, start + 24, end):
            if inner_name == b"PRVW":
                stream.seek(inner)
                length = int.from_bytes(stream.read(16)[12:], "big")
                yield inner + 16, length


def _boxes(stream: BinaryIO, at: int, end: int) -> Iterator[tuple[int, int, bytes]]:
    """(start of the content, end, name) of the ISO base media boxes from `at` to `end`."""
    for _ in range(64):
        if at + 8 > end:
            return
        stream.seek(at)
        head = stream.read(16)
        if len(head) < 8:
            return
        length, start = int.from_bytes(head[:4], "big"), at + 8
        if length == 1:
            length, start = int.from_bytes(head[8:16], "big"), at + 16
        stop = end if length == 0 else at + length
        if stop < start:
            return
        yield start, stop, head[4:8]
        at = stop
