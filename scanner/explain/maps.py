"""The maps behind a score: reconstruction, its error, and occlusion sensitivity.

All are of the squares that the model sees, not of the whole picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from scanner.errors import BundleError
from scanner.preprocess import PreprocessSpec, normalised, resized_squares
from scanner.types import Pixels
from scanner.verdict import probabilities

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

CAUTION = "what the model attends to, no proof of anything"
NO_DECODER = "this model has no decoder; --model fast has one, as has a bundle made with --decoder"
# Steps of the grid along a side. A patch is two steps wide, so that each pixel is covered four
# times, and (8 + 1)^2 scores of the model make a map.
GRID = 8
_BATCH = 16


class _Bundle(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def spec(self) -> PreprocessSpec: ...
    @property
    def temperature(self) -> float: ...


class Decider(Protocol):
    """The part of a Detector that a map of attention is made with."""

    @property
    def bundle(self) -> _Bundle:
        """Its preprocessing and temperature."""

    def logits(self, batch: Floats) -> npt.NDArray[np.float64]:
        """float32 [B, V, 3, S, S] -> uncalibrated logit [B], mean over the views."""


class Scorer(Protocol):
    """The part of a model, of one stage or two, that the maps are made with."""

    @property
    def bundle(self) -> _Bundle:
        """Its preprocessing."""

    def deciding(self, batch: Floats) -> Decider:
        """The stage whose score this picture has, float32 [1, V, 3, S, S]."""

    def reconstruct(self, pixels: Floats) -> Floats | None:
        """Prepared pixels [N, 3, S, S] -> RGB in [0, 1], [N, 3, R, R]; None without a decoder."""


@dataclass(frozen=True, slots=True)
class Remade:
    """`rgb` is uint8 [V, R, R, 3], the reconstruction at the size it is made in.

    `error` is float32 [V, S, S] in [0, 1]: the mean over the channels of |x - x'|, with the
    square scaled to R as in training, smoothed. `mean_error` is its mean before smoothing.
    """

    rgb: Bytes
    error: Floats
    mean_error: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """The maps of one picture, of all V views of the model.

    `squares` is uint8 [V, S, S, 3], what the model sees. `remade` is None without a decoder,
    for the reason in `missing`. `heat` is float32 [V, S, S], see `occlusion_map`. `p_fake` is
    calibrated, in [0, 1]; `by`, as by `by_stage()`, is whose score and attention these are.
    """

    squares: Bytes
    remade: Remade | None
    missing: str
    heat: Floats
    p_fake: float
    by: str = ""


def explain(
    pixels: Pixels,
    detector: Scorer,
    *,
    grid: int = GRID,
    cancelled: Callable[[], bool] | None = None,
) -> Explanation | None:
    """All maps of a decoded picture; None if `cancelled` became true meanwhile.

    Raises ImgscanError where the model itself answers with nonsense; a decoder that does not
    fit is a reason in `missing`.
    """
    spec = detector.bundle.spec
    squares = resized_squares(pixels.rgb, spec, pixels.box)
    remade = remake(squares, detector)
    decider = deciding(squares, detector)
    heat = occlusion_map(squares, decider, grid=grid, cancelled=cancelled)
    if heat is None:
        return None
    logit = decider.logits(normalised(squares, decider.bundle.spec)[None])
    return Explanation(
        squares=squares,
        remade=remade if isinstance(remade, Remade) else None,
        missing="" if isinstance(remade, Remade) else remade,
        heat=heat,
        p_fake=float(probabilities(logit, decider.bundle.temperature)[0]),
        by=by_stage(detector, decider),
    )


def deciding(squares: Bytes, detector: Scorer) -> Decider:
    """The stage that scores these squares, uint8 [V, S, S, 3]; a single model itself."""
    return detector.deciding(normalised(squares, detector.bundle.spec)[None])


def by_stage(detector: Scorer, decider: Decider) -> str:
    """ ", by NAME" where `decider` is a stage of a cascade; else empty."""
    return "" if decider.bundle is detector.bundle else f", by {decider.bundle.name}"


def remake(squares: Bytes, detector: Scorer) -> Remade | str:
    """The decoder's version of `squares`, uint8 [V, S, S, 3]; or why there is none."""
    try:
        remade = detector.reconstruct(normalised(squares, detector.bundle.spec))
    except BundleError as misfit:
        return str(misfit)
    if remade is None:
        return NO_DECODER
    rgb = np.clip(remade, 0, 1).transpose(0, 2, 3, 1)  # [V, R, R, 3]
    side, size = rgb.shape[1], squares.shape[1]
    target = np.stack([_scaled(square, side) for square in squares]).astype(np.float32) / 255
    difference = np.abs(rgb - target).mean(-1)  # [V, R, R]
    smooth = local_mean(difference, max(1, side // 28))
    error = np.stack([_enlarged(view, size) for view in smooth])
    return Remade(np.rint(rgb * 255).astype(np.uint8), error, float(difference.mean()))


def occlusion_map(
    squares: Bytes,
    decider: Decider,
    *,
    grid: int = GRID,
    cancelled: Callable[[], bool] | None = None,
) -> Floats | None:
    """How much each part moves the score: float32 [V, S, S], in logits of P(fake), signed.

    Occlusion sensitivity (Zeiler & Fergus, 2014): patch after patch is replaced, here by the
    local mean of its surroundings, for a grey one has edges that a model may react to by
    themselves. What the logit (calibrated: divided by the temperature) falls by is what the
    patch brought: above 0 towards fake, below 0 towards real. A pixel has the mean over the
    patches that cover it. None if `cancelled` became true between two batches.
    """
    spec, temperature = decider.bundle.spec, decider.bundle.temperature
    views, size = squares.shape[:2]
    heat = np.zeros((views, size, size), np.float64)
    for view, square in enumerate(squares):
        prepared = normalised(square[None], spec)  # [1, 3, S, S]
        blurred = local_mean(prepared[0], max(1, size // grid))
        whole = decider.logits(prepared[None])[0]
        covered = np.zeros((size, size))
        boxes = list(_patches(size, grid))
        for start in range(0, len(boxes), _BATCH):
            if cancelled is not None and cancelled():
                return None
            some = boxes[start : start + _BATCH]
            batch = np.repeat(prepared[None], len(some), axis=0)  # [B, 1, 3, S, S]
            for picture, (rows, columns) in zip(batch, some, strict=True):
                picture[0, :, rows, columns] = blurred[:, rows, columns]
            changes = (whole - decider.logits(batch)) / temperature
            for change, (rows, columns) in zip(changes, some, strict=True):
                heat[view, rows, columns] += change
                covered[rows, columns] += 1
        # The picture's logit is the mean over its views.
        heat[view] /= covered * views
    return heat.astype(np.float32)


def _patches(size: int, grid: int) -> Iterator[tuple[slice, slice]]:
    """Squares two steps wide at every step, half of the outermost ones outside."""
    edges = [round(i * size / grid) for i in range(grid + 1)]
    spans = [slice(edges[max(0, i - 1)], edges[min(grid, i + 1)]) for i in range(grid + 1)]
    for rows in spans:
        for columns in spans:
            yield rows, columns


def local_mean(values: Floats, radius: int) -> Floats:
    """Means over (2 `radius` + 1)^2 of the last two axes; beyond the edge the edge goes on."""
    out = values.astype(np.float64)
    width = 2 * radius + 1
    for axis in (-2, -1):
        pad = [(0, 0)] * out.ndim
        pad[axis] = (radius + 1, radius)
        sums = np.cumsum(np.pad(out, pad, mode="edge"), axis=axis)
        upper = np.take(sums, range(width, sums.shape[axis]), axis=axis)
        lower = np.take(sums, range(sums.shape[axis] - width), axis=axis)
        out = (upper - lower) / width
    return out.astype(np.float32)


def _scaled(square: Bytes, side: int) -> Bytes:
    return np.asarray(Image.fromarray(square).resize((side, side), Image.Resampling.BILINEAR))


def _enlarged(values: Floats, side: int) -> Floats:
    image = Image.fromarray(np.ascontiguousarray(values, np.float32))
    return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR))
