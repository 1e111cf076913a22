"""What the markers of a JPEG say, without decoding it (ITU-T T.81, annex B)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
# Those that Pillow's libjpeg decodes: baseline, extended, progressive, and the arithmetic two.
_FRAMES = frozenset({0xC0, 0xC1, 0xC2, 0xC9, 0xCA})
_OTHER_FRAMES = frozenset({0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF})  # lossless, ...
_PROGRESSIVE = frozenset({0xC2, 0xCA})
_ALONE = frozenset({0x01, *range(0xD0, 0xD8)})  # markers without a length
_END = b"\xff\xd9"
_BLOCK = 1 << 16


@dataclass(frozen=True, slots=True)
class JpegHeader:
    """Of the frame and its first scan. `in_one_pass`: rows come out as they are read.

    Otherwise (progressive, or a scan for each component) libjpeg holds the whole picture, at up
    to six bytes for each pixel, before it hands out the first row.
    """

    width: int
    height: int
    in_one_pass: bool


def read_header(stream: BinaryIO, start: int = 0) -> JpegHeader | None:
    """Of the JPEG that begins at `start`; None if none does, or none that can be decoded."""
    stream.seek(start)
    if stream.read(2) != bytes((0xFF, _SOI)):
        return None
    frame: tuple[int, int, int, int] | None = None  # marker, width, height, components
    # Real files have dozens of segments; the bound keeps a hostile one from being walked for ever.
    for _ in range(4096):
        lead = stream.read(2)
        while lead == b"\xff\xff":  # padding
            lead = b"\xff" + stream.read(1)
        if len(lead) < 2 or lead[0] != 0xFF or lead[1] in _OTHER_FRAMES or lead[1] == _EOI:
            return None
        if lead[1] in _ALONE:
            continue
        length = int.from_bytes(stream.read(2), "big") - 2
        if length < 0:
            return None
        if lead[1] in _FRAMES:
            body = stream.read(length)
            if len(body) < 6:
                return None
            height, width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
            frame = lead[1], width, height, body[5]
        elif lead[1] == _SOS:
            scanned = stream.read(1)
            if frame is None or not scanned or not frame[1] or not frame[2]:
                return None
            marker, width, height, components = frame
            one_pass = marker not in _PROGRESSIVE and scanned[0] == components
            return JpegHeader(width, height, one_pass)
        else:
            stream.seek(length, 1)
    return None


def end_of_data(stream: BinaryIO, size: int) -> int:
    """Where the zeros begin that a broken download left at the end of a file; else `size`.

    Decoded, they are a smear and no error. Zeros after the picture's end mark do no harm.
    """
    at = size
    while at > 0:
        start = max(0, at - _BLOCK)
        stream.seek(start)
        rest = stream.read(at - start).rstrip(b"\0")
        at = start + len(rest)
        if rest:
            break
    if size - at < 64:  # the last bytes of a picture may well be zeros
        return size
    stream.seek(max(0, at - 2))
    return size if stream.read(2) == _END else at
