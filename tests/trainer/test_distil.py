"""The experiments on distillation, aligned fakes and stacked scores do what they say."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from scipy.fft import dctn

from benchmarks.aligned import match
from benchmarks.beside import stacked
from benchmarks.distil import folds
from benchmarks.taught import Front, Tail, Taught
from trainer.encoders import EfficientNetLite0Encoder

pytest.importorskip("timm")


def test_the_matched_fake_has_the_spectrum_of_the_real_one_again():
    rng = np.random.default_rng(0)
    real = rng.normal(128, 20, (96, 128, 3)).clip(0, 255).astype(np.uint8)
    blurred = np.asarray(Image.fromarray(real).filter(ImageFilter.GaussianBlur(1)))

    def fine(rgb: np.ndarray) -> float:
        return float(np.square(dctn(rgb[:, :, 0].astype(float), norm="ortho")[60:, 80:]).mean())

    matched = match(real, blurred, np.random.default_rng(1))
    assert fine(blurred) < 0.05 * fine(real)
    # Two textures that differ have half of their energy when they are laid over each other.
    assert 0.45 * fine(real) < fine(matched) < 1.3 * fine(real)
    assert abs(float(matched.mean()) - float(blurred.mean())) < 1
    assert not np.array_equal(matched, real)


def test_the_loss_of_distillation_is_a_mixture_of_both_teachers():
    logits = torch.tensor([-1.0, 0.3, 2.0])
    said = torch.tensor([[0.0, 1.0], [1.0, -2.0], [1.0, 4.0]])
    label = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, said[:, 0], reduction="none"
    )
    assert torch.allclose(Taught(alpha=0.0).each(logits, said), label)
    # A student that says what the teacher says has no gradient left from it.
    agreed = said[:, 1].clone().requires_grad_()
    Taught(alpha=1.0, temperature=4.0).each(agreed, said).sum().backward()
    assert agreed.grad is not None
    assert agreed.grad.abs().max() < 1e-6


def test_front_and_tail_are_the_whole_encoder_and_the_head_starts_as_the_regression():
    torch.manual_seed(0)
    whole = EfficientNetLite0Encoder("none").eval()
    front = Front("none").eval()
    front.load_state_dict(whole.state_dict())
    tail = Tail(whole)
    x = torch.rand(6, 3, 64, 64)
    with torch.inference_mode():
        first = front(x)
        features = tail.features(first.deepest, first.features)
        assert torch.allclose(features, whole(x).features, atol=1e-4)
    targets = torch.tensor([[0.0, 0.0], [1.0, 0.0]]).repeat(3, 1)
    fit, weight = Taught(), torch.full((6,), 1 / 6)
    tail.start(fit, features.clone(), targets, weight)
    standard = (features - tail.mean) / tail.deviation
    expected = fit(standard.clone(), targets, weight, [], 0)(standard)
    with torch.inference_mode():
        logits = tail(first.deepest, first.features).numpy()
    assert np.allclose(logits, expected, atol=1e-3)


def test_every_family_is_in_one_fold_and_every_fold_has_both_classes():
    class Ground:
        names = ("a", "b", "c", "d", "e", "f", "g")
        is_fake = dict.fromkeys("abc", True) | dict.fromkeys("defg", False)

        asked = SimpleNamespace(folds=3)

    dealt = folds(Ground)  # type: ignore[arg-type]
    assert sorted(name for fold in dealt for name in fold) == list(Ground.names)
    assert all({Ground.is_fake[name] for name in fold} == {True, False} for fold in dealt)


def test_a_family_has_no_part_in_the_regression_that_stacks_its_scores():
    rng = np.random.default_rng(0)
    rows = {
        ((name, fake), "clean"): rng.normal(fake, 1, (20, 2))
        for name, fake in (("a", True), ("b", True), ("c", False), ("d", False))
    }
    before = stacked(rows, "a")
    changed = dict(rows)
    changed[("a", True), "clean"] = rows[("a", True), "clean"] - 50
    after = stacked(changed, "a")
    key = ("b", True), "clean"
    assert before[key].logits == after[key].logits
    assert stacked(changed, "c")[key].logits != before[key].logits
