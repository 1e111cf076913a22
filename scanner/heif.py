"""HEIF and HEIC by libheif (pi-heif, which can only decode)."""

from __future__ import annotations

import re
from typing import BinaryIO, cast

import pi_heif
from PIL import Image

from scanner.refused import RefusedError

# The picture is all that is wanted of a file. Set for pi-heif as a whole: it has no other way,
# and nothing else here uses it. Who decodes many files at once has a worker for each core.
pi_heif.options.THUMBNAILS = False
pi_heif.options.DEPTH_IMAGES = False
pi_heif.options.AUX_IMAGES = False
pi_heif.options.DECODE_THREADS = 1
# Items are listed before the data of the pictures.
_ITEMS_WITHIN = 2**20


def open_heif(stream: BinaryIO) -> Image.Image:
    """The primary image, not decoded yet; 8 bits a sample whatever the file has.

    It is upright once loaded: libheif applies the container's own rotation and mirroring, which
    by the standard (ISO/IEC 23008-12) alone count, and pi-heif sets EXIF's orientation to 1.
    Never registered with Pillow: `Image.open()` of this process stays what it was.
    """
    _check_items(stream)
    stream.seek(0)
    return cast(Image.Image, pi_heif.HeifImageFile(stream))


def _check_items(stream: BinaryIO) -> None:
    """Refuse items whose type or name is not text: pi-heif up to 1.4 crashes on them.

    It makes Python strings of them and does not look whether that succeeded.
    """
    stream.seek(0)
    head = stream.read(_ITEMS_WITHIN)
    for match in re.finditer(b"infe", head):
        end = match.start() - 4 + int.from_bytes(head[match.start() - 4 : match.start()], "big")
        # Version, flags, number and protection come first, in 8 bytes or (version 3) 10.
        start = match.end() + (10 if head[match.end() : match.end() + 1] == b"\3" else 8)
        try:
            head[start:end].decode("utf-8")
        except UnicodeDecodeError:
            raise RefusedError(
                "unreadable", "the HEIF header is damaged: an item's type is not text"
            ) from None
