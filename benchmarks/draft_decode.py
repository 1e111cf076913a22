"""How far a JPEG decoded at reduced scale is from one decoded whole, and how much faster.

    python -m benchmarks.draft_decode            about two minutes

Pictures are generated from a seed; nothing is read from disk. docs/preprocessing.md states the
figures, tests/scanner/test_preprocess.py holds them.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image

from scanner import images
from scanner.preprocess import PreprocessSpec, draft_side, resized_squares
from scanner.types import Failed, ImageRef

Content = Literal["smooth", "edges", "foliage", "noise", "fabric", "colour"]
CONTENTS: tuple[Content, ...] = get_args(Content)
CAMERA = (4000, 3000)


def picture(content: Content, size: tuple[int, int], seed: int = 0) -> Image.Image:
    """A generated scene of `size` (width, height): what cameras meet, and what is worst."""
    rng = np.random.default_rng([seed, CONTENTS.index(content)])
    width, height = size
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    match content:
        case "smooth":  # sky and skin: slow gradients
            rgb = np.stack([_octaves(rng, size, 6, 0.35) for _ in range(3)], axis=-1)
        case "edges":  # buildings and text: hard contrast at every angle
            rgb = np.zeros((height, width, 3), np.float32)
            for _ in range(60):
                angle, at = rng.uniform(0, np.pi), rng.uniform(-0.2, 1.2) * width
                side = (x * np.cos(angle) + y * np.sin(angle)) > at
                rgb[side] = rng.uniform(0, 1, 3)
        case "foliage":  # detail at every scale, falling off as in nature (1 / f)
            rgb = np.stack([_octaves(rng, size, 11, 0.5)] * 3, axis=-1) * (0.6, 1.0, 0.4)
        case "noise":  # a high-ISO sensor on a grey wall
            rgb = 0.45 + rng.normal(0, 0.08, (height, width, 3)).astype(np.float32)
        case "fabric":  # a weave that sweeps through every frequency up to the pixel: the worst
            sweep = np.cos(np.pi * (x**2 / (2 * width) + y**2 / (2 * height)) * 0.9)
            rgb = np.repeat((0.5 + 0.5 * sweep)[..., None], 3, axis=2)
        case "colour":  # hard edges of colour without any in brightness: chroma alone
            stripes = ((x // 37 + y // 23) % 2)[..., None]
            rgb = stripes * (0.85, 0.25, 0.3) + (1 - stripes) * (0.1, 0.57, 0.55)
    return Image.fromarray((np.clip(rgb, 0, 1) * 255).astype(np.uint8))


def _octaves(
    rng: np.random.Generator, size: tuple[int, int], count: int, persistence: float
) -> npt.NDArray[np.float32]:
    """Noise of several scales, each half as coarse and `persistence` as strong as the last."""
    total = np.zeros(size[::-1], np.float32)
    for octave in range(1, count + 1):
        cells = rng.normal(size=(2**octave * 3 // 4 + 1, 2**octave + 1)).astype(np.float32)
        layer = Image.fromarray(cells).resize(size, Image.Resampling.BICUBIC)
        total += np.asarray(layer) * persistence**octave
    return np.asarray((total - total.min()) / (np.ptp(total) + 1e-6), np.float32)


def jpeg(image: Image.Image, *, quality: int, subsampling: str) -> bytes:
    """`image` as a JPEG file."""
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality, subsampling=subsampling)
    return stream.getvalue()


def squares(data: bytes, spec: PreprocessSpec, *, whole: bool) -> npt.NDArray[np.uint8]:
    """Prepared pixels uint8 [V, S, S, 3]; `whole`: by way of a decode at full scale."""
    ref = ImageRef(Path("generated.jpg"))
    # A spec too large for any reduced scale makes decode_stream() decode at full scale.
    asked = replace(spec, size=2048) if whole else spec
    pixels = images.decode_stream(io.BytesIO(data), ref, asked, size_bytes=len(data))
    assert not isinstance(pixels, Failed), pixels
    return resized_squares(pixels.rgb, spec, pixels.box)


@dataclass(frozen=True)
class Difference:
    """Absolute difference of prepared pixels, in 1/255."""

    most: int
    mean: float
    p999: float


def difference(data: bytes, spec: PreprocessSpec) -> Difference:
    """Of `data` decoded at the scale the scan uses, against decoded whole."""
    reduced = squares(data, spec, whole=False).astype(np.int16)
    apart = np.abs(reduced - squares(data, spec, whole=True))
    return Difference(int(apart.max()), float(apart.mean()), float(np.quantile(apart, 0.999)))


def cases() -> Iterator[tuple[PreprocessSpec, tuple[int, int]]]:
    """A camera's picture; then just at each switch of scale, also with sides none divides."""
    yield PreprocessSpec(size=256, views=3), CAMERA
    spec = PreprocessSpec(size=128, views=3)
    for scale in (2, 4, 8):
        short = scale * draft_side(spec)
        yield spec, (short * 4 // 3 + 2, short)
        yield spec, (short * 4 // 3 + 5, short + 1)


def main() -> None:
    """Print both tables."""
    print("content  square      pixels chroma  max  p99.9   mean")
    for content in CONTENTS:
        for spec, size in cases():
            scene = picture(content, size)
            for subsampling in ("4:2:0", "4:4:4"):
                apart = difference(jpeg(scene, quality=90, subsampling=subsampling), spec)
                pixels = f"{size[0]}x{size[1]}"
                print(
                    f"{content:8} {spec.size:6} {pixels:>11} {subsampling:>6} {apart.most:4} "
                    f"{apart.p999:6.1f} {apart.mean:6.3f}"
                )
    # The quickest of several: what else the machine does can only add to it.
    print("\ndecode and prepare, 12 megapixels to 256, quickest of 9, interleaved")
    spec = PreprocessSpec(size=256, views=3)
    for content in ("smooth", "foliage", "noise"):
        data = jpeg(picture(content, CAMERA), quality=90, subsampling="4:2:0")
        seconds = {True: float("inf"), False: float("inf")}
        for _ in range(9):
            for whole in (True, False):
                start = time.perf_counter()
                squares(data, spec, whole=whole)
                seconds[whole] = min(seconds[whole], time.perf_counter() - start)
        full, reduced = seconds[True], seconds[False]
        print(
            f"{content:8} {len(data) / 1e6:5.1f} MB  whole {full * 1e3:6.1f} ms  "
            f"reduced {reduced * 1e3:6.1f} ms  {full / reduced:.2f} times faster"
        )


if __name__ == "__main__":
    main()
