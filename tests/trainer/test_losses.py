from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from scanner.errors import UsageError
from trainer.config import FitConfig
from trainer.losses import ClassificationLoss, PerceptualDistance, ReconstructionLoss

BASE = FitConfig(preset="test", encoder="conv", unfrozen=-1, perceptual="none", beta=0.0)


def _pair(side: int = 48) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, 3, side, side, generator=generator), torch.rand(
        2, 3, side, side, generator=generator
    )


@pytest.mark.parametrize("kind", ["mse", "hybrid"])
def test_a_perfect_reconstruction_costs_nothing(kind):
    a, _ = _pair()
    assert float(ReconstructionLoss(replace(BASE, reconstruction=kind))(a, a)) == pytest.approx(
        0, abs=1e-5
    )


def test_alpha_moves_the_loss_from_l1_to_ssim():
    a, b = _pair()
    only_l1 = ReconstructionLoss(replace(BASE, alpha_r=0.0))(a, b)
    assert float(only_l1) == pytest.approx(float(F.l1_loss(a, b)))
    only_ssim = ReconstructionLoss(replace(BASE, alpha_r=1.0))(a, b)
    half = ReconstructionLoss(replace(BASE, alpha_r=0.5))(a, b)
    assert float(half) == pytest.approx((float(only_l1) + float(only_ssim)) / 2, rel=1e-5)


def test_gamma_scales_the_whole_term():
    a, b = _pair()
    once = ReconstructionLoss(BASE)(a, b)
    assert float(ReconstructionLoss(replace(BASE, gamma_r=2.5))(a, b)) == pytest.approx(
        2.5 * float(once), rel=1e-5
    )


def test_the_packaged_perceptual_distance_is_that_of_its_package():
    stlpips = pytest.importorskip("stlpips_pytorch.stlpips")
    a, b = _pair(64)
    theirs = stlpips.LPIPS(net="alex", variant="shift_tolerant", verbose=False)
    with torch.no_grad():
        expected = theirs(a, b, normalize=True).flatten()
        ours = PerceptualDistance("stlpips-alex")(a, b)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-6)


def test_a_black_picture_has_a_finite_perceptual_gradient():
    """The packages' own normalisation divides by a norm whose gradient at zero is infinite."""
    pytest.importorskip("stlpips_pytorch")
    black = torch.zeros(1, 3, 64, 64, requires_grad=True)
    PerceptualDistance("stlpips-alex")(black, torch.zeros(1, 3, 64, 64)).sum().backward()
    assert black.grad is not None
    assert torch.isfinite(black.grad).all()


def test_a_perceptual_weight_without_a_network_is_refused():
    with pytest.raises(UsageError, match="beta"):
        ReconstructionLoss(replace(BASE, beta=0.1))


def test_the_perceptual_network_is_never_trained():
    pytest.importorskip("stlpips_pytorch")
    loss = ReconstructionLoss(replace(BASE, perceptual="stlpips-alex", beta=0.1)).train()
    assert not any(p.requires_grad for p in loss.parameters())
    assert loss.perceptual is not None
    assert not any(module.training for module in loss.perceptual.modules())


def test_smoothing_moves_both_targets_towards_a_half():
    logit, label = torch.tensor([2.0, -1.0]), torch.tensor([1, 0])
    loss = ClassificationLoss(replace(BASE, classification="smoothed-bce", smoothing=0.2))
    expected = F.binary_cross_entropy_with_logits(logit, torch.tensor([0.9, 0.1]))
    assert float(loss(logit, label)) == pytest.approx(float(expected))


def test_focal_loss_is_that_of_its_paper():
    """FL = -alpha_t (1 - p_t)^gamma log p_t (Lin et al., 2017, equation 5)."""
    logit, label = torch.tensor([1.3, -0.4]), torch.tensor([1, 0])
    loss = ClassificationLoss(replace(BASE, classification="focal", alpha_c=0.3, gamma_c=2.0))
    p = torch.sigmoid(logit)
    p_t = torch.stack([p[0], 1 - p[1]])
    alpha_t = torch.tensor([0.3, 0.7])
    expected = (-alpha_t * (1 - p_t) ** 2 * p_t.log()).mean()
    assert float(loss(logit, label)) == pytest.approx(float(expected), rel=1e-5)
