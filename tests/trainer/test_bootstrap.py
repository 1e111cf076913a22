"""Intervals follow the groups and the draws, not the order of the pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from tiny_runs import make_data, make_run

from trainer.bootstrap import Interval, Resampled, differences, intervals
from trainer.cli import command
from trainer.scores import figures


def _scores(count: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and P(fake) with many ties."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    return labels, np.round(np.clip(rng.normal(0.4 + 0.2 * labels, 0.2), 0, 1), 2)


def _alone(count: int) -> list[str]:
    return [str(i) for i in range(count)]


def test_each_draw_is_the_figure_of_the_pictures_drawn():
    labels, p = _scores(120)
    groups = [str(i // 3) for i in range(120)]
    resampled = Resampled(labels, groups, count=40)
    drawn = resampled.figures(p, 0.5)
    weights = np.concatenate(list(resampled._weights()))
    assert weights.shape == (40, 120)
    for i, weight in enumerate(weights):
        assert drawn["auc"][i] == pytest.approx(roc_auc_score(labels, p, sample_weight=weight))
        assert drawn["accuracy"][i] == pytest.approx(
            np.average((p >= 0.5) == labels, weights=weight)
        )
        assert drawn["balanced_accuracy"][i] == pytest.approx(
            balanced_accuracy_score(labels, p >= 0.5, sample_weight=weight)
        )


def test_a_group_is_drawn_whole_and_each_class_keeps_its_number_of_groups():
    labels = np.array([0] * 6 + [1] * 8)
    groups = ["a", "a", "b", "b", "c", "c", "a", "a", "d", "d", "e", "e", "f", "f"]
    resampled = Resampled(labels, groups, count=50)
    for weight in np.concatenate(list(resampled._weights())):
        np.testing.assert_array_equal(weight[::2], weight[1::2])
        assert weight[:6].sum() == 6
        assert weight[6:].sum() == 8


def test_large_sets_are_drawn_in_parts_with_the_same_result(monkeypatch: pytest.MonkeyPatch):
    labels, p = _scores(200)
    whole = Resampled(labels, _alone(200), count=30).figures(p, 0.5)
    monkeypatch.setattr("trainer.bootstrap._AT_ONCE", 7 * 200)
    parts = Resampled(labels, _alone(200), count=30).figures(p, 0.5)
    for name, values in whole.items():
        np.testing.assert_array_equal(parts[name], values)


def test_the_interval_is_that_of_the_binomial_where_that_is_known():
    labels, p = _scores(2000)
    found = intervals(Resampled(labels, _alone(2000), count=2000).figures(p, 0.5))["accuracy"]
    share = figures(p, labels, 0.5)["accuracy"]
    assert found is not None
    assert (found.high - found.low) / 2 == pytest.approx(
        1.96 * (share * (1 - share) / 2000) ** 0.5, rel=0.1
    )
    assert found.low < share < found.high


def test_pictures_alike_within_groups_widen_the_interval():
    labels, p = _scores(100)
    labels, p = np.repeat(labels, 4), np.repeat(p, 4)
    groups = [str(i // 4) for i in range(400)]
    grouped = intervals(Resampled(labels, groups).figures(p, 0.5))["auc"]
    alone = intervals(Resampled(labels, _alone(400)).figures(p, 0.5))["auc"]
    assert grouped is not None
    assert alone is not None
    assert grouped.high - grouped.low > 1.7 * (alone.high - alone.low)


def test_a_difference_is_drawn_in_pairs():
    labels, p = _scores()
    resampled = Resampled(labels, _alone(400))
    one = resampled.figures(p, 0.5)
    assert differences(one, one)["auc"] == Interval(0.0, 0.0)
    better = resampled.figures(np.clip(p + 0.05 * (labels - 0.5), 0, 1), 0.5)
    moved, before, after = (
        x["auc"] for x in (differences(one, better), intervals(one), intervals(better))
    )
    assert moved is not None
    assert before is not None
    assert after is not None
    assert moved.low > 0, "sure of the gain, where the intervals of both runs overlap"
    assert after.low < before.high


def test_one_class_has_an_accuracy_and_nothing_else():
    found = intervals(Resampled(np.ones(9, int), _alone(9)).figures(np.linspace(0, 1, 9), 0.5))
    assert found["accuracy"] is not None
    assert found["balanced_accuracy"] is None
    assert found["auc"] is None


SOURCES = {("real", "photos"): 12, ("fake", "gan"): 12}


def _evaluate(tmp_path: Path, *more: str) -> tuple[dict, str, str]:
    data = make_data(tmp_path / "data", SOURCES, ("train", "test"))
    roles = {"train": "train", "test": "holdout"}
    runs = [make_run(tmp_path / name, data, roles, seed=i) for i, name in enumerate("abc")]
    arguments = ["evaluate", *map(str, runs), "--data", str(data), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(command, [*arguments, "--workers", "0", *more])
    assert result.exception is None, result.output
    found = json.loads((tmp_path / "out" / "evaluation.json").read_text("utf-8"))
    return found, (tmp_path / "out" / "evaluation.html").read_text("utf-8"), result.stdout


def test_an_evaluation_tells_intervals_and_differences(tmp_path: Path):
    found, page, text = _evaluate(tmp_path, "--bootstrap", "50", "--seed", "3")
    assert (found["bootstrap"]["draws"], found["bootstrap"]["seed"]) == (50, 3)
    pairs = [(d["from"], d["to"]) for d in found["bootstrap"]["differences"]]
    assert pairs == [("a", "b"), ("a", "c"), ("b", "c")]
    at = {n: run["tiers"]["clean"]["thresholds"]["youden"] for n, run in found["runs"].items()}
    for figure in ("accuracy", "balanced_accuracy", "auc"):
        for name in "abc":
            low, high = at[name]["intervals"][figure]
            assert 0 <= low <= at[name][figure] <= high <= 1
        for moved in found["bootstrap"]["differences"]:
            difference = at[moved["to"]][figure] - at[moved["from"]][figure]
            assert moved[figure]["difference"] == pytest.approx(difference)
            assert moved[figure]["low"] <= difference <= moved[figure]["high"]
    assert "bootstrap of 50 draws" in text
    assert text.count("each run against the one before it") == 1
    assert "every pair of runs" in page


def test_no_draws_no_intervals(tmp_path: Path):
    found, page, text = _evaluate(tmp_path, "--bootstrap", "0")
    assert found["bootstrap"] is None
    assert "intervals" not in found["runs"]["a"]["tiers"]["clean"]["thresholds"]["youden"]
    assert "bootstrap" not in text
    assert "Efron" not in page
