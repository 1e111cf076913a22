"""Files to pixels: `decode()` for a path, `decode_stream()` for what is already open.

Training and scanning both read pictures through here.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
import warnings
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, BinaryIO, TypeVar, cast, overload

import numpy as np
import numpy.typing as npt
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    IcoImagePlugin,
    Image,
    ImageCms,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from scanner.find import failed_to_open, find_images, open_regular
from scanner.formats import (
    HEAD_BYTES,
    JXL_CODESTREAM,
    KNOWN_EXTENSIONS,
    RAW_EXTENSIONS,
    REMEDIES,
    ends_early,
    sniff,
)
from scanner.limits import DEFAULT_LIMITS, DecodeLimits
from scanner.preprocess import PreprocessSpec, draft_side
from scanner.text import one_line
from scanner.types import Box, Failed, FileFacts, ImageRef, Pixels, Reason

__all__ = [
    "KNOWN_EXTENSIONS",
    "MIN_SIDE",
    "decode",
    "decode_stream",
    "find_images",
]

T = TypeVar("T")

MIN_SIDE = 16
# Files of more bytes than this, and pictures that take the decoder more pixels, take turns, so
# that as many workers as there are cores do not each hold a gigabyte.
_LARGE_BYTES = 64 * 2**20
_LARGE_PIXELS = 40_000_000
_one_large_at_a_time = threading.RLock()

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


class _RefusedError(Exception):
    """A picture that is understood and not decoded, with the row's reason and detail."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason: Reason = reason
        self.detail = detail


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

    `known` is asked once the file's hash, size and time of change are known: what it answers,
    unless None, is the result, and nothing is decoded. A file that is written to meanwhile is
    `changed`, whatever came of it. Never raises for what the file holds.
    """
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
    size_bytes = facts.bytes or 0
    # Pillow then refuses twice this by itself, also for frames and tiles whose size the header
    # does not tell, and warns from once this, where `_read()` refuses. It is a global, which is
    # no harm as long as all that decode in one process share their limits.
    Image.MAX_IMAGE_PIXELS = limits.max_pixels
    try:
        # Files that a system makes up as they are read (/proc) are of no size and yet not empty.
        if size_bytes == 0 and not stream.read(1):
            raise _RefusedError("empty", "the file has no bytes")
        if size_bytes > limits.max_bytes:  # before its bytes are read, which may take minutes
            raise _RefusedError(
                "too_large",
                f"{size_bytes:,} bytes are more than the limit of {limits.max_bytes:,}; "
                "save it at a smaller size to scan it",
            )
        stream.seek(0)
        facts = replace(facts, sha256=hashlib.file_digest(cast(Any, stream), "sha256").hexdigest())
        answer = None if known is None else known(facts)
        if answer is not None:
            return answer
        stream.seek(0)
        head = stream.read(HEAD_BYTES)
        facts = replace(facts, format=sniff(head))
        _refuse_undecoded(ref, head)
        stream.seek(0)
        with (
            _one_large_at_a_time if size_bytes > _LARGE_BYTES else nullcontext(),
            Image.open(stream, formats=_FORMATS) as image,
        ):
            facts = _facts(image, facts)
            _refuse_preview(image)
            rgb, box = _read(image, spec, limits)
            return Pixels(ref, rgb, facts, box)
    except _RefusedError as refused:
        return Failed(ref, refused.reason, refused.detail, facts)
    # Decoders of damaged files raise whatever their authors did not foresee (OSError,
    # SyntaxError, struct.error, IndexError, zlib.error, MemoryError...). One file's damage must
    # not end a scan of a million, so all of it becomes that file's row, here and only here.
    except Exception as error:  # noqa: BLE001
        reason, detail = _explain(error, stream, size_bytes, facts, limits)
        return Failed(ref, reason, detail, facts)


def _refuse_undecoded(ref: ImageRef, head: bytes) -> None:
    kind = sniff(head)
    extension = ref.path.suffix.lower()
    if kind in (None, "TIFF") and extension in RAW_EXTENSIONS:
        kind = "RAW"
    if extension == ".jxl" and head.startswith(JXL_CODESTREAM):
        kind = "JXL"
    if kind in REMEDIES:
        raise _RefusedError("unsupported", REMEDIES[kind])


def _refuse_preview(image: Image.Image) -> None:
    """Camera raw files whatever they are called: the first image of most is a small preview."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return
    tags = image.tag_v2
    # DNGVersion; or "a smaller version of another image" in the file, in a folder of images.
    if 50706 in tags or (int(tags.get(254, 0)) & 1 and 330 in tags):
        raise _RefusedError("unsupported", REMEDIES["RAW"])


def _facts(image: Image.Image, facts: FileFacts) -> FileFacts:
    width, height = image.size
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        # Pillow gives a turned TIFF's size as it will be after turning.
        width, height = int(image.tag_v2[256]), int(image.tag_v2[257])
    # MPO is a JPEG with more JPEGs behind it, of which the first counts.
    kind = "JPEG" if image.format == "MPO" else image.format
    return replace(facts, width=width, height=height, format=kind)


