"""Figures for the bundle, out of the JSON files that the trainer's commands leave."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scanner.bundle import Bundle
from scanner.errors import UsageError
from scanner.text import one_line

_POINT_FIGURES = (
    "count", "threshold", "accuracy", "balanced_accuracy", "precision", "recall", "specificity",
    "f1", "auc", "ap", "ece", "brier",
)  # fmt: skip
_KINDS = ("evaluation", "benchmark")
_OF_PICTURES = ("keys", "groups", "logits", "cuts")


def digest(raw: Any, origin: str) -> dict[str, Any]:
    """What a bundle keeps of a file of figures.

    Of `trainer evaluate`'s evaluation.json (of one run): split, and for each tier the figures
    at each threshold and the accuracy of each source. Of `trainer benchmark`'s JSON: the
    summary over left-out families, each family's row, and the figures on known sources. Any
    other object is kept as it is. Raises UsageError.
    """
    if not isinstance(raw, Mapping):
        raise UsageError(f"{origin}: must hold an object")
    if raw.get("kind") in _KINDS:
        raise UsageError(
            f"{origin}: its kind {raw['kind']!r} is that of figures which a bundle holds already; "
            "give the file that the trainer's command left"
        )
    try:
        return _digest(raw, origin)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f"{origin}: no whole file of `trainer evaluate` or `trainer benchmark` "
            f"({type(error).__name__}: {one_line(error, 100)}); run the command again"
        ) from None


def require_own(raw: Any, bundle: Bundle, origin: str) -> None:
    """Raises UsageError where `raw`, of `trainer evaluate`, is of another bundle than this.

    Of a run it does not say which bundle was made of it.
    """
    runs = raw.get("runs") if isinstance(raw, Mapping) else None
    for run in runs.values() if isinstance(runs, Mapping) else ():
        of = run.get("bundle") if isinstance(run, Mapping) else None
        if of is not None and of != (own := f"{bundle.name}@{bundle.digest}"):
            raise UsageError(
                f"{origin}: is of {one_line(of, 80)}, and this is {own}; evaluate this one"
            )


def _digest(raw: Mapping[str, Any], origin: str) -> dict[str, Any]:
    if isinstance(raw.get("runs"), Mapping):
        if len(raw["runs"]) != 1:
            raise UsageError(f"{origin}: holds {len(raw['runs'])} runs; evaluate this one alone")
        (run,) = raw["runs"].values()
        return {"kind": "evaluation", "split": run["split"], "tiers": _tiers(run)}
    if "left_out" in raw and "summary" in raw:
        # The scores themselves are for calibration, and long.
        families = [
            {key: value for key, value in row.items() if key not in _OF_PICTURES}
            for row in raw["left_out"]
        ]
        kept = {"kind": "benchmark", "summary": raw["summary"], "families": families}
        if "in_domain" in raw:
            kept["in_domain"] = _known(raw["in_domain"])
        if "limit" in raw:  # what it takes to run it again
            kept |= {"merged": raw["families"], "limit": raw["limit"]}
        return kept
    return dict(raw)


def _known(in_domain: Mapping[str, Any]) -> dict[str, Any]:
    return {
        tier: {
            point: {key: figures[key] for key in _POINT_FIGURES if key in figures}
            for point, figures in points.items()
        }
        for tier, points in in_domain.items()
    }


def _tiers(run: Mapping[str, Any]) -> dict[str, Any]:
    tiers = {}
    for name, tier in run["tiers"].items():
        points = {
            point: {key: figures[key] for key in _POINT_FIGURES}
            for point, figures in tier["thresholds"].items()
        }
        shipped = tier["thresholds"][run["operating_point"]]
        sources = [
            {key: row[key] for key in ("source", "label", "count", "accuracy")}
            for row in shipped["sources"]
        ]
        tiers[name] = {"thresholds": points, "sources": sources}
    return tiers
