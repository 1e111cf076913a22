"""Reconstruction and classification losses, from the libraries that keep them.

- SSIM: Wang et al., 2004 (pytorch-msssim); its mix with L1: Zhao et al., 2016.
- LPIPS: Zhang et al., 2018 (lpips); shift-tolerant LPIPS: Ghildyal & Liu, 2022
  (stlpips-pytorch), whose package holds its trunks, so that it needs no download.
- Focal loss: Lin et al., 2017 (torchvision). Label smoothing: Szegedy et al., 2016.
"""

from __future__ import annotations

import contextlib
import io
from typing import Any

import torch
import torch.nn.functional as F
from pytorch_msssim import SSIM
from torch import Tensor, nn
from torchvision.ops import sigmoid_focal_loss

from scanner.errors import UsageError
from trainer.config import FitConfig


class ReconstructionLoss(nn.Module):
    """MSE, or gamma_r * (alpha_r * (1 - SSIM) + (1 - alpha_r) * L1 + beta * perceptual)."""

    def __init__(self, config: FitConfig) -> None:
        super().__init__()
        self.kind = config.reconstruction
        self.alpha, self.beta, self.gamma = config.alpha_r, config.beta, config.gamma_r
        self.ssim = SSIM(data_range=1.0, channel=3) if self.kind == "hybrid" else None
        hybrid = self.kind == "hybrid" and config.beta > 0
        self.perceptual = PerceptualDistance(config.perceptual) if hybrid else None

    def forward(self, reconstruction: Tensor, target: Tensor) -> Tensor:
        """Two RGB batches in [0, 1], [N, 3, R, R] -> a scalar."""
        reconstruction, target = reconstruction.float(), target.float()
        if self.kind == "mse":
            return self.gamma * F.mse_loss(reconstruction, target)
        assert self.ssim is not None
        loss = self.alpha * (1 - self.ssim(reconstruction, target))
        loss = loss + (1 - self.alpha) * F.l1_loss(reconstruction, target)
        if self.perceptual is not None:
            loss = loss + self.beta * self.perceptual(reconstruction, target).mean()
        scaled: Tensor = self.gamma * loss
        return scaled


class PerceptualDistance(nn.Module):
    """LPIPS between two RGB batches in [0, 1]; the networks are fixed."""

    def __init__(self, name: str) -> None:
        super().__init__()
        family, _, trunk = name.partition("-")
        if family == "none":
            raise UsageError("perceptual = none needs beta = 0")
        self.net = _lpips(trunk) if family == "lpips" else _shift_tolerant_lpips(trunk)
        self.net.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> PerceptualDistance:
        """Stay in evaluation mode: its dropout belongs to its own training."""
        super().train(False)
        return self

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """[N, 3, R, R] twice -> [N]."""
        net: Any = self.net
        maps_a = net.net(net.scaling_layer(2 * a - 1))
        maps_b = net.net(net.scaling_layer(2 * b - 1))
        total = torch.zeros(len(a), device=a.device)
        for layer, x, y in zip(net.lins, maps_a, maps_b, strict=True):
            # F.normalize has a finite gradient where a position is all zero; the packages'
            # own sqrt has not, and one black picture would turn every weight into NaN.
            difference = (F.normalize(x, dim=1) - F.normalize(y, dim=1)).square()
            total = total + layer(difference).mean((1, 2, 3))
        return total


def _lpips(trunk: str) -> nn.Module:
    import lpips

    try:
        with contextlib.redirect_stdout(io.StringIO()):
            net: nn.Module = lpips.LPIPS(net=trunk, verbose=False)
    except OSError as error:
        raise UsageError(
            f"the {trunk} trunk of LPIPS cannot be downloaded ({error}); "
            f"perceptual = stlpips-{trunk} needs no download"
        ) from None
    return net


def _shift_tolerant_lpips(trunk: str) -> nn.Module:
    from stlpips_pytorch import stlpips

    net: nn.Module = stlpips.LPIPS(net=trunk, variant="shift_tolerant", verbose=False)
    return net


class ClassificationLoss(nn.Module):
    """BCE, BCE against smoothed targets, or focal loss, all on logits.

    With `class_balance_loss`, each picture counts 0.5 / (its class's share of the draws), so
    that both classes weigh alike however rare one is (King & Zeng, 2001). The weights average
    to 1 over an epoch, not within a batch: batches stay additive.
    """

    def __init__(self, config: FitConfig, fake_share: float = 0.5) -> None:
        """`fake_share` of the draws are fake, in 0..1; of use to `class_balance_loss` alone."""
        super().__init__()
        self.class_weights: tuple[float, float] | None = None  # real, fake
        if config.class_balance_loss:
            self.class_weights = (0.5 / (1 - fake_share), 0.5 / fake_share)
        self.kind = config.classification
        self.smoothing = config.smoothing
        self.alpha, self.gamma = config.alpha_c, config.gamma_c

    def forward(self, logit: Tensor, label: Tensor) -> Tensor:
        """Logits [N] and labels [N] (1: fake) -> a scalar."""
        return self.each(logit, label).mean()

    def each(self, logit: Tensor, label: Tensor) -> Tensor:
        """As `forward()`, before the mean: [N]."""
        logit, label = logit.float(), label.float()
        weight: Tensor | None = None
        if self.class_weights is not None:
            real, fake = self.class_weights
            weight = real + (fake - real) * label
        if self.kind == "focal":
            each: Tensor = sigmoid_focal_loss(logit, label, alpha=self.alpha, gamma=self.gamma)
            return each if weight is None else each * weight
        if self.kind == "smoothed-bce":
            label = label * (1 - self.smoothing) + 0.5 * self.smoothing
        return F.binary_cross_entropy_with_logits(logit, label, weight, reduction="none")


def loss_weights(config: FitConfig, epoch: int) -> tuple[float, float]:
    """Weights of (reconstruction, classification) in `epoch`, from 0.

    Classification is off for `c_off` of the epochs, rises linearly over `c_ramp`, then stays.
    A `class_weight` of 0 to 1 is classification's share, and the rest is reconstruction's.
    """
    r_weight, c_weight = config.r_weight, config.c_weight
    if config.class_weight >= 0:
        r_weight *= 1 - config.class_weight
        c_weight *= config.class_weight
    off, ramp = config.c_off * config.epochs, config.c_ramp * config.epochs
    if epoch < off:
        return r_weight, 0.0
    if ramp > 0 and epoch < off + ramp:
        return r_weight, c_weight * (epoch - off + 1) / (ramp + 1)
    return r_weight, c_weight
