"""The tables of docs/model-quality.md, out of the figures that the embedded bundles hold.

    python -m benchmarks.quality_tables

A test holds the document to them, row by row.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from scanner.embedded import DEFAULT, EMBEDDED

Figures = Mapping[str, Any]
_RATES = (
    "balanced_accuracy", "left_out_generators_called_fake", "left_out_sources_called_real",
    "worst_source_called_real",
)  # fmt: skip
_TIERS = ("clean", "web", "hard")


def metrics(path: Path) -> Figures:
    """Of the bundle in this folder."""
    found: Figures = json.loads((path / "bundle.json").read_text("utf-8"))["metrics"]
    return found


def overview(models: Mapping[str, Figures]) -> Iterator[str]:
    """One row a model, as a scan judges what was left out: the last column, time, is not here."""
    for name, figures in models.items():
        tiers = [figures["left_out_points"][tier] for tier in _TIERS]
        right = [tier["points"]["youden"] for tier in tiers]
        title = f"`{name}`" + (" (default)" if name == DEFAULT else "")
        cells = [
            ", ".join(
                f"{of['balanced_accuracy'] * 100:.1f}" + (_between(of) if of is right[0] else "")
                for of in right
            ),
            ", ".join(f"{tier['auc']:.3f}" for tier in tiers),
            _each(tiers, "coverage", 0),
            _each(tiers, "balanced_accuracy_outside", 0),
            _each(tiers, "real_called_fake", 1),
            _each(tiers, "fake_called_fake", 0),
        ]
        yield f"| {title} | {' | '.join(cells)} |"


def _between(rates: Figures, key: str = "balanced_accuracy") -> str:
    low, high = rates["intervals"][key]
    return f" ({low * 100:.1f}-{high * 100:.1f})"


def _each(tiers: Sequence[Figures], key: str, digits: int) -> str:
    return ", ".join(f"{tier['unsure'][key] * 100:.{digits}f}" for tier in tiers)


def held_out(figures: Figures, shipped: str = "youden") -> Iterator[str]:
    """Known sources, of `trainer evaluate`."""
    for tier, content in figures["holdout"]["tiers"].items():
        for point, row in content["thresholds"].items():
            mark = ", shipped" if point == shipped else ""
            yield (
                f"| {tier} | {_named(point)} ({row['threshold']:.4f}){mark} | "
                f"{_percent(row, 'balanced_accuracy', 'recall', 'specificity')} | "
                f"{row['auc']:.3f} | {row['ece']:.3f} |"
            )


def left_out(figures: Figures) -> Iterator[str]:
    """Of `trainer benchmark`, at each fold's own thresholds, beside known sources."""
    for tier, points in figures["left_out"]["summary"].items():
        for point, row in points.items():
            if point == "auc":
                continue
            known = figures["left_out"]["in_domain"][tier][point]
            yield (
                f"| {tier} | {_named(point)} | {_percent(known, 'balanced_accuracy')}, "
                f"{known['auc']:.3f} | {_percent(row, 'balanced_accuracy')} "
                f"({row['low'] * 100:.1f}-{row['high'] * 100:.1f}) | "
                f"{_percent(row, *_RATES[1:3])} | {points['auc']:.3f} |"
            )


def families(figures: Figures) -> Iterator[str]:
    """Share rightly judged of each left-out family, fakes first, worst first."""
    found: dict[tuple[str, str], dict[str, Figures]] = {}
    for row in figures["left_out"]["families"]:
        found.setdefault((row["label"], row["family"]), {})[row["tier"]] = row
    by = sorted(found.items(), key=lambda item: (item[0][0], _right(item[1]["clean"])))
    for (label, name), tiers in by:
        cells = " | ".join(f"{_right(tiers[tier]) * 100:.0f}" for tier in _TIERS)
        clean = tiers["clean"]
        yield f"| {name} | {label} | {clean['count']} | {cells} | {clean['auc']:.3f} |"


def _right(row: Figures) -> float:
    return float(row["accuracy"]["youden"])


def calibrated(figures: Figures) -> Iterator[str]:
    """Operating points, each family judged by a calibration without it."""
    for tier, content in figures["left_out_points"].items():
        for point, rates in content["points"].items():
            cells = [f"{rates[key] * 100:.1f}{_between(rates, key)}" for key in _RATES[:3]]
            yield f"| {tier} | {point} | {' | '.join(cells)} | {_percent(rates, _RATES[3])} |"


def withheld(figures: Figures) -> Iterator[str]:
    """How many get a verdict, and of what worth those are."""
    for tier, content in figures["left_out_points"].items():
        sure = content["unsure"]
        rates = ("balanced_accuracy_outside", "fake_called_fake", "real_called_fake")
        cells = [f"{sure[key] * 100:.1f}{_between(sure, key)}" for key in rates]
        yield (
            f"| {tier} | {content['auc']:.3f} | {content['ece']:.3f} | "
            f"{sure['coverage'] * 100:.0f} % | {' | '.join(cells)} | "
            f"{sure['worst_real_called_fake'] * 100:.0f} |"
        )


def reliability(figures: Figures) -> Iterator[str]:
    """Of a stretch of P(fake), the share of fakes, were half of all pictures fakes."""
    tiers = [content["reliability"] for content in figures["left_out_points"].values()]
    for rows in zip(*tiers, strict=True):
        cells = [
            f"{row['fake'] * 100:.0f} ({row['interval'][0] * 100:.0f}-"
            f"{row['interval'][1] * 100:.0f})"
            for row in rows
        ]
        yield f"| {rows[0]['low']:g} to {rows[0]['high']:g} | {' | '.join(cells)} |"


def _percent(row: Figures, *keys: str) -> str:
    return " | ".join(f"{row[key] * 100:.1f}" for key in keys)


def _named(point: str) -> str:
    return "0.5" if point == "half" else point


def tables() -> Iterator[tuple[str, list[str]]]:
    """(what it is, rows) of all that the embedded bundles state."""
    models = {name: metrics(path) for name, path in EMBEDDED.items()}
    order = ("fast", "cascade", "accurate")
    yield "overview", list(overview({name: models[name] for name in order}))
    kinds: dict[str, Callable[[Figures], Iterator[str]]] = {
        "holdout": held_out, "left_out": left_out,
    }  # fmt: skip
    for name, figures in models.items():
        for key, rows in kinds.items():
            if key in figures:
                yield f"{name}: {key}", list(rows(figures))
        if "left_out" in figures:
            yield f"{name}: families", list(families(figures))
        yield f"{name}: operating points", list(calibrated(figures))
        yield f"{name}: unsure", list(withheld(figures))
        yield f"{name}: reliability", list(reliability(figures))


def main() -> None:
    """Print them all."""
    for title, rows in tables():
        print("\n".join([title, "", *rows, ""]))


if __name__ == "__main__":
    main()
