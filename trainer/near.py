"""Near-duplicates by perceptual hash: the same picture resized, re-encoded or retouched.

pHash after Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions"
(2010): 32 x 32 pixels of luma, the lowest 8 x 8 coefficients of their cosine transform, a bit
for each that is above the median. A pair with few differing bits is then compared by its 32 x
32 pixels, for plain pictures (a logo on white) have hashes that agree by chance.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.fft import dctn

RGB = npt.NDArray[np.uint8]
Thumb = npt.NDArray[np.float32]

SIDE = 32
# Set by eye on pairs of real sets: variants of one picture pass, two portraits do not.
MAX_BITS = 10  # of 64
MAX_DIFFERENCE = 9.0  # mean absolute difference of luma, in levels of 255
MIN_CORRELATION = 0.9  # of luma: a plain picture differs little from any other, but not alike
_ROWS = 1024  # of the distance matrix at a time


@dataclass(frozen=True, slots=True)
class Near:
    """Pictures `first` < `second` (positions) whose hashes differ in `bits` bits."""

    first: int
    second: int
    bits: int
    difference: float  # of 32 x 32 luma, mean absolute, in levels of 255


def thumbnail(rgb: RGB) -> Thumb:
    """uint8 [H, W, 3] -> luma float32 [32, 32]; the aspect is not kept."""
    small = Image.fromarray(rgb).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small, np.float32)


def hash_bits(thumbs: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """[N, 32, 32] -> bits [N, 64]."""
    low = dctn(thumbs, axes=(1, 2), norm="ortho")[:, :8, :8].reshape(len(thumbs), 64)
    # The first coefficient is the mean brightness: it would pull the median.
    bits: npt.NDArray[np.bool_] = low > np.median(low[:, 1:], axis=1, keepdims=True)
    return bits


def near_duplicates(
    thumbs: npt.NDArray[np.float32],
    kinds: npt.NDArray[np.int64],
    *,
    max_bits: int = MAX_BITS,
    max_difference: float = MAX_DIFFERENCE,
) -> list[Near]:
    """All near pairs of different `kinds`, nearest first; time grows with the square of N.

    `thumbs` is [N, 32, 32] and `kinds` [N]: pairs of the same kind are of no interest.
    """
    found = []
    for i, j, bits in _close_hashes(hash_bits(thumbs), kinds, max_bits):
        difference = float(np.abs(thumbs[i] - thumbs[j]).mean())
        if difference <= max_difference and _correlation(thumbs[i], thumbs[j]) >= MIN_CORRELATION:
            found.append(Near(i, j, bits, difference))
    return sorted(found, key=lambda near: (near.bits, near.difference, near.first))


def _correlation(a: Thumb, b: Thumb) -> float:
    a, b = a - a.mean(), b - b.mean()
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    # Two pictures of one colour each are as alike as can be: the difference decides.
    return float((a * b).sum()) / size if size else 1.0


def _close_hashes(
    bits: npt.NDArray[np.bool_], kinds: npt.NDArray[np.int64], max_bits: int
) -> Iterator[tuple[int, int, int]]:
    # As -1 and 1, the product of two hashes is 64 less twice their distance: BLAS is quick.
    signs = np.where(bits, 1.0, -1.0).astype(np.float32)
    for start in range(0, len(signs), _ROWS):
        block = signs[start : start + _ROWS] @ signs[start:].T  # [R, N - start]
        close = block >= 64 - 2 * max_bits
        close &= kinds[start : start + _ROWS, None] != kinds[None, start:]
        rows, columns = np.nonzero(np.triu(close, 1))
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            yield start + row, start + column, round((64 - float(block[row, column])) / 2)
