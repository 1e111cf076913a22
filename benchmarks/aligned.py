"""Aligned fakes: real pictures that passed through an autoencoder, and nothing else about them.

A detector that is shown both halves of such a pair cannot tell them apart by what they show
(Rajan et al., "Aligned Datasets Improve Detection of Latent Diffusion-Generated Images", 2024).
Its spectrum still can: `match` takes that away too, after Chen et al., "Dual Data Alignment Makes
AI-Generated Image Detector Easier Generalizable" (2025).
The autoencoder is TAEF2 of madebyollin/taesd (MIT), that of FLUX.2 made small: 32 channels at an
eighth of the size. Its two files, taef2_encoder.pth and taef2_decoder.pth, come from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy.fft import dctn, idctn
from torch import Tensor, nn

from benchmarks.changed import ChangedEncodings
from scanner.preprocess import prepare
from scanner.types import Failed
from trainer.augment import Augmentation, augment
from trainer.data import REAL, Sample, cap_per_source
from trainer.loader import Pictures, _key_number

_CHANNELS = 64
_BATCH = 8
_EPOCH = 2  # a draw of the lottery of its own
_BANDS = 32  # of spatial frequency, each an equal part of its range
RGB = npt.NDArray[np.uint8]


class _Clamp(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x / 3) * 3


class _Block(nn.Module):
    """Three convolutions around which the input passes; `pooled` adds a normalised mixture."""

    def __init__(self, *, pooled: bool = False) -> None:
        super().__init__()
        layers: list[nn.Module] = [_conv(), nn.ReLU(), _conv(), nn.ReLU(), _conv()]
        self.conv = nn.Sequential(*layers)
        wide = 4 * _CHANNELS
        self.pool = (
            nn.Sequential(
                nn.Conv2d(_CHANNELS, wide, 1, bias=False),
                nn.GroupNorm(4, wide),
                nn.ReLU(),
                nn.Conv2d(wide, _CHANNELS, 1, bias=False),
            )
            if pooled
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.pool is not None:
            x = x + self.pool(x)
        y: Tensor = torch.relu(self.conv(x) + x)
        return y


def _conv(
    taken: int = _CHANNELS, made: int = _CHANNELS, *, stride: int = 1, bias: bool = True
) -> nn.Conv2d:
    return nn.Conv2d(taken, made, 3, stride=stride, padding=1, bias=bias)


def tiny_autoencoder(folder: Path) -> nn.Module:
    """TAEF2 with the weights in `folder`: RGB in 0..1, [N, 3, H, W] -> the same, sides in
    multiples of 8."""
    encoder: list[nn.Module] = [_conv(3), _Block()]
    decoder: list[nn.Module] = [_Clamp(), _conv(32), nn.ReLU()]
    for deepest in (False, False, True):
        encoder += [_conv(stride=2, bias=False), *(_Block(pooled=deepest) for _ in range(3))]
    for level in range(3):
        decoder += [_Block(pooled=level == 0) for _ in range(3)]
        decoder += [nn.Upsample(scale_factor=2), _conv(bias=False)]
    halves = {
        "encoder": nn.Sequential(*encoder, _conv(made=32)),
        "decoder": nn.Sequential(*decoder, _Block(), _conv(made=3)),
    }
    for name, half in halves.items():
        path = folder / f"taef2_{name}.pth"
        half.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return nn.Sequential(*halves.values()).eval()


def match(real: RGB, remade: RGB, rng: np.random.Generator) -> RGB:
    """`remade` with the spectrum of `real`, and a part of `real` mixed in; uint8 [H, W, 3].

    In each of 32 bands of the discrete cosine transform it is given the energy that `real` has
    there, a channel at a time; then up to half of `real` is laid over it. (The paper re-encodes
    with the original's JPEG quality; these originals' qualities are not known.)
    """
    height, width = real.shape[:2]
    across, down = np.arange(width) / width, np.arange(height) / height
    radius = np.hypot(down[:, None], across[None]) / np.sqrt(2)
    band = np.minimum((radius * _BANDS).astype(int), _BANDS - 1).ravel()
    matched = np.empty(real.shape, dtype=np.float64)
    for channel in range(3):
        true, made = (dctn(x[:, :, channel].astype(np.float64), norm="ortho").ravel()
                      for x in (real, remade))  # fmt: skip
        mean = true[0]  # of the brightness, which is no texture
        true[0] = made[0] = 0
        energy = [np.bincount(band, x * x, minlength=_BANDS) for x in (true, made)]
        made *= np.sqrt(energy[0] / np.maximum(energy[1], 1e-9))[band]
        made[0] = mean
        matched[:, :, channel] = idctn(made.reshape(height, width), norm="ortho")
    share = rng.uniform(0, 0.5)
    return (share * real + (1 - share) * matched).round().clip(0, 255).astype(np.uint8)


class Pairs:
    """Encodings of real pictures and of what the autoencoder makes of them, through the same
    draw of the lottery, or `plain`, without it; kept in the folder of `encoded`, so that a later
    run goes on. `matched`: see `match`."""

    def __init__(
        self,
        weights: Path,
        encoded: ChangedEncodings,
        per_source: int,
        *,
        matched: bool = False,
        plain: bool = False,
    ) -> None:
        self._weights, self._encoded, self._per_source = weights, encoded, per_source
        self._matched = matched
        self._kind: Augmentation = "none" if plain else encoded.config.augment
        name = ("matched" if matched else "aligned") + ("-plain" if plain else "")
        model = encoded.model
        shape = (len(encoded.samples), 2, model.encoder.feature_count)
        self._features = _memmap(encoded.folder / f"{name}.features.npy", shape, "float16")
        self._done = _memmap(encoded.folder / f"{name}.done.npy", shape[:1], "bool")
        self._pictures = Pictures(
            encoded.samples,
            model.spec,
            augmentation=encoded.config.augment,
            seed=encoded.config.seed,
        )

    def read(self, samples: Sequence[Sample]) -> tuple[list[Sample], Tensor, Tensor]:
        """(real ones of `samples`, originals [N, F], reconstructions [N, F])."""
        real = [sample for sample in samples if sample.label == REAL]
        chosen = cap_per_source(real, self._per_source, self._encoded.config.seed)
        rows = self._encoded.rows(chosen)
        self._fill(rows[~self._done[rows]].tolist())
        both = torch.from_numpy(self._features[rows].astype(np.float32))
        return chosen, both[:, 0], both[:, 1]

    @torch.inference_mode()
    def _fill(self, missing: Sequence[int]) -> None:
        if not missing:
            return
        autoencoder = tiny_autoencoder(self._weights).to(memory_format=torch.channels_last)
        for start in range(0, len(missing), _BATCH):
            rows = missing[start : start + _BATCH]
            pixels = np.concatenate([self._pair(row, autoencoder) for row in rows])
            features = self._encoded.encode(torch.from_numpy(pixels))
            self._features[rows] = features.reshape(len(rows), 2, -1).astype(np.float16)
            self._features.flush()
            self._done[rows] = True
            self._done.flush()
            print(f"aligned {start + len(rows)}/{len(missing)}", flush=True)

    def _pair(self, row: int, autoencoder: nn.Module) -> npt.NDArray[np.float32]:
        """Prepared pixels of original and reconstruction, float32 [2, 3, S, S]."""
        sample = self._pictures.samples[row]
        decoded = self._pictures.recipe.make(sample)
        if isinstance(decoded, Failed):
            raise SystemExit(f"{sample.key}: {decoded.detail}")
        height, width = (side // 8 * 8 for side in decoded.rgb.shape[:2])
        rgb = decoded.rgb[:height, :width].copy()
        x = torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 255
        y = autoencoder(x.contiguous(memory_format=torch.channels_last)).clamp(0, 1)
        remade = (y[0].permute(1, 2, 0) * 255).round().byte().numpy()
        seed = (self._encoded.config.seed, _EPOCH, _key_number(sample))
        if self._matched:
            remade = match(rgb, remade, np.random.default_rng((1, *seed)))
        spec, kind = self._pictures.spec, self._kind
        both = [
            prepare(augment(half, kind, np.random.default_rng(seed)), spec, None)[0]
            for half in (rgb, remade)
        ]
        return np.stack(both)


def _memmap(path: Path, shape: tuple[int, ...], dtype: str) -> np.memmap:
    if path.exists():
        return np.lib.format.open_memmap(path, mode="r+")
    return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
