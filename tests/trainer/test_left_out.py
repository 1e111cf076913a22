"""Operating points from left-out families: each family counts alike, and none judges itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scanner.errors import UsageError
from trainer.left_out import (
    UNSURE_ABOVE,
    FamilyScores,
    cross_fitted,
    fit_left_out,
    read_scores,
)


def _family(name: str, fake: bool, mean: float, count: int = 400, tier: str = "clean"):
    draws = np.random.default_rng(sum(map(ord, name))).normal(mean, 1.5, count)
    return FamilyScores(name, fake, tier, tuple(float(d) for d in draws))


FAMILIES = [
    *(_family(f"generator-{i}", True, 2.5 + 0.3 * i) for i in range(4)),
    *(_family(f"source-{i}", False, -2.5 + 0.3 * i) for i in range(4)),
]


def test_calibrated_scores_of_a_made_up_model_are_calibrated():
    """Two normal distributions of variance v, m apart: the true log odds are m / v times x."""
    scores = [_family("g", True, 1.0, 20_000), _family("s", False, -1.0, 20_000)]
    calibration = fit_left_out(scores)
    assert 1 / calibration.temperature == pytest.approx(2.0 / 1.5**2, rel=0.05)
    assert calibration.shift == pytest.approx(0.0, abs=0.05)
    assert calibration.thresholds["youden"] == pytest.approx(0.5, abs=0.05)


def test_a_large_family_weighs_no_more_than_a_small_one():
    small = [_family("g", True, 2, 100), _family("s", False, -2, 100), _family("t", False, 0, 100)]
    large = [small[0], FamilyScores("s", False, "clean", small[1].logits * 9), small[2]]
    one, other = fit_left_out(small), fit_left_out(large)
    assert one.temperature == pytest.approx(other.temperature, rel=0.02)
    assert one.thresholds == pytest.approx(other.thresholds, abs=0.02)


def test_at_most_the_stated_share_of_left_out_real_pictures_is_called_fake():
    calibration = fit_left_out(FAMILIES)
    alarms = [
        float((calibration.p_fake(np.array(s.logits)) >= calibration.thresholds["fpr_1pct"]).mean())
        for s in FAMILIES
        if not s.fake
    ]
    assert 0 < np.mean(alarms) <= 0.01
    assert calibration.thresholds["fpr_0.1pct"] > calibration.thresholds["fpr_1pct"]


def test_within_the_unsure_band_errors_are_frequent_and_outside_rare():
    calibration = fit_left_out(FAMILIES)
    assert calibration.unsure is not None
    low, high = calibration.unsure
    p = np.concatenate([calibration.p_fake(np.array(s.logits)) for s in FAMILIES])
    fake = np.concatenate([np.full(len(s.logits), s.fake) for s in FAMILIES])
    wrong = (p >= calibration.thresholds["youden"]) != fake
    inside = (p >= low) & (p < high)
    assert low < calibration.thresholds["youden"] < high
    assert wrong[inside].mean() > UNSURE_ABOVE
    assert wrong[~inside].mean() < UNSURE_ABOVE / 2


def test_families_that_are_told_apart_without_error_leave_no_verdict_unsure():
    scores = [_family("g", True, 20.0), _family("s", False, -20.0)]
    assert fit_left_out(scores).unsure is None


def test_what_is_reported_of_a_family_does_not_depend_on_its_part_in_the_fit():
    """Another family's thresholds judge it: shifting its own scores cannot hide its errors."""
    astray = FamilyScores("astray", False, "clean", (9.0,) * 50)
    measured = cross_fitted([*FAMILIES, astray])
    assert measured["clean"]["points"]["fpr_1pct"]["worst_source_called_real"] == 0.0


def test_figures_are_means_over_families():
    measured = cross_fitted(FAMILIES)["clean"]
    rates = measured["points"]["youden"]
    assert rates["balanced_accuracy"] == pytest.approx(
        (rates["left_out_generators_called_fake"] + rates["left_out_sources_called_real"]) / 2
    )
    assert rates["balanced_accuracy"] > 0.9
    assert measured["ece"] < 0.1
    assert measured["unsure"]["balanced_accuracy_outside"] > rates["balanced_accuracy"]
    assert 0.5 < measured["unsure"]["coverage"] < 1


def test_where_all_of_a_class_is_unsure_nothing_is_said_of_the_rest():
    torn = [FamilyScores(name, fake, "clean", (-0.1, 0.0, 0.1) * 20)
            for name, fake in (("a", True), ("b", True), ("c", False), ("d", False))]  # fmt: skip
    unsure = cross_fitted(torn)["clean"]["unsure"]
    intervals = unsure.pop("intervals")
    assert unsure == {
        "coverage": 0.0, "balanced_accuracy_outside": None, "real_called_fake": 0.0,
        "fake_called_fake": 0.0, "worst_real_called_fake": 0.0,
    }  # fmt: skip
    assert intervals["balanced_accuracy_outside"] is None


def test_every_rate_has_an_interval_around_it_and_stretches_of_p_fake_their_shares():
    measured = cross_fitted(FAMILIES)["clean"]
    for rates in measured["points"].values():
        for key, (low, high) in rates["intervals"].items():
            assert low <= rates[key] <= high, key
    for key, (low, high) in measured["unsure"]["intervals"].items():
        assert low <= measured["unsure"][key] <= high, key
    stretches = measured["reliability"]
    assert sum(stretch["share"] for stretch in stretches) == pytest.approx(1)
    shares = [stretch["fake"] for stretch in stretches]
    assert shares == sorted(shares)
    assert all(s["interval"][0] <= s["fake"] <= s["interval"][1] for s in stretches)
    # The two classes' normal distributions overlap so far that a pair is rightly ranked so often.
    pairs = [(f, r) for f in FAMILIES if f.fake for r in FAMILIES if not r.fake]
    ranked = [np.mean(np.array(f.logits)[:, None] > np.array(r.logits)[None]) for f, r in pairs]
    assert measured["auc"] == pytest.approx(np.mean(ranked), abs=0.01)


def test_tiers_of_a_family_share_its_weight():
    alone = fit_left_out(FAMILIES)
    twice = fit_left_out([*FAMILIES, *(
        FamilyScores(s.family, s.fake, "hard", s.logits) for s in FAMILIES
    )])  # fmt: skip
    assert twice.temperature == pytest.approx(alone.temperature, rel=0.02)


@pytest.mark.parametrize(
    "raw",
    [
        {},
        {"left_out": []},
        {"left_out": [{"family": "a", "label": "fake", "tier": "clean", "accuracy": {}}]},
        {"left_out": [{"family": "a", "label": "fake", "tier": "clean", "logits": []}]},
        {"left_out": [{"family": "a", "label": "fake", "tier": "clean", "logits": [1.0]}]},
    ],
)
def test_a_benchmark_without_scores_is_refused_by_name(raw: dict, tmp_path: Path):
    with pytest.raises(UsageError, match=r"bench\.json"):
        read_scores(raw, "bench.json")
