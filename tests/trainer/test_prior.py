from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny_runs import CONFIG, make_data

from scanner.errors import UsageError
from scanner.verdict import probabilities
from trainer import checkpoint
from trainer.calibrate import calibrate, fit_to_prior
from trainer.config import FitConfig
from trainer.data import Splits, load_samples, split_samples
from trainer.fit import fit
from trainer.loader import draw_order, fake_share
from trainer.losses import ClassificationLoss
from trainer.scores import figures_at_prior

TINY = FitConfig(**{**CONFIG, "epochs": 2})


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> Splits:
    data = make_data(
        tmp_path_factory.mktemp("data"), {("real", "a"): 16, ("fake", "b"): 12, ("fake", "c"): 12}
    )
    return split_samples(load_samples(data), val_fraction=0.25, seed=0)


def _logistic(count: int, share: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are the true log odds at `share` fakes, and labels."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(count) < share).astype(np.int64)
    # Two normals of variance 4, 4 apart: their log ratio of densities is x itself.
    x = rng.normal(np.where(labels == 1, 2.0, -2.0), 2.0)
    return x + np.log(share / (1 - share)), labels


def test_the_fitted_shift_is_the_ratio_of_priors_where_the_model_is_logistic():
    """Saerens et al., 2002: log odds move by logit(new prior) - logit(old prior)."""
    logits, labels = _logistic(40_000, 0.5)
    prior = 1 / 11
    temperature, shift = fit_to_prior(logits, labels, prior)
    assert temperature == pytest.approx(1, abs=0.05)
    assert shift / temperature == pytest.approx(np.log(1 / 10), abs=0.1)


def test_p_fake_is_honest_where_fakes_are_as_rare_as_stated():
    """Fitted on an even set; judged on one that was drawn at the stated share."""
    logits, labels = _logistic(4_000, 0.5)
    found = calibrate(3 * logits + 1, labels, prior=1 / 11)
    rare, rare_labels = _logistic(40_000, 1 / 11, seed=1)
    rare -= np.log(1 / 10)  # the model's own logits know of an even set only
    p = probabilities(3 * rare + 1 + found.shift, found.temperature)
    assert p.mean() == pytest.approx(rare_labels.mean(), abs=0.01)
    called = p >= found.thresholds["best_f1"]
    even = probabilities(3 * logits + 1 + found.shift, found.temperature)
    stated = figures_at_prior(even, labels, found.thresholds["best_f1"], 1 / 11)
    assert rare_labels[called].mean() == pytest.approx(stated["precision"], abs=0.05)
    assert stated["ece"] < 0.02


def test_the_f1_of_rare_fakes_asks_for_more_than_that_of_many():
    logits, labels = _logistic(4_000, 0.5)
    even, rare = calibrate(logits, labels), calibrate(logits, labels, prior=1 / 11)
    p = probabilities(logits, even.temperature)
    p_rare = probabilities(logits + rare.shift, rare.temperature)
    assert (p_rare >= rare.thresholds["best_f1"]).sum() < (p >= even.thresholds["best_f1"]).sum()
    # J is the same verdict either way.
    one = p_rare >= rare.thresholds["youden"]
    np.testing.assert_array_equal(one, p >= even.thresholds["youden"])


@pytest.mark.parametrize("labels", [[0, 0, 1, 1], [1, 0, 1, 0]])
def test_a_handful_of_scores_gives_finite_calibration(labels: list[int]):
    found = calibrate(np.array([-3.0, -1.0, 2.0, 5.0]), np.array(labels), prior=1e-4)
    assert np.isfinite([found.temperature, found.shift, *found.thresholds.values()]).all()


@pytest.mark.parametrize("balance", ["none", "class", "source"])
def test_ten_real_pictures_are_drawn_for_one_fake(splits: Splits, balance: str):
    config = replace(TINY, real_per_fake=10.0, balance=balance)
    drawn = np.array(
        [
            splits.train[i].label
            for epoch in range(300)
            for i in draw_order(splits.train, config, epoch)
        ]
    )
    assert drawn.mean() == pytest.approx(1 / 11, abs=0.01)
    assert fake_share(splits.train, config) == pytest.approx(1 / 11)


def test_balanced_losses_weigh_both_classes_alike():
    """One fake among nine real pictures counts as much as they do together."""
    logit = torch.linspace(-2, 2, 10)
    label = torch.tensor([0] * 9 + [1])
    for kind in ("bce", "smoothed-bce", "focal"):
        config = replace(TINY, classification=kind, alpha_c=-1.0)
        whole = ClassificationLoss(replace(config, class_balance_loss=True), 0.1)(logit, label)
        plain = ClassificationLoss(config)
        halves = (plain(logit[:9], label[:9]) + plain(logit[9:], label[9:])) / 2
        torch.testing.assert_close(whole, halves)
    weightless = F.binary_cross_entropy_with_logits(logit, label.float())
    torch.testing.assert_close(ClassificationLoss(TINY, 0.1)(logit, label), weightless)


def test_a_fit_with_a_prior_carries_it_in_the_model(splits: Splits, tmp_path: Path):
    result = fit(replace(TINY, real_per_fake=10.0), splits, tmp_path / "run")
    assert result["operating_point"] == "best_f1"
    at = result["validation"]["best_f1"]["at_prior"]
    assert at["prior"] == pytest.approx(1 / 11)
    assert at["mean_p_fake"] == pytest.approx(1 / 11, abs=1e-3)
    again = fit(replace(TINY, real_per_fake=10.0), splits, tmp_path / "run", resume=True)
    assert again["thresholds"] == pytest.approx(result["thresholds"], abs=1e-4)
    before = checkpoint.load(tmp_path / "run" / checkpoint.BEST)["model"]
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == again
    assert all(torch.isfinite(t).all() for t in before.values())


def test_without_a_prior_nothing_is_said_of_one(splits: Splits, tmp_path: Path):
    result = fit(replace(TINY, class_balance_loss=True), splits, tmp_path / "run")
    assert result["operating_point"] == "youden"
    assert "at_prior" not in result["validation"]["half"]


def test_a_negative_ratio_is_refused():
    with pytest.raises(UsageError, match="real_per_fake"):
        replace(TINY, real_per_fake=-1.0)
