"""The model card of a bundle (Mitchell et al., 2019): what made it and what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scanner.bundle import Bundle
from scanner.preprocess import PreprocessSpec

_FIGURES = ("balanced_accuracy", "recall", "specificity", "precision", "f1", "auc", "ece")


def model_card(
    *,
    name: str,
    spec: PreprocessSpec,
    thresholds: Mapping[str, float],
    operating_point: str,
    temperature: float,
    unsure: Sequence[float] | None,
    metrics: Mapping[str, Any],
    training: Mapping[str, Any],
    notes: str,
) -> str:
    """Markdown; `notes` stands between the title and the tables, unchanged."""
    config = training["config"]
    pictures = metrics["pictures"]
    lines = [
        f"# Model card: {name}",
        "",
        *([notes.strip(), ""] if notes.strip() else []),
        "## Model",
        "",
        f"- Preset `{config['preset']}`: encoder {config['encoder']}"
        f" ({_trained(config['unfrozen'])}), decoder {config['decoder']}, head "
        f"{' -> '.join(str(n) for n in [*config['head'], 1])}",
        *_experts(training),
        f"- Losses: reconstruction {config['reconstruction']}, classification "
        f"{config['classification']}; best of {config['epochs']} epochs was {training['epoch']}; "
        f"{training['seconds'] / 60:.0f} minutes on {training['device']} (torch "
        f"{training['torch']}), seed {config['seed']}",
        f"- Input: {spec.views} square view(s) of {spec.size} x {spec.size} pixels, short side "
        f"resized ({spec.resampling}){', grey' if spec.grey else ''}",
        f"- Fitted on {pictures['train']} pictures, validated on {pictures['val']}; "
        f"{pictures['holdout']} were held out",
        f"- Agreement of the ONNX graphs with torch on {metrics['parity']['pictures']} golden "
        f"pictures: P(fake) differs by at most "
        f"{metrics['parity']['max_probability_difference']:.1e}",
        "",
        "## Operating points",
        "",
        *(
            _left_out_points(metrics["left_out_points"], thresholds, operating_point, temperature)
            if "left_out_points" in metrics
            else _validation_points(metrics, thresholds, operating_point, temperature)
        ),
        *_unsure(unsure),
        *(
            line
            for key, figures in metrics.items()
            if isinstance(figures, Mapping)
            for line in _measured(key, figures, operating_point)
        ),
    ]
    return "\n".join(lines)


def cascade_card(
    *,
    name: str,
    bundles: Sequence[Bundle],
    thresholds: Mapping[str, float],
    operating_point: str,
    temperature: float,
    unsure: Sequence[float] | None,
    metrics: Mapping[str, Any],
    rescore: tuple[float, float],
    notes: str,
) -> str:
    """Markdown for two stages; `notes` stands between the title and the tables, unchanged."""
    first, second = (f"`{bundle.name}@{bundle.digest}`" for bundle in bundles)
    lines = [
        f"# Model card: {name}",
        "",
        *([notes.strip(), ""] if notes.strip() else []),
        "## Model",
        "",
        f"- First {first}, for every picture; then {second}, where the first one's P(fake) lies in "
        f"[{rescore[0]:g}, {rescore[1]:g}). The cards of both hold for what each scores.",
        "- Sent on, of left-out pictures (means over families): "
        + "; ".join(
            f"{tier}: {shares['real']:.0%} of real, {shares['fake']:.0%} of fake ones"
            for tier, shares in metrics["rescored"].items()
        ),
        "",
        "## Operating points",
        "",
        *_left_out_points(metrics["left_out_points"], thresholds, operating_point, temperature),
        *_unsure(unsure),
    ]
    return "\n".join(lines)


def _validation_points(
    metrics: Mapping[str, Any], thresholds: Mapping[str, float], shipped: str, temperature: float
) -> list[str]:
    return [
        f"Temperature {temperature:.3f}. Threshold and temperature were fitted on the validation "
        "pictures, on which the figures of this table were measured too: they flatter. Figures "
        "on pictures the fit never saw follow where there are any.",
        "",
        _table_head("operating point"),
        *(
            _row(_point(point, thresholds, shipped), metrics["validation"][point])
            for point in sorted(thresholds)
        ),
        "",
    ]


def _left_out_points(
    measured: Mapping[str, Any], thresholds: Mapping[str, float], shipped: str, temperature: float
) -> list[str]:
    """Of `trainer calibrate`: what each point does to families that it was fitted without."""
    lines = [
        f"Temperature {temperature:.3f}. Thresholds and temperature were fitted to scores of "
        "sources and generators that were left out of the fit (`trainer calibrate`). The figures "
        "are means over families, each judged by a calibration without it.",
        "",
        "| tier | operating point | balanced accuracy | generators called fake | sources called "
        "real | worst source called real | ECE |",
        "|---|---|---|---|---|---|---|",
    ]
    for tier, content in measured.items():
        for point, rates in content["points"].items():
            cells = " | ".join(
                f"{rates[key]:.3f}"
                for key in (
                    "balanced_accuracy",
                    "left_out_generators_called_fake",
                    "left_out_sources_called_real",
                    "worst_source_called_real",
                )
            )
            name = _point(point, thresholds, shipped)
            lines.append(f"| {tier} | {name} | {cells} | {content['ece']:.3f} |")
    lines.append("")
    for tier, content in measured.items():
        sure = content["unsure"]
        line = (
            f"- {tier}: {sure['coverage']:.1%} of the pictures get a verdict that is not `unsure`"
        )
        if (outside := sure["balanced_accuracy_outside"]) is not None:
            line += f", of balanced accuracy {outside:.3f} at Youden's threshold"
        if "real_called_fake" in sure:
            line += (
                f"; the verdict `fake` is given to {sure['real_called_fake']:.1%} of the real "
                f"pictures and {sure['fake_called_fake']:.1%} of the fakes"
            )
        lines.append(line)
    return [*lines, ""]


def _unsure(band: Sequence[float] | None) -> list[str]:
    if band is None:
        return []
    return [
        f"`unsure` from P(fake) {band[0]:.3f} to {band[1]:.3f}: there more than one verdict in "
        "five on left-out sources is wrong.",
        "",
    ]


def _point(name: str, thresholds: Mapping[str, float], shipped: str) -> str:
    return f"`{name}` ({thresholds[name]:.4f})" + (" - shipped" if name == shipped else "")


def _experts(training: Mapping[str, Any]) -> list[str]:
    experts = training.get("experts")
    if not experts:
        return []
    shares = "; ".join(
        f"{row['name']}, {row['training']['share']:.0%} of the pictures" for row in experts
    )
    return [
        f"- {len(experts)} experts, each a head and a decoder of its own, chosen by the nearest "
        f"centroid of encoder features: {shares}"
    ]


def _measured(key: str, figures: Mapping[str, Any], point: str) -> list[str]:
    """A section for figures of `export.measured`, none for others."""
    if figures.get("kind") == "evaluation":
        lines = [
            f"## {key.replace('_', ' ').capitalize()}: pictures that the fit never saw",
            "",
            "Known sources. Tiers: clean, as they are; web, longest side at most 768 pixels and "
            "JPEG quality 60; hard, 512 and 40.",
            "",
            _table_head("tier, threshold"),
        ]
        for tier, content in figures["tiers"].items():
            for name, row in content["thresholds"].items():
                shipped = " - shipped" if name == point else ""
                lines.append(_row(f"{tier}, {name} ({row['threshold']:.4f}){shipped}", row))
        lines += ["", "| source | pictures | " + " | ".join(figures["tiers"]) + " |"]
        lines.append("|---|---|" + "---|" * len(figures["tiers"]))
        by_tier = [content["sources"] for content in figures["tiers"].values()]
        for rows in zip(*by_tier, strict=True):
            cells = " | ".join(f"{row['accuracy']:.3f}" for row in rows)
            lines.append(
                f"| {rows[0]['label']}: {rows[0]['source']} | {rows[0]['count']} | {cells} |"
            )
        return [*lines, ""]
    if figures.get("kind") == "benchmark":
        lines = [
            f"## {key.replace('_', ' ').capitalize()}: sources and generators that were left out",
            "",
            "The recipe fitted anew without each family, which is then scored. Intervals: 95 %, "
            "bootstrap over families.",
            "",
            "| tier, threshold | balanced accuracy | generators called fake | sources called real "
            "| AUC |\n|---|---|---|---|---|",
        ]
        for tier, points in figures["summary"].items():
            for name, row in points.items():
                if name == "auc":
                    continue
                lines.append(
                    f"| {tier}, {name} | {row['balanced_accuracy']:.3f} "
                    f"({row['low']:.3f}-{row['high']:.3f}) | "
                    f"{row['left_out_generators_called_fake']:.3f} | "
                    f"{row['left_out_sources_called_real']:.3f} | {points['auc']:.3f} |"
                )
        return [*lines, ""]
    return []


def _table_head(first: str) -> str:
    names = " | ".join(name.replace("_", " ") for name in _FIGURES)
    return f"| {first} | {names} |\n|---|{'---|' * len(_FIGURES)}"


def _row(title: str, figures: Mapping[str, Any]) -> str:
    cells = (figures.get(name) for name in _FIGURES)
    return f"| {title} | " + " | ".join("-" if c is None else f"{c:.3f}" for c in cells) + " |"


def _trained(unfrozen: int) -> str:
    if unfrozen == 0:
        return "frozen"
    return "all trained" if unfrozen < 0 else f"last {unfrozen} stages trained"
