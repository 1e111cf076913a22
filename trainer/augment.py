"""Training-only changes, between `decode()` and `prepare()`.

Pictures reach an archive by many roads: resized, cropped, re-encoded, screenshotted. If the
two classes came by different roads, a model learns the road. So both go through the same
lottery here, drawn anew each epoch: "neutral" with a crop, "uncropped" without.
"""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from scanner.types import Box
from trainer.config import Augmentation

RGB = npt.NDArray[np.uint8]
_KERNELS = (
    Image.Resampling.BILINEAR,
    Image.Resampling.BICUBIC,
    Image.Resampling.LANCZOS,
    Image.Resampling.BOX,
    Image.Resampling.HAMMING,
)


def augment(rgb: RGB, kind: Augmentation, rng: np.random.Generator) -> RGB:
    """uint8 [H, W, 3] -> uint8 [H', W', 3], by the draws of `rng` alone."""
    if kind == "none":
        return rgb
    if rng.random() < 0.5:
        rgb = rgb[:, ::-1]
    if kind == "flip":
        return np.ascontiguousarray(rgb)
    return _neutral(rgb, rng, crop=kind == "neutral")


def bounded(rgb: RGB, size: int, box: Box | None = None) -> tuple[RGB, Box | None]:
    """What an augmentation starts from, for a prepared square of `size` pixels.

    A short side over `lottery_side(size)` shrinks to it, aspect kept; what is smaller is
    returned as it is. `box` is as in `Pixels`, and None once it has been used.
    """
    x0, y0, x1, y1 = box or (0, 0, rgb.shape[1], rgb.shape[0])
    side = lottery_side(size)
    scale = side / min(x1 - x0, y1 - y0)
    if scale >= 1:
        return rgb, box
    shape = max(side, round((x1 - x0) * scale)), max(side, round((y1 - y0) * scale))
    # Hamming, for what sharper kernels keep besides is lost in the resize to `size`.
    image = Image.fromarray(np.ascontiguousarray(rgb))
    return np.asarray(image.resize(shape, Image.Resampling.HAMMING, box=(x0, y0, x1, y1))), None


def lottery_side(size: int) -> int:
    """The longest short side, in pixels, that the lottery draws from.

    Of what is drawn at several times the prepared side, hardly anything is left once the
    picture is prepared: blur, noise and re-encoding would train on small pictures and be for
    show on a camera's. At twice the side all of them matter alike, at a tenth of the time.
    """
    return max(512, 2 * size)


def _neutral(rgb: RGB, rng: np.random.Generator, *, crop: bool) -> RGB:
    """The lottery. Without `crop` ("uncropped") the whole picture goes through it, as it will
    when it is judged, and twice as many stay as they came."""
    if rng.random() < (0.15 if crop else 0.3):
        return np.ascontiguousarray(rgb)
    image = _random_crop(rgb, rng) if crop else Image.fromarray(np.ascontiguousarray(rgb))
    image = _random_resize(image, rng)
    if rng.random() < 0.15:
        image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 1.5))))
    if rng.random() < 0.15:
        image = _noise(image, rng)
    if rng.random() < 0.2:
        image = _colour(image, rng)
    if rng.random() < 0.05:
        image = image.convert("L").convert("RGB")
    # Most pictures were encoded lossily at least once since they were made.
    for _ in range(int(rng.choice([0, 1, 2], p=[0.2, 0.55, 0.25]))):
        image = reencode(image, rng)
    return np.asarray(image)


def _random_crop(rgb: RGB, rng: np.random.Generator) -> Image.Image:
    """A near-square part of 65 to 100 % of the short side, anywhere."""
    height, width = rgb.shape[:2]
    side = min(width, height) * float(rng.uniform(0.65, 1.0))
    ratio = float(np.exp(rng.uniform(-0.15, 0.15)))
    w, h = min(width, round(side * ratio)), min(height, round(side / ratio))
    left, top = int(rng.integers(0, width - w + 1)), int(rng.integers(0, height - h + 1))
    return Image.fromarray(np.ascontiguousarray(rgb[top : top + h, left : left + w]))


def _random_resize(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """One or two resizes by a random kernel, to 60..150 % of the size it came in."""
    width, height = image.size
    for _ in range(int(rng.integers(0, 3))):
        factor = float(np.exp(rng.uniform(np.log(0.6), np.log(1.5))))
        kernel = _KERNELS[int(rng.integers(len(_KERNELS)))]
        size = (max(16, round(width * factor)), max(16, round(height * factor)))
        image = image.resize(size, kernel)
    return image


def _noise(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    noise = rng.standard_normal((image.height, image.width, 3), np.float32)
    noise *= np.float32(rng.uniform(1, 8))
    noise += np.asarray(image)
    return Image.fromarray(np.clip(noise, 0, 255, out=noise).astype(np.uint8))


def _colour(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Brightness, contrast and channel gains, each by up to 15 %."""
    gain = rng.uniform(0.85, 1.15) * rng.uniform(0.95, 1.05, (3, 1))
    shift = rng.uniform(-15, 15)
    curves = np.clip((np.arange(256.0) - 128) * gain + 128 + shift, 0, 255).astype(np.uint8)
    return image.point(curves.ravel().tolist())  # one curve of 256 values for each channel


def reencode(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """One pass through JPEG (quality 35 to 96, any chroma subsampling) or lossy WebP."""
    if rng.random() < 0.75:
        return _through(
            image,
            "JPEG",
            quality=int(rng.integers(35, 97)),
            subsampling=int(rng.choice([0, 1, 2], p=[0.3, 0.1, 0.6])),
        )
    # method 0 is the fast encoder; the artefacts that matter here are those of the quality.
    return _through(image, "WEBP", quality=int(rng.integers(35, 96)), method=0)


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    """One pass through JPEG at `quality`, 4:2:0."""
    return _through(image, "JPEG", quality=quality, subsampling=2)


def _through(image: Image.Image, kind: str, **options: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    buffer.seek(0)
    with Image.open(buffer) as again:
        return again.convert("RGB")
