"""One picture's stream to RGB, upright, at the scale that is enough for the model."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    IcoImagePlugin,
    Image,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from scanner.formats import RAW_FORMATS
from scanner.jpeg import read_header
from scanner.limits import DEFAULT_LIMITS, DecodeLimits
from scanner.pixels import to_rgb
from scanner.preprocess import PreprocessSpec, draft_side
from scanner.refused import RefusedError
from scanner.truncated import ENOUGH, decoded_rows
from scanner.turns import Turns
from scanner.types import Box, Note

MIN_SIDE = 16
# Pictures that take the decoder more pixels than this take turns, so that as many threads and
# processes as there are cores do not each hold a gigabyte.
_LARGE_PIXELS = 40_000_000
one_large_at_a_time = Turns()

# Nothing else is tried, whatever the content says: Pillow reads some forty formats, among them
# ones that start other programs (EPS) or take any file for theirs (TGA). The plugins are
# imported by name because Pillow would otherwise load all forty on first use.
_FORMATS = tuple(
    plugin.format
    for plugin in (
        JpegImagePlugin.JpegImageFile,
        PngImagePlugin.PngImageFile,
        WebPImagePlugin.WebPImageFile,
        GifImagePlugin.GifImageFile,
        TiffImagePlugin.TiffImageFile,
        BmpImagePlugin.BmpImageFile,
        AvifImagePlugin.AvifImageFile,
        Jpeg2KImagePlugin.Jpeg2KImageFile,
        PpmImagePlugin.PpmImageFile,
        IcoImagePlugin.IcoImageFile,
    )
)
# Who decodes many files at once has a worker for each core.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1

Image.MAX_IMAGE_PIXELS = DEFAULT_LIMITS.max_pixels
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
# glibc keeps what threads free in blocks of Pillow's usual 16 MB, and gives back blocks of 64:
# four workers over 200-megapixel PNGs came to 2.3 GB with the one and 0.8 GB with the other.
Image.core.set_block_size(64 * 1024 * 1024)  # type: ignore[attr-defined]

# EXIF orientation: what undoes it, and whether that swaps the axes, then mirrors x, then y.
_UPRIGHT = {
    2: (Image.Transpose.FLIP_LEFT_RIGHT, False, True, False),
    3: (Image.Transpose.ROTATE_180, False, True, True),
    4: (Image.Transpose.FLIP_TOP_BOTTOM, False, False, True),
    5: (Image.Transpose.TRANSPOSE, True, False, False),
    6: (Image.Transpose.ROTATE_270, True, True, False),
    7: (Image.Transpose.TRANSVERSE, True, True, True),
    8: (Image.Transpose.ROTATE_90, True, False, True),
}

_Rgb: TypeAlias = tuple[npt.NDArray[np.uint8], Box | None]


@dataclass(frozen=True, slots=True)
class Source:
    """Where a file's picture comes from: `open` gives it anew, not decoded.

    `orientation` is what the file says of a picture that says none of its own (0: nothing).
    `in_one_pass` is false of a JPEG that is held whole while it is decoded.
    """

    open: Callable[[], Image.Image]
    notes: tuple[Note, ...] = ()
    orientation: int = 0
    in_one_pass: bool = True


def source_of(stream: BinaryIO, size: int, kind: str | None, limits: DecodeLimits) -> Source:
    """Of the stream of `size` bytes, of the format `kind` (None: not known by its signature).

    Raises RefusedError for a camera raw file without a picture that can be had.
    """
    if kind in RAW_FORMATS or kind == "RAW":
        return _raw_source(stream, size, kind, limits)
    if kind == "HEIF":
        from scanner.heif import open_heif  # a scan without such files does without libheif

        return Source(partial(_at_start, stream, open_heif))
    one_pass = True
    if kind == "JPEG":
        header = read_header(stream)
        one_pass = header is None or header.in_one_pass
    return Source(partial(_at_start, stream, _open_by_pillow), in_one_pass=one_pass)


def _raw_source(stream: BinaryIO, size: int, kind: str, limits: DecodeLimits) -> Source:
    from scanner.raw import find_preview

    preview = find_preview(stream, size, kind)
    if preview is None:
        from scanner.develop import develop

        return develop(stream, limits)
    stream.seek(preview.offset)
    return jpeg_source(stream.read(preview.length), preview.orientation)


def jpeg_source(data: bytes, orientation: int) -> Source:
    """A JPEG that was found in a camera raw file."""
    header = read_header(io.BytesIO(data))
    return Source(
        lambda: Image.open(io.BytesIO(data), formats=("JPEG",)),
        ("embedded_preview",),
        orientation,
        header is None or header.in_one_pass,
    )


def _at_start(stream: BinaryIO, opened: Callable[[BinaryIO], Image.Image]) -> Image.Image:
    stream.seek(0)
    return opened(stream)


def _open_by_pillow(stream: BinaryIO) -> Image.Image:
    return Image.open(stream, formats=_FORMATS)


def stored_size(image: Image.Image) -> tuple[int, int]:
    """Width and height in pixels, before any EXIF orientation."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        # Pillow gives a turned TIFF's size as it will be after turning.
        return int(image.tag_v2[256]), int(image.tag_v2[257])
    return image.size


