"""A bundle, judged as a run is: by the graphs that imgscan scans with."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from scanner.bundle import Bundle
from scanner.cascade import Model, open_model
from scanner.preprocess import PreprocessSpec
from trainer.scores import Scores

RGB = npt.NDArray[np.uint8]
# So far from 0 and 1 a probability's log odds are finite.
_EDGE = 1e-15


class Shipped:
    """The graphs of a bundle in the place of a run's model.

    P(fake) is that of a scan, before `unsure` and the limits of `scanner.domain`: a cascade's is
    that of the stage that decides.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self._model: Model | None = None

    @property
    def spec(self) -> PreprocessSpec:
        """How pictures are prepared for it."""
        return self.bundle.spec

    def to(self, device: torch.device) -> Shipped:
        """Itself, loaded; on CUDA if that is the device and ONNX Runtime can use it, else `note`
        says why not. Raises ImgscanError."""
        if self._model is None:
            self._model = open_model(self.bundle, "auto" if device.type == "cuda" else "cpu")
        return self

    @property
    def note(self) -> str | None:
        """What did not go as asked for, in one line."""
        return None if self._model is None else self._model.note

    def scores(self, batches: Iterable[tuple[Tensor, Tensor, Tensor]]) -> Scores:
        """Of batches of [N, V, 3, S, S]; the logits are log odds of the calibrated P(fake)."""
        model = self._loaded()
        found, labels = [], []
        with ThreadPoolExecutor(model.streams) as pool:
            for pixels, label, _ in batches:
                parts = np.array_split(pixels.numpy(), min(model.streams, len(pixels)))
                found += list(pool.map(model.score, parts))
                labels.append(label.numpy())
        p = np.clip(np.concatenate(found), _EDGE, 1 - _EDGE)
        return Scores(
            np.log(p) - np.log1p(-p), np.concatenate(labels).astype(np.int64), float("nan")
        )

    def views(
        self, batches: Iterable[tuple[Tensor, Tensor, Tensor]]
    ) -> list[tuple[RGB, RGB | None]]:
        """(original, reconstruction) of each picture's middle view, as `seen_and_remade`."""
        model, found = self._loaded(), list[tuple[RGB, RGB | None]]()
        mean, std = (torch.tensor(v)[:, None, None] for v in (self.spec.mean, self.spec.std))
        for pixels, _, _ in batches:
            x = pixels[:, pixels.shape[1] // 2]
            rgb = x * std + mean
            remade = model.reconstruct(x.numpy())
            if remade is None:
                found += [(one, None) for one in _bytes(rgb)]
                continue
            size = remade.shape[-2:]
            rgb = nn.functional.interpolate(
                rgb, size=size, mode="bilinear", antialias=True, align_corners=False
            )
            found += zip(_bytes(rgb), _bytes(torch.from_numpy(remade)), strict=True)
        return found

    def _loaded(self) -> Model:
        assert self._model is not None, "to() comes first"
        return self._model


def _bytes(rgb: Tensor) -> list[RGB]:
    """RGB in [0, 1], [N, 3, R, R] -> N arrays uint8 [R, R, 3]."""
    return list((rgb * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy())
