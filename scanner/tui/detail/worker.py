"""What runs in a process of its own: a file to what the panel shows of it."""

from __future__ import annotations

import signal
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from PIL import Image

from scanner import workers
from scanner.images import decode
from scanner.limits import DecodeLimits, Limits, default_memory_mb
from scanner.preprocess import PreprocessSpec, resized_squares
from scanner.tui.detail.exif import read_exif
from scanner.types import Failed, FileFacts, ImageRef, Pixels
from scanner.workers import Setup

Bytes = npt.NDArray[np.uint8]

# Longest side of a preview: more than a terminal shows, and 5 MB at most.
PREVIEW_SIDE = 1280
# What is decoded at full size, to look at its pixels: 0.3 GB.
MAX_FULL_PIXELS = 100_000_000
# Of the largest size there is, so that a JPEG comes as it is and not at a reduced scale.
_FULL = PreprocessSpec(size=2048)


@dataclass(frozen=True, slots=True)
class Loaded:
    """`rgb` is uint8 [H, W, 3], upright, at most PREVIEW_SIDE long; `squares` is what the model
    sees, uint8 [V, S, S, 3]; `exif` is (label, value) in the order to show, as the file has it.
    """

    rgb: Bytes
    squares: Bytes
    facts: FileFacts
    exif: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Crop:
    """A part of a picture: `box` is left, top, width and height in pixels of the upright
    picture, which is of `size` (width, height); `rgb`, uint8 [h, w, 3], may be smaller.
    """

    rgb: Bytes
    box: tuple[int, int, int, int]
    size: tuple[int, int]


_latest: tuple[ImageRef, Bytes] | None = None


def start(spec: PreprocessSpec) -> None:
    """Make this process a worker, limited as those of a scan are."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the app
    workers.start(Setup(spec, Limits(workers=1, memory_mb=default_memory_mb(1))))


def load(ref: ImageRef, spec: PreprocessSpec) -> Loaded | Failed:
    """The picture as the panel shows it and as the model sees it."""
    pixels = decode(ref, spec)
    if isinstance(pixels, Failed):
        return pixels
    squares = resized_squares(pixels.rgb, spec, pixels.box)
    image = Image.fromarray(pixels.rgb)
    image.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE), Image.Resampling.BICUBIC, reducing_gap=2.0)
    return Loaded(np.asarray(image), squares, pixels.facts, read_exif(ref))


def crop(
    ref: ImageRef, centre: tuple[float, float], width: int, height: int, room: tuple[int, int]
) -> Crop | Failed:
    """`width` x `height` pixels around `centre` (x, y in 0..1), moved and cut to the picture.

    What is larger than `room` (width, height) is reduced to it.

    The picture that was asked for last is kept, so that panning does not decode it again.
    """
    global _latest
    if _latest is None or _latest[0] != ref:
        _latest = None  # one at a time
        pixels: Pixels | Failed = decode(ref, _FULL, DecodeLimits(max_pixels=MAX_FULL_PIXELS))
        if isinstance(pixels, Failed):
            if pixels.reason == "too_large":
                detail = (
                    f"above {MAX_FULL_PIXELS // 10**6} megapixels only the reduced picture is shown"
                )
                return replace(pixels, detail=detail)
            return pixels
        _latest = (ref, pixels.rgb)
    rgb = _latest[1]
    full_h, full_w = rgb.shape[:2]
    width, height = min(width, full_w), min(height, full_h)
    left = round(min(max(0.0, centre[0] * full_w - width / 2), full_w - width))
    top = round(min(max(0.0, centre[1] * full_h - height / 2), full_h - height))
    part = Image.fromarray(rgb[top : top + height, left : left + width])
    part.thumbnail(room, Image.Resampling.BICUBIC, reducing_gap=2.0)
    return Crop(np.asarray(part), (left, top, width, height), (full_w, full_h))
