"""Maps as pictures, in colours that are told apart without red and green."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from scanner.explain.maps import GRID, local_mean

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

TOWARDS_FAKE = (255, 140, 0)  # orange
TOWARDS_REAL = (40, 120, 255)  # blue
# An error of half the range is as bright as it gets: the same for every picture, so that two maps
# can be compared.
_FULL_ERROR = 0.5
# Below this largest change, in logits, a map is shown as weak as it is and not stretched.
_LEAST_HEAT = 0.25
_ERROR_RAMP = np.array(  # black, violet, orange, pale yellow: grows in brightness throughout
    [(0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164)], np.float32
)


def error_picture(error: Floats) -> Bytes:
    """float32 [..., S, S] in [0, 1] -> uint8 [..., S, S, 3], dark where the two agree."""
    place = np.clip(error / _FULL_ERROR, 0, 1) * (len(_ERROR_RAMP) - 1)
    low = np.minimum(place.astype(int), len(_ERROR_RAMP) - 2)
    part = (place - low)[..., None]
    colour = _ERROR_RAMP[low] * (1 - part) + _ERROR_RAMP[low + 1] * part
    picture: Bytes = np.rint(colour).astype(np.uint8)
    return picture


def heat_picture(squares: Bytes, heat: Floats) -> Bytes:
    """The squares in grey, uint8 [V, S, S, 3], tinted by `heat` [V, S, S].

    Orange where a part moves the score towards fake, blue towards real; the strongest part of
    a picture in full colour. The steps of the grid are smoothed away.
    """
    heat = local_mean(heat, heat.shape[-1] // (2 * GRID))
    grey = squares.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    grey = (40 + grey * 0.6)[..., None]  # room on both sides for the colour to show
    scale = max(float(np.abs(heat).max()), _LEAST_HEAT)
    strength = (np.abs(heat) / scale)[..., None] * 0.75
    fake, real = (np.array(colour, np.float32) for colour in (TOWARDS_FAKE, TOWARDS_REAL))
    tint = np.where(heat[..., None] > 0, fake, real)
    return np.rint(grey * (1 - strength) + tint * strength).clip(0, 255).astype(np.uint8)


def side_by_side(views: Bytes, side: int | None = None) -> Image.Image:
    """uint8 [V, A, A, 3] -> one picture, the views from left to right, `side` pixels high."""
    images = [Image.fromarray(view) for view in views]
    if side is not None:
        images = [image.resize((side, side), Image.Resampling.BICUBIC) for image in images]
    gap = 4 if len(images) > 1 else 0
    height = images[0].height
    out = Image.new("RGB", (len(images) * (height + gap) - gap, height), "white")
    for index, image in enumerate(images):
        out.paste(image, (index * (height + gap), 0))
    return out
