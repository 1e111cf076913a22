from __future__ import annotations

import numpy as np
import pytest

from scanner.verdict import probabilities
from trainer.calibrate import (
    best_f1_threshold,
    calibrate,
    fit_temperature,
    youden_threshold,
)
from trainer.scores import figures


@pytest.fixture
def scored() -> tuple[np.ndarray, np.ndarray]:
    """Logits that are three times too sure, and labels drawn by the honest ones."""
    rng = np.random.default_rng(0)
    honest = rng.normal(0, 1.5, 20_000)
    labels = (rng.random(20_000) < 1 / (1 + np.exp(-honest))).astype(np.int64)
    return 3 * honest, labels


def test_temperature_undoes_overconfidence(scored):
    assert fit_temperature(*scored) == pytest.approx(3, rel=0.05)


def test_temperature_improves_calibration_and_keeps_the_ranking(scored):
    logits, labels = scored
    before = figures(probabilities(logits, 1.0), labels, 0.5)
    after = figures(probabilities(logits, fit_temperature(logits, labels)), labels, 0.5)
    assert after["ece"] < before["ece"] / 3
    assert after["auc"] == pytest.approx(before["auc"], abs=1e-9)
    assert after["accuracy"] == before["accuracy"]


def test_temperature_does_not_follow_the_share_of_a_class(scored):
    """Copies of all fakes must not change it: the classes count alike."""
    logits, labels = scored
    fake = labels == 1
    more = np.concatenate([logits, logits[fake], logits[fake]])
    more_labels = np.concatenate([labels, labels[fake], labels[fake]])
    assert fit_temperature(more, more_labels) == pytest.approx(
        fit_temperature(logits, labels), rel=1e-3
    )


def test_probabilities_survive_extreme_logits():
    p = probabilities(np.array([-1e9, -1.0, 0.0, 1.0, 1e9]), 0.05)
    assert np.isfinite(p).all()
    assert p[2] == 0.5
    assert (np.diff(p) > 0).all()


def test_youden_threshold_is_close_to_the_best_of_all(scored):
    p, labels = probabilities(scored[0][:2000], 3.0), scored[1][:2000]
    found = figures(p, labels, youden_threshold(p, labels))["balanced_accuracy"]
    assert found >= max(figures(p, labels, t)["balanced_accuracy"] for t in p) - 0.01


def test_youden_threshold_is_steadier_than_the_best_of_the_sample():
    """Two normal distributions of logits around -1 and 1: the true threshold is at 0.5."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 150)
    smoothed, empirical = [], []
    for _ in range(40):
        p = probabilities(rng.normal(np.where(labels == 1, 1.0, -1.0), 1.5), 1.0)
        smoothed.append(youden_threshold(p, labels))
        balanced = [figures(p, labels, t)["balanced_accuracy"] for t in p]
        empirical.append(p[int(np.argmax(balanced))])
    error = {
        name: float(np.mean(np.abs(np.array(found) - 0.5)))
        for name, found in (("smoothed", smoothed), ("empirical", empirical))
    }
    assert error["smoothed"] < 0.9 * error["empirical"]


def test_scores_that_are_all_alike_give_a_threshold_all_the_same():
    labels = np.array([0, 1, 0, 1])
    assert youden_threshold(np.full(4, 0.3), labels) == pytest.approx(0.3)
    assert 0 <= youden_threshold(np.array([0.0, 1.0, 0.0, 1.0]), labels) <= 1


def test_best_f1_threshold_is_the_best_of_all(scored):
    p, labels = probabilities(scored[0][:300], 3.0), scored[1][:300]
    best = figures(p, labels, best_f1_threshold(p, labels))["f1"]
    assert best == max(figures(p, labels, t)["f1"] for t in p)


def test_a_threshold_lies_between_two_scores():
    """So that rounding a score in another runtime does not turn the verdict over."""
    p, labels = np.array([0.1, 0.2, 0.6, 0.8]), np.array([0, 0, 1, 1])
    assert 0.25 < youden_threshold(p, labels) < 0.55
    assert best_f1_threshold(p, labels) == pytest.approx(0.4)


def test_calibrate_fits_thresholds_to_calibrated_scores(scored):
    logits, labels = scored
    found = calibrate(logits, labels)
    p = probabilities(logits, found.temperature)
    assert found.thresholds["youden"] == youden_threshold(p, labels)
    assert found.thresholds["best_f1"] == best_f1_threshold(p, labels)


def test_a_model_that_is_no_better_than_chance_is_warned_of(scored):
    logits, labels = scored[0][:400], scored[1][:400]
    assert calibrate(logits, labels).warnings == ()
    (bound, chance) = calibrate(-logits, labels).warnings
    assert "temperature 20" in bound
    assert "no better than chance" in chance
    for prior in (0.1, 0.5):
        assert "no better than chance" in calibrate(-logits, labels, prior).warnings[-1]


def test_a_temperature_that_stops_at_its_bound_is_warned_of(scored):
    logits, labels = scored[0][:400], scored[1][:400]
    for factor, bound in ((1e-4, "0.05"), (1e4, "20")):
        (warning,) = calibrate(factor * logits, labels).warnings
        assert f"temperature {bound}" in warning