def _read(
    image: Image.Image, spec: PreprocessSpec, limits: DecodeLimits
) -> tuple[npt.NDArray[np.uint8], Box | None]:
    width, height = image.size
    if width * height > limits.max_pixels:
        raise _RefusedError("too_large", _too_large(f"{width} x {height} pixels are", limits))
    if min(width, height) < MIN_SIDE:
        raise _RefusedError("too_small", f"{width} x {height}: a side is under {MIN_SIDE} pixels")
    scale = 1
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        scale = _reduction(image.size, draft_side(spec), (8, 4, 2))
        # Asked for this size, Pillow chooses exactly this scale.
        image.draft(None, (width // scale, height // scale))
    # A progressive JPEG is held at full size whatever the scale it comes out at.
    held = width * height if image.info.get("progressive") else image.width * image.height
    with _one_large_at_a_time if held > _LARGE_PIXELS else nullcontext():
        rgb = _rgb(image)
        if rgb.width * rgb.height > _LARGE_PIXELS:
            factor = _reduction(rgb.size, 2 * draft_side(spec), range(64, 1, -1))
            rgb = rgb.reduce(factor)
            scale *= factor
    # The last column and row of a scaled picture may stand for fewer pixels than the others.
    # Unless that is carried along, the picture comes out stretched by up to half a pixel.
    spare_x, spare_y = rgb.width - width / scale, rgb.height - height / scale
    mirror_x = mirror_y = False
    orientation = _orientation(image)
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


def _reduction(size: tuple[int, int], side: int, factors: Iterable[int]) -> int:
    """The first of `factors` that leaves the short side at `side` pixels or more; else 1."""
    return next((factor for factor in factors if min(size) >= factor * side), 1)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # noqa: BLE001 - part of the codec: a broken EXIF block leaves the picture whole
        return 1


def _rgb(image: Image.Image) -> Image.Image:
    """Any mode to RGB, by constants of the format and never of the picture's own values."""
    image.load()
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        return _from_wide(image).convert("RGB")
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
        assert converted is not None  # it is None only for in-place conversion
        return converted
    if image.mode in ("La", "RGBa"):  # colours already multiplied by alpha
        image = image.convert(image.mode.upper())
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        white.alpha_composite(rgba)
        return white.convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")  # a conversion copies


def _from_wide(image: Image.Image) -> Image.Image:
    """Greyscale of more than 8 bits to 8."""
    highest, inverted = 65535, False
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        # 16-bit unsigned samples have a known white; signed, 32-bit and float ones do not.
        if image.mode in ("I", "F"):
            bits = image.tag_v2.get(258, ("?",))[0]
            raise _RefusedError(
                "unsupported",
                f"{bits}-bit samples without a defined white; export it as 8 or 16 bit",
            )
        highest = 2 ** int(image.tag_v2.get(258, (16,))[0]) - 1
        inverted = image.tag_v2.get(262) == 0  # "white is zero", which Pillow ignores here
    elif image.mode == "F":
        raise _RefusedError("unsupported", "floating-point samples; export it as 8 or 16 bit")
    wide = np.asarray(image).astype(np.uint32)
    grey = ((wide * 255 + highest // 2) // highest).clip(0, 255).astype(np.uint8)
    clear = image.info.get("transparency")  # of a PNG: one grey, in its own 16 bits
    if isinstance(clear, int):
        grey[wide == clear] = 255
    return Image.fromarray(255 - grey if inverted else grey)


def _too_large(what: str, limits: DecodeLimits) -> str:
    return (
        f"{what} more than the limit of {limits.max_pixels:,}; "
        "raise --max-pixels or save it at a smaller size to scan it"
    )


def _explain(
    error: Exception, stream: BinaryIO, size: int, facts: FileFacts, limits: DecodeLimits
) -> tuple[Reason, str]:
    """What a codec's exception means for the user."""
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        declared = re.search(r"\d+", str(error))
        return "too_large", _too_large(f"{declared[0] if declared else 'its'} pixels are", limits)
    if isinstance(error, MemoryError):
        return "too_large", "there is not enough memory to decode it"
    if isinstance(error, OSError) and error.errno is not None:  # from the disk, not the codec
        return "unreadable", error.strerror or one_line(error)
    if facts.format is None:
        return "not_an_image", "the content is of no picture format that is known here"
    try:
        early = ends_early(stream, size)
    except OSError:
        early = False
    if early or "truncated" in str(error).lower():
        return "truncated", f"the file ends before the picture does ({size} bytes)"
    if isinstance(error, UnidentifiedImageError):
        return "unreadable", f"the {facts.format} header is damaged or of an unknown kind"
    return "unreadable", f"the {facts.format} decoder gave up: {one_line(error)}"
