"""The benchmark that a bundle states, so that it can be run again and compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scanner.bundle import Bundle
from scanner.errors import UsageError
from trainer.config import FitConfig, config_from_dict

_RATES = ("balanced_accuracy", "left_out_sources_called_real")
_SURE = ("coverage", "balanced_accuracy_outside", "fake_called_fake", "real_called_fake")


@dataclass(frozen=True, slots=True)
class Stated:
    """`config` is the recipe of the bundle's fit; `families` maps a source to the family it was
    left out with; `limit` caps the pictures scored of a family; `summary` is `trainer
    benchmark`'s, as it was measured before the bundle was written.
    """

    config: FitConfig
    families: Mapping[str, str]
    limit: int
    summary: Mapping[str, Any]

    @property
    def merged(self) -> dict[str, list[str]]:
        """Family -> its sources, of those that have several."""
        result: dict[str, list[str]] = {}
        for source, family in self.families.items():
            result.setdefault(family, []).append(source)
        return result


def stated_by(bundle: Bundle) -> Stated:
    """What `bundle` says of its benchmark; raises UsageError if it says nothing."""
    for figures in bundle.metrics.values():
        if isinstance(figures, Mapping) and figures.get("kind") == "benchmark":
            if "limit" not in figures:
                break
            config = config_from_dict(bundle.training["config"], origin=f"{bundle.path}")
            return Stated(config, figures["merged"], figures["limit"], figures["summary"])
    raise UsageError(
        f"{bundle.path}: states no benchmark that could be run again; run `trainer benchmark "
        "--preset` with its recipe, and export with --metrics left_out=BENCHMARK.json"
    )


def compared(stated: Mapping[str, Any], measured: Mapping[str, Any]) -> str:
    """Left-out figures that a bundle states beside those just measured, Markdown.

    Both are summaries of `trainer benchmark`; balanced accuracies in per cent.
    """
    lines = [
        "| tier | point | balanced accuracy: stated, measured | AUC: stated, measured |",
        "|---|---|---|---|",
    ]
    for tier, points in stated.items():
        for point, figures in points.items():
            if point == "auc":
                continue
            now = measured[tier]
            lines.append(
                f"| {tier} | {point} | {figures['balanced_accuracy'] * 100:.1f}, "
                f"{now[point]['balanced_accuracy'] * 100:.1f} | "
                f"{points['auc']:.3f}, {now['auc']:.3f} |"
            )
    return "\n".join(lines)


def compared_points(stated: Mapping[str, Any], measured: Mapping[str, Any]) -> str:
    """The same of operating points that were fitted to left-out families, Markdown: at each point,
    and of the verdicts outside of `unsure`."""
    lines = [
        "| tier | point | balanced accuracy: stated, measured | sources called real: stated, "
        "measured |",
        "|---|---|---|---|",
    ]
    for tier, content in stated.items():
        for point, figures in content["points"].items():
            now = measured[tier]["points"][point]
            pairs = [_pair(figures, now, key) for key in _RATES]
            lines.append(f"| {tier} | {point} | {' | '.join(pairs)} |")
    lines += [
        "",
        "| tier | get a verdict: stated, measured | of those right | fakes with verdict `fake` | "
        "real ones with verdict `fake` |",
        "|---|---|---|---|---|",
    ]
    for tier, content in stated.items():
        now = measured[tier]["unsure"]
        pairs = [_pair(content["unsure"], now, key) for key in _SURE]
        lines.append(f"| {tier} | {' | '.join(pairs)} |")
    return "\n".join(lines)


def _pair(stated: Mapping[str, Any], measured: Mapping[str, Any], key: str) -> str:
    """Per cent."""
    return ", ".join(
        "none" if of[key] is None else f"{of[key] * 100:.1f}" for of in (stated, measured)
    )
