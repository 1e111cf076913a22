"""Camera raw without a usable preview, by LibRaw (the extra `imgscan[raw]`)."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, BinaryIO

from PIL import Image

from scanner.jpeg import read_header
from scanner.limits import DecodeLimits
from scanner.raw import is_enough
from scanner.reading import Source, jpeg_source, too_large
from scanner.refused import RefusedError
from scanner.text import printable

if TYPE_CHECKING:
    import rawpy

# LibRaw's "flip" as EXIF's orientation.
_FLIPS = {3: 3, 5: 8, 6: 6}


def develop(stream: BinaryIO, limits: DecodeLimits) -> Source:
    """The camera's JPEG if LibRaw finds one of enough size, else the sensor's data developed.

    Developed as the camera would at its own settings: its white balance, sRGB, 8 bits, no
    brightening by the picture's own values. Raises RefusedError, with the remedy, without rawpy
    and for what LibRaw does not know.
    """
    try:
        import rawpy
    except ImportError:
        raise RefusedError(
            "unsupported",
            "camera raw without an embedded JPEG of enough size; "
            "install imgscan[raw], or export it as JPEG, PNG or TIFF",
        ) from None
    stream.seek(0)
    try:
        with rawpy.imread(io.BytesIO(stream.read())) as raw:
            return _of(raw, limits)
    except rawpy.LibRawFileUnsupportedError:
        raise RefusedError(
            "unsupported", "LibRaw does not know this camera; export it as JPEG, PNG or TIFF"
        ) from None
    except rawpy.LibRawError as error:
        said = error.args[0] if error.args else ""
        text = said.decode("ascii", "replace") if isinstance(said, bytes) else str(said)
        raise RefusedError("unreadable", f"LibRaw gave up: {printable(text)}") from None


def _of(raw: rawpy.RawPy, limits: DecodeLimits) -> Source:
    import rawpy

    sizes = raw.sizes
    width, height = sizes.width, sizes.height
    if width * height > limits.max_pixels:
        raise RefusedError("too_large", too_large(f"{width} x {height} pixels are", limits))
    try:
        thumb = raw.extract_thumb()
    except rawpy.LibRawError:  # there is none, or none that LibRaw can read
        thumb = None
    if thumb is not None and thumb.format == rawpy.ThumbFormat.JPEG:
        data = bytes(thumb.data)
        header = read_header(io.BytesIO(data))
        if header and is_enough(header.width, header.height, max(width, height)):
            return jpeg_source(data, _FLIPS.get(sizes.flip, 1))
    rgb = raw.postprocess(use_camera_wb=True, no_auto_bright=True, output_bps=8)
    return Source(lambda: Image.fromarray(rgb))
