"""Figures of detectors on the same pictures, and the table of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks.peer_pictures import Family
from trainer.bootstrap import Resampled, differences, intervals
from trainer.left_out import FamilyScores, cross_fitted

DRAWS = 2000


@dataclass(frozen=True, slots=True)
class Detector:
    """`rows`: scores of each family at each tier, in the same order for all detectors; `own` its
    thresholds, as in `Peer`; `seconds` of CPU by picture, clean ones."""

    name: str
    own: Mapping[str, float]
    rows: tuple[FamilyScores, ...]
    seconds: Mapping[str, float]

    @classmethod
    def of(
        cls,
        name: str,
        own: Mapping[str, float],
        pictures: Mapping[Family, Sequence[str]],
        by_tier: Mapping[str, Mapping[str, float]],
        *,
        seconds: Mapping[str, float],
    ) -> Detector:
        """From scores by tier and picture's key, the same number of pictures for each family."""
        rows = tuple(
            FamilyScores(family, fake, tier, tuple(scores[key] for key in keys))
            for tier, scores in by_tier.items()
            for (family, fake), keys in pictures.items()
        )
        return cls(name, own, rows, seconds)


def figures(detectors: Sequence[Detector]) -> dict[str, Any]:
    """Name -> {"cpu", "tiers": {tier: figures}}; the first detector is what others are held to.

    AUC with its 95 % interval, and that of the difference to the first one, over draws of whole
    families (the same draws for all); shares judged rightly at the detector's own thresholds and
    at Youden's, fitted to the other families' scores of all tiers; AUC of each family against
    all pictures of the other class. "cpu" is the time of a picture, the first detector's being 1.
    """
    result: dict[str, Any] = {
        detector.name: {"cpu": _times(detectors[0], detector), "tiers": {}}
        for detector in detectors
    }
    fitted = {detector.name: cross_fitted(detector.rows) for detector in detectors}
    for tier in dict.fromkeys(row.tier for row in detectors[0].rows):
        first = None
        for detector in detectors:
            rows = [row for row in detector.rows if row.tier == tier]
            p = np.concatenate([row.logits for row in rows])
            labels = np.concatenate([np.full(len(row.logits), int(row.fake)) for row in rows])
            families = [row.family for row in rows for _ in row.logits]
            # As many pictures of each family: drawn as groups, they count alike.
            draws = Resampled(labels, families, count=DRAWS).figures(p, 0.0)
            first = draws if first is None else first
            interval, moved = intervals(draws)["auc"], differences(first, draws)["auc"]
            assert interval is not None
            assert moved is not None
            result[detector.name]["tiers"][tier] = {
                "auc": float(roc_auc_score(labels, p)),
                "auc_interval": asdict(interval),
                "auc_difference_interval": asdict(moved),
                "own": {name: _rates(rows, at) for name, at in detector.own.items()},
                "cross_fitted": _named(fitted[detector.name][tier]["points"]["youden"]),
                "families": {row.family: _against(row, rows) for row in rows},
            }
    return result


def _rates(rows: Sequence[FamilyScores], threshold: float) -> dict[str, float]:
    called = {fake: [np.mean(np.array(r.logits) >= threshold) for r in rows if r.fake == fake]
              for fake in (True, False)}  # fmt: skip
    found, passed = float(np.mean(called[True])), 1 - float(np.mean(called[False]))
    return {"balanced_accuracy": (found + passed) / 2, "real_called_real": passed,
            "fakes_found": found}  # fmt: skip


def _named(rates: Mapping[str, float]) -> dict[str, float]:
    return {
        "balanced_accuracy": rates["balanced_accuracy"],
        "real_called_real": rates["left_out_sources_called_real"],
        "fakes_found": rates["left_out_generators_called_fake"],
    }


def _against(row: FamilyScores, rows: Sequence[FamilyScores]) -> float:
    others = np.concatenate([other.logits for other in rows if other.fake != row.fake])
    labels = [int(row.fake)] * len(row.logits) + [int(not row.fake)] * len(others)
    return float(roc_auc_score(labels, np.concatenate([row.logits, others])))


def _times(first: Detector, detector: Detector) -> float | None:
    """Ratio of the median CPU seconds on the pictures that both were timed on."""
    both = sorted(set(first.seconds) & set(detector.seconds))
    if not both:
        return None
    one, other = (np.median([d.seconds[key] for key in both]) for d in (first, detector))
    return float(other / one)


def table(results: Mapping[str, Any]) -> str:
    """Markdown: what `figures` found, then the AUC of each family in clean pictures."""
    lines = [
        "| tier | detector | AUC (95 %) | own threshold: balanced accuracy (real called real, "
        "fakes found) | cross-fitted threshold: the same | CPU |",
        "|---|---|---|---|---|---|",
    ]
    tiers = list(next(iter(results.values()))["tiers"])
    for tier in tiers:
        for name, result in results.items():
            of_tier = result["tiers"][tier]
            low, high = of_tier["auc_interval"].values()
            own = next(iter(of_tier["own"].values()), None)
            cpu = "" if result["cpu"] is None else f"{result['cpu']:.3g}"
            lines.append(
                f"| {tier} | {name} | {of_tier['auc']:.3f} ({low:.3f}-{high:.3f}) | "
                f"{_cell(own)} | {_cell(of_tier['cross_fitted'])} | {cpu} |"
            )
    lines += ["", f"| AUC, {tiers[0]} | {' | '.join(results)} |", "|---" * (len(results) + 1) + "|"]
    families = next(iter(results.values()))["tiers"][tiers[0]]["families"]
    for family in families:
        cells = (f"{r['tiers'][tiers[0]]['families'][family]:.3f}" for r in results.values())
        lines.append(f"| {family} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(rates: Mapping[str, float] | None) -> str:
    if rates is None:
        return "none"
    names = ("balanced_accuracy", "real_called_real", "fakes_found")
    balanced, passed, found = (100 * rates[name] for name in names)
    return f"{balanced:.1f} ({passed:.0f}, {found:.0f})"
