"""When scores in half precision may stand for those in float32: at the export, and on a device."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from scanner.preprocess import PreprocessSpec, normalised

TOLERANCE = 0.005  # largest difference in P(fake) between half precision and float32
_PROBES = 16


def probe_pictures(spec: PreprocessSpec) -> npt.NDArray[np.float32]:
    """Sixteen random pictures of a fixed seed, prepared: float32 [16, V, 3, S, S].

    Grids of 1 x 1 to 32 x 32 fields and noise, of low and of full contrast: what is flat moves
    variances to 0, and what is not moves sums to their largest.
    """
    rng = np.random.default_rng(0)
    pictures = []
    for index in range(_PROBES):
        fields = min(spec.size, 2 ** (index % 8) if index % 8 < 6 else spec.size)
        low, high = (96, 160) if index < _PROBES // 2 else (0, 256)
        grid = rng.integers(low, high, (spec.views, fields, fields, 3), np.uint8)
        which = np.arange(spec.size) * fields // spec.size  # the field of each pixel
        pictures.append(normalised(grid[:, which][:, :, which], spec))
    return np.stack(pictures)


def objection(half: npt.NDArray[np.float64], full: npt.NDArray[np.float64]) -> str | None:
    """Why P(fake) in half precision, [B], may not stand for `full`, [B]; None where it may."""
    difference = float(np.abs(half - full).max())
    # So written that NaN objects.
    if not difference <= TOLERANCE:
        return f"P(fake) differs by {difference:.2g} from float32, above {TOLERANCE:g}"
    return None
