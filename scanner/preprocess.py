"""Decoded pixels to what the encoder sees. Training and scanning both call `prepare()`.

Every constant comes from the bundle's `PreprocessSpec`; none depends on the picture's own
values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image

from scanner.types import Box

Resampling = Literal["bilinear", "bicubic", "lanczos"]
_FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True, slots=True)
class PreprocessSpec:
    """How a picture becomes `views` squares of `size` x `size` pixels.

    The short side is resized to `size` (antialiased, aspect kept); `views` square crops are
    taken at equal distances along the longer side (1: the centre; 2: both ends; 3: ends and
    centre); RGB in [0, 1] becomes `(x - mean) / std`, channels first. `grey` replaces the
    picture by its luma (ITU-R BT.601) in all three channels.
    """

    size: int
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    views: int = 1
    resampling: Resampling = "bicubic"
    grey: bool = False

    def __post_init__(self) -> None:
        if not 16 <= self.size <= 2048:
            raise ValueError(f"size must lie in 16..2048, not {self.size}")
        if not 1 <= self.views <= 16:
            raise ValueError(f"views must lie in 1..16, not {self.views}")
        if self.resampling not in get_args(Resampling):
            raise ValueError(f"resampling must be one of {get_args(Resampling)}")
        if len(self.mean) != 3 or len(self.std) != 3:
            raise ValueError("mean and std have three values each")
        if not all(np.isfinite((*self.mean, *self.std))) or min(self.std) <= 0:
            raise ValueError("mean and std must be finite, and std above 0")

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON can hold them; `from_dict` reads them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> PreprocessSpec:
        """Raises ValueError or TypeError, in one line, for anything that is not a spec."""
        unknown = set(raw) - set(cls.__dataclass_fields__)
        if unknown:
            raise ValueError(f"unknown preprocessing field {sorted(unknown)[0]!r}")
        values = dict(raw)
        for name in ("size", "views"):
            if name in values and (
                isinstance(values[name], bool) or not isinstance(values[name], int)
            ):
                raise ValueError(f"{name} must be a whole number")
        if not isinstance(values.get("grey", False), bool):
            raise ValueError("grey must be true or false")
        for name in ("mean", "std"):
            if name in values:
                values[name] = tuple(float(v) for v in values[name])
        return cls(**values)


def draft_side(spec: PreprocessSpec) -> int:
    """Short side in pixels below which a JPEG must not be decoded at reduced scale.

    At four times the target every prepared pixel still averages at least 4 x 4 decoded ones,
    which keeps it within the tolerance stated in docs/preprocessing.md. Twice would be faster
    still, at three times the difference on fine textures.
    """
    return 4 * spec.size


def resized_squares(
    rgb: npt.NDArray[np.uint8], spec: PreprocessSpec, box: Box | None = None
) -> npt.NDArray[np.uint8]:
    """uint8 [H, W, 3] -> uint8 [V, S, S, 3]: resize and crop, before normalisation.

    `box` is the part of `rgb` to use, in pixels, with fractions; all of it if None.
    """
    x0, y0, x1, y1 = box or (0, 0, rgb.shape[1], rgb.shape[0])
    width, height = x1 - x0, y1 - y0
    scale = spec.size / min(height, width)
    new_w = max(spec.size, round(width * scale))
    new_h = max(spec.size, round(height * scale))
    image = Image.fromarray(rgb)
    if spec.grey:
        image = image.convert("L").convert("RGB")
    spare = max(new_w, new_h) - spec.size
    if spec.views == 1:
        offsets = [spare // 2]
    else:
        offsets = [round(i * spare / (spec.views - 1)) for i in range(spec.views)]
    squares = []
    for offset in offsets:
        left, top = (offset, 0) if new_w >= new_h else (0, offset)
        # `shown` resizes only what the crop shows: a panorama costs no more than a square.
        shown = (
            x0 + left * width / new_w,
            y0 + top * height / new_h,
            min(x1, x0 + (left + spec.size) * width / new_w),
            min(y1, y0 + (top + spec.size) * height / new_h),
        )
        square = image.resize((spec.size, spec.size), _FILTERS[spec.resampling], box=shown)
        squares.append(np.asarray(square))
    return np.stack(squares)


def prepare(
    rgb: npt.NDArray[np.uint8], spec: PreprocessSpec, box: Box | None = None
) -> npt.NDArray[np.float32]:
    """uint8 [H, W, 3] -> float32 [V, 3, S, S], normalised. `box` as in `Pixels`."""
    return normalised(resized_squares(rgb, spec, box), spec)


def normalised(squares: npt.NDArray[np.uint8], spec: PreprocessSpec) -> npt.NDArray[np.float32]:
    """What `resized_squares` made, uint8 [V, S, S, 3] -> float32 [V, 3, S, S]."""
    values = squares.astype(np.float32)
    # One multiply and one subtraction a value: (x / 255 - mean) / std.
    mean, std = np.array(spec.mean, np.float32), np.array(spec.std, np.float32)
    factor = np.float32(1 / 255) / std
    shift = np.divide(mean, std)
    values *= factor
    values -= shift
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2))
