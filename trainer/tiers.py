"""The conditions a picture is judged under: as it is, as the web passes it on, and worse."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from trainer.augment import jpeg

RGB = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Tier:
    """uint8 [H, W, 3] -> uint8 [H', W', 3].

    The longest side shrinks to at most `longest` pixels (Lanczos, aspect kept; a smaller
    picture keeps its size), then one pass through JPEG at `quality`, 4:2:0. `longest` 0 leaves
    the picture alone.
    """

    name: str
    longest: int = 0
    quality: int = 0

    def __call__(self, rgb: RGB) -> RGB:
        """The same for the same picture: nothing is drawn."""
        if not self.longest:
            return rgb
        image = Image.fromarray(np.ascontiguousarray(rgb))
        scale = self.longest / max(image.size)
        if scale < 1:
            width, height = (max(1, round(side * scale)) for side in image.size)
            image = image.resize((width, height), Image.Resampling.LANCZOS)
        return np.asarray(jpeg(image, self.quality))

    @property
    def meaning(self) -> str:
        """One line for people."""
        if not self.longest:
            return "pictures as they are"
        return f"longest side at most {self.longest} pixels, then JPEG at quality {self.quality}"


CLEAN, WEB, HARD = Tier("clean"), Tier("web", 768, 60), Tier("hard", 512, 40)
TIERS = {tier.name: tier for tier in (CLEAN, WEB, HARD)}