def read(image: Image.Image, source: Source, spec: PreprocessSpec, limits: DecodeLimits) -> _Rgb:
    """`image`, which `source` opened, decoded: `Pixels.rgb` and `Pixels.box`."""
    width, height = image.size
    _check_size(width, height, limits)
    scale = _draft(image, spec)
    held = image.width * image.height if source.in_one_pass else width * height
    with one_large_at_a_time if held > _LARGE_PIXELS else nullcontext():
        rgb = to_rgb(image)
        if scale == 1:
            # Damaged HEIF files, and icons, turn out to be of another size once decoded.
            width, height = rgb.size
            _check_size(width, height, limits)
        orientation = _orientation(image) or source.orientation
        return _upright(rgb, orientation, (width, height), scale, spec)


def read_part(source: Source, spec: PreprocessSpec) -> tuple[_Rgb | None, float]:
    """What there is of a picture whose file ends early, and its share of the rows.

    At least `ENOUGH` of them, or nothing: the complete rows are cut out, what lies beyond them
    is no picture. Nothing either of what the decoder only hands out as a whole, and of what
    would take too much memory twice.
    """
    scale, size = 1, (0, 0)

    def opened() -> Image.Image:
        nonlocal scale, size
        image = source.open()
        size = image.size
        scale = _draft(image, spec)
        return image

    with opened() as image:
        if not source.in_one_pass or image.width * image.height > _LARGE_PIXELS:
            return None, 0.0
        orientation = _orientation(image) or source.orientation
    found = decoded_rows(opened)
    if found is None:
        return None, 0.0
    image, rows = found
    share = len(rows) / image.height
    if share < ENOUGH or len(rows) * scale < MIN_SIDE:
        return None, share
    rgb = to_rgb(image).crop((0, rows.start, image.width, rows.stop))
    # The last row of all may stand for a part of one.
    whole = size[1] if rows.stop == image.height else rows.stop * scale
    size = size[0], whole - rows.start * scale
    return _upright(rgb, orientation, size, scale, spec), share


def _check_size(width: int, height: int, limits: DecodeLimits) -> None:
    if width * height > limits.max_pixels:
        raise RefusedError("too_large", too_large(f"{width} x {height} pixels are", limits))
    if min(width, height) < MIN_SIDE:
        raise RefusedError("too_small", f"{width} x {height}: a side is under {MIN_SIDE} pixels")


def too_large(what: str, limits: DecodeLimits) -> str:
    """The detail of a picture of too many pixels."""
    return (
        f"{what} more than the limit of {limits.max_pixels:,}; "
        "raise --max-pixels or save it at a smaller size to scan it"
    )


def _draft(image: Image.Image, spec: PreprocessSpec) -> int:
    """Let a JPEG come at the smallest scale that is enough; by what it is divided."""
    if not isinstance(image, JpegImagePlugin.JpegImageFile):
        return 1
    width, height = image.size
    scale = _reduction(image.size, draft_side(spec), (8, 4, 2))
    # Asked for this size, Pillow chooses exactly this scale.
    image.draft(None, (width // scale, height // scale))
    return scale


def _reduction(size: tuple[int, int], side: int, factors: Iterable[int]) -> int:
    """The first of `factors` that leaves the short side at `side` pixels or more; else 1."""
    return next((factor for factor in factors if min(size) >= factor * side), 1)


def _orientation(image: Image.Image) -> int:
    """EXIF's, 0 where it says nothing."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 0))
    except Exception:  # noqa: BLE001 - part of the codec: a broken EXIF block leaves the picture whole
        return 0


def _upright(
    rgb: Image.Image, orientation: int, size: tuple[int, int], scale: int, spec: PreprocessSpec
) -> _Rgb:
    """`rgb` is of a picture of `size` at 1/`scale`, not turned yet."""
    width, height = size
    if rgb.width * rgb.height > _LARGE_PIXELS:
        factor = _reduction(rgb.size, 2 * draft_side(spec), range(64, 1, -1))
        rgb = rgb.reduce(factor)
        scale *= factor
    # The last column and row of a scaled picture may stand for fewer pixels than the others.
    # Unless that is carried along, the picture comes out stretched by up to half a pixel.
    spare_x, spare_y = rgb.width - width / scale, rgb.height - height / scale
    mirror_x = mirror_y = False
    if orientation in _UPRIGHT:
        method, swap, mirror_x, mirror_y = _UPRIGHT[orientation]
        rgb = rgb.transpose(method)
        if swap:
            spare_x, spare_y = spare_y, spare_x
    box = None
    if spare_x or spare_y:
        left, top = spare_x * mirror_x, spare_y * mirror_y
        box = (left, top, left + rgb.width - spare_x, top + rgb.height - spare_y)
    return np.asarray(rgb), box
