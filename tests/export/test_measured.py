from __future__ import annotations

import pytest

from export.card import _measured
from export.measured import digest
from scanner.errors import UsageError

FIGURES = {
    "count": 4, "threshold": 0.4, "accuracy": 0.75, "balanced_accuracy": 0.7, "precision": 1.0,
    "recall": 0.5, "specificity": 1.0, "f1": 0.6667, "auc": 0.9, "ap": 0.9, "ece": 0.1,
    "brier": 0.2, "confusion": {"tp": 1, "fp": 0, "fn": 1, "tn": 2},
}  # fmt: skip
SOURCES = [
    {"source": "sdxl", "label": "fake", "count": 2, "correct": 1, "accuracy": 0.5, "low": 0.1}
]
EVALUATION = {
    "runs": {
        "r": {
            "split": "holdout",
            "operating_point": "youden",
            "tiers": {
                "clean": {
                    "thresholds": {"youden": {**FIGURES, "sources": SOURCES}},
                    "misclassified": [{"file": "private/name.jpg"}],
                }
            },
        }
    }
}


def test_a_bundle_keeps_figures_and_no_file_names():
    kept = digest(EVALUATION, "evaluation.json")
    assert kept["tiers"]["clean"]["thresholds"]["youden"]["balanced_accuracy"] == 0.7
    assert kept["tiers"]["clean"]["sources"] == [
        {"source": "sdxl", "label": "fake", "count": 2, "accuracy": 0.5}
    ]
    assert "private" not in str(kept)


def test_the_card_shows_what_was_measured_on_unseen_pictures():
    text = "\n".join(_measured("holdout", digest(EVALUATION, "x"), "youden"))
    assert "| clean, youden (0.4000) - shipped | 0.700 |" in text
    assert "| fake: sdxl | 2 | 0.500 |" in text


def test_the_card_shows_left_out_families():
    row = {
        "balanced_accuracy": 0.8, "low": 0.7, "high": 0.9,
        "left_out_generators_called_fake": 0.75, "left_out_sources_called_real": 0.85,
    }  # fmt: skip
    families = [
        {"family": "sdxl", "label": "fake", "tier": tier, "count": 7, "auc": 0.9,
         "accuracy": {"youden": accuracy}, "keys": ["private/name.jpg"], "logits": [0.1]}
        for tier, accuracy in (("clean", 0.75), ("web", 0.5))
    ]  # fmt: skip
    raw = {"left_out": families, "summary": {"web": {"auc": 0.91, "youden": row}}, "config": {},
           "in_domain": {"web": {"youden": FIGURES}}}  # fmt: skip
    kept = digest(raw, "x")
    assert "private" not in str(kept)
    assert kept["in_domain"]["web"]["youden"]["auc"] == 0.9
    text = "\n".join(_measured("left_out", kept, "youden"))
    assert "| web, youden | 0.700 | 0.800 (0.700-0.900) | 0.750 | 0.850 | 0.910 |" in text
    assert "| left out | pictures | clean | web |" in text
    assert "| fake: sdxl | 7 | 0.750 | 0.500 |" in text


def test_figures_of_several_runs_are_refused():
    with pytest.raises(UsageError, match="2 runs"):
        digest({"runs": {"a": {}, "b": {}}}, "evaluation.json")


def test_other_figures_stay_as_they_are():
    assert digest({"speed": 3}, "x") == {"speed": 3}
    with pytest.raises(UsageError, match="object"):
        digest([1], "x")
