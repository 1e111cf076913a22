"""HEIF and HEIC by libheif (pi-heif, which can only decode)."""

from __future__ import annotations

from typing import BinaryIO, cast

import pi_heif
from PIL import Image

# The picture is all that is wanted of a file. Set for pi-heif as a whole: it has no other way,
# and nothing else here uses it. Who decodes many files at once has a worker for each core.
pi_heif.options.THUMBNAILS = False
pi_heif.options.DEPTH_IMAGES = False
pi_heif.options.AUX_IMAGES = False
pi_heif.options.DECODE_THREADS = 1


def open_heif(stream: BinaryIO) -> Image.Image:
    """The primary image, not decoded yet; 8 bits a sample whatever the file has.

    It is upright once loaded: libheif applies the container's own rotation and mirroring, which
    by the standard (ISO/IEC 23008-12) alone count, and pi-heif sets EXIF's orientation to 1.
    Never registered with Pillow: `Image.open()` of this process stays what it was.
    """
    return cast(Image.Image, pi_heif.HeifImageFile(stream))
