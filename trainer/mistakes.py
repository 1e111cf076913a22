"""The pictures that a run took for the other class, the surest first, as the model saw them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainer.config import FitConfig
from trainer.data import FAKE, LABELS, Sample
from trainer.loader import Pictures, eval_batches
from trainer.models import AutoencoderClassifier
from trainer.scores import Array, Labels

RGB = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Error:
    """A picture on the wrong side of the operating point.

    `confidence` is the probability of the wrong verdict. `original` and `reconstruction` are
    RGB as the model saw and remade it, uint8 [R, R, 3]; without a decoder there is no latter.
    """

    sample: Sample
    p_fake: float
    confidence: float
    original: RGB
    reconstruction: RGB | None

    @property
    def actual(self) -> str:
        """The class it is of."""
        return LABELS[self.sample.label]

    @property
    def predicted(self) -> str:
        """The class it was taken for."""
        return LABELS[1 - self.sample.label]


def most_confident_errors(p: Array, labels: Labels, threshold: float, limit: int) -> list[int]:
    """At most `limit` indices of pictures on the wrong side of `threshold`, surest first.

    Half the places go to each kind of error while it has that many: a threshold far from the
    middle makes one kind look surer than the other, and would fill the sheet with it.
    """
    sure = confidence(p, threshold)
    called_fake = p >= threshold
    wrong = np.flatnonzero(called_fake != (labels == FAKE))
    wrong = wrong[np.argsort(-sure[wrong], kind="stable")]
    alarms, misses = wrong[called_fake[wrong]], wrong[~called_fake[wrong]]
    half = limit // 2
    alarms_kept = min(len(alarms), max(limit - half, limit - len(misses)))
    kept = {*alarms[:alarms_kept], *misses[: limit - alarms_kept]}
    return [int(i) for i in wrong if i in kept]


def confidence(p: Array, threshold: float) -> Array:
    """Probability of the verdict that `threshold` gives, [N]: P(fake) of those called fake.

    Below one half where the threshold itself lies on that side of the middle.
    """
    result: Array = np.where(p >= threshold, p, 1 - p)
    return result


@torch.inference_mode()
def seen_and_remade(
    model: AutoencoderClassifier, pictures: Pictures, config: FitConfig, device: torch.device
) -> list[tuple[RGB, RGB | None]]:
    """(original, reconstruction) of each picture's middle view, at the reconstruction's size."""
    views: list[tuple[RGB, RGB | None]] = []
    for pixels, _, _ in eval_batches(pictures, config) if len(pictures) else ():
        x = pixels[:, pixels.shape[1] // 2].to(device)  # [N, 3, S, S]
        remade = model(x).reconstruction
        originals = _bytes(model.target(x))
        if remade is None:
            views += [(original, None) for original in originals]
        else:
            views += zip(originals, _bytes(remade), strict=True)
    return views


def _bytes(rgb: Tensor) -> list[RGB]:
    """RGB in [0, 1], [N, 3, R, R] -> N arrays uint8 [R, R, 3]."""
    scaled = (rgb.float() * 255).round().clamp(0, 255).byte()
    return list(scaled.permute(0, 2, 3, 1).cpu().numpy())
