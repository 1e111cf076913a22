from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from trainer.config import FitConfig
from trainer.models import AutoencoderClassifier
from trainer.scores import (
    expected_calibration_error,
    figures,
    score_batches,
    source_figures,
    wilson_interval,
)

# Six pictures worked out by hand; 1 is fake. At 0.5: tp 2, fp 1, fn 1, tn 2.
P = np.array([0.9, 0.8, 0.7, 0.4, 0.3, 0.1])
LABELS = np.array([1, 1, 0, 1, 0, 0])


def test_figures_are_those_worked_out_by_hand():
    at = figures(P, LABELS, 0.5)
    assert at["confusion"] == {"tp": 2, "fp": 1, "fn": 1, "tn": 2}
    assert at["accuracy"] == pytest.approx(4 / 6)
    assert at["precision"] == pytest.approx(2 / 3)
    assert at["recall"] == pytest.approx(2 / 3)
    assert at["specificity"] == pytest.approx(2 / 3)
    assert at["balanced_accuracy"] == pytest.approx(2 / 3)
    assert at["f1"] == pytest.approx(2 / 3)
    assert at["auc"] == pytest.approx(8 / 9)  # of 9 pairs, one (0.7 over 0.4) stands wrong
    assert at["ap"] == pytest.approx((1 + 1 + 3 / 4) / 3)
    brier = (0.1**2 + 0.2**2 + 0.7**2 + 0.6**2 + 0.3**2 + 0.1**2) / 6
    assert at["brier"] == pytest.approx(brier)


def test_balanced_accuracy_counts_the_classes_alike():
    labels = np.array([1] + [0] * 9)
    at = figures(np.zeros(10), labels, 0.5)
    assert (at["accuracy"], at["balanced_accuracy"]) == (0.9, 0.5)


def test_equal_scores_count_half_in_the_auc():
    assert figures(np.full(4, 0.3), np.array([0, 1, 0, 1]), 0.5)["auc"] == 0.5


def test_a_score_at_the_threshold_is_fake():
    assert figures(np.array([0.5]), np.array([1]), 0.5)["confusion"]["tp"] == 1


def test_figures_that_a_missing_class_leaves_undefined_are_none():
    at = figures(np.array([0.2, 0.9]), np.array([0, 0]), 0.5)
    assert at["accuracy"] == 0.5
    assert at["specificity"] == 0.5
    for name in ("recall", "balanced_accuracy", "auc", "ap"):
        assert at[name] is None


def test_precision_is_none_where_nothing_is_called_fake():
    assert figures(P, LABELS, 0.95)["precision"] is None


def test_ece_is_the_mean_gap_weighted_by_pictures():
    # Ten bins: three at 0.15 (no fake), one at 0.85 (fake).
    p, labels = np.array([0.15, 0.15, 0.15, 0.85]), np.array([0, 0, 0, 1])
    assert expected_calibration_error(p, labels, bins=10) == pytest.approx(0.15)
    labels = np.array([0, 0, 1, 1])
    expected = 0.75 * (1 / 3 - 0.15) + 0.25 * 0.15
    assert expected_calibration_error(p, labels, bins=10) == pytest.approx(expected)


def test_certainty_falls_into_the_last_bin():
    assert expected_calibration_error(np.array([1.0, 0.0]), np.array([1, 0])) == 0.0


@pytest.mark.parametrize(
    ("part", "whole", "low", "high"),
    [(8, 10, 0.4902, 0.9433), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (0, 0, 0.0, 1.0)],
)
def test_wilson_interval_has_its_published_values(part, whole, low, high):
    assert wilson_interval(part, whole) == pytest.approx((low, high), abs=5e-5)


def test_each_source_is_judged_by_its_own_class():
    sources = ["gan", "gan", "art", "art", "art", "photos"]
    rows = source_figures(P, LABELS, sources, 0.5)
    # "art" stands in both classes: two sources. Real ones come first, each class by name.
    told = [(r["label"], r["source"], r["correct"], r["count"]) for r in rows]
    assert told == [("real", "art", 1, 2), ("real", "photos", 1, 1), ("fake", "art", 0, 1),
                    ("fake", "gan", 2, 2)]  # fmt: skip
    assert rows[0]["mean_p_fake"] == pytest.approx(0.5)
    for row in rows:
        assert row["low"] <= row["accuracy"] <= row["high"]


def test_sources_add_up_to_the_whole():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 200)
    p, sources = rng.random(200), [f"{'ab'[int(v)]}{rng.integers(4)}" for v in labels]
    at = figures(p, labels, 0.4)
    rows = source_figures(p, labels, sources, 0.4)
    right = {label: sum(r["correct"] for r in rows if r["label"] == label) for label in
             ("real", "fake")}  # fmt: skip
    assert right == {"real": at["confusion"]["tn"], "fake": at["confusion"]["tp"]}
    assert sum(r["count"] for r in rows) == 200


@pytest.fixture
def model() -> AutoencoderClassifier:
    config = FitConfig(
        preset="t", encoder="conv", encoder_weights="none", unfrozen=-1, size=16,
        decoder="transposed", reconstruction="mse", perceptual="none",
    )  # fmt: skip
    torch.manual_seed(0)
    return AutoencoderClassifier(config, pretrained=False)


def test_a_picture_scores_the_mean_of_its_views(model: AutoencoderClassifier):
    pixels = torch.rand(2, 3, 3, 16, 16)
    batch = (pixels, torch.tensor([0, 1]), torch.tensor([0, 1]))
    scores = score_batches(model, [batch], torch.device("cpu"))
    alone = [
        score_batches(
            model, [(pixels[:, v : v + 1], batch[1], batch[2])], torch.device("cpu")
        ).logits
        for v in range(3)
    ]
    np.testing.assert_allclose(scores.logits, np.mean(alone, axis=0), rtol=1e-5, atol=1e-7)
    assert scores.labels.tolist() == [0, 1]


def test_scores_do_not_depend_on_the_batches(model: AutoencoderClassifier):
    pixels, label = torch.rand(5, 1, 3, 16, 16), torch.tensor([0, 1, 0, 1, 1])
    cpu = torch.device("cpu")
    whole = score_batches(model, [(pixels, label, label)], cpu)
    parts = score_batches(
        model, [(pixels[:4], label[:4], label[:4]), (pixels[4:], label[4:], label[4:])], cpu
    )
    np.testing.assert_allclose(whole.logits, parts.logits, rtol=1e-5, atol=1e-7)
    assert whole.reconstruction_error == pytest.approx(parts.reconstruction_error, rel=1e-5)


def test_without_a_decoder_there_is_no_reconstruction_error():
    config = FitConfig(
        preset="t", encoder="conv", encoder_weights="none", unfrozen=-1, size=16,
        decoder="none", reconstruction="none", perceptual="none",
    )  # fmt: skip
    bare = AutoencoderClassifier(config, pretrained=False)
    label = torch.tensor([1])
    scores = score_batches(bare, [(torch.rand(1, 1, 3, 16, 16), label, label)], torch.device("cpu"))
    assert math.isnan(scores.reconstruction_error)
