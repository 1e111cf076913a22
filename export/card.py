"""The model card of a bundle (Mitchell et al., 2019): what made it and what was measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
        f" ({_trained(config)}), decoder {config['decoder']}, head "
        f"{' -> '.join(str(n) for n in [*config['head'], 1])}",
        *_experts(training),
        f"- Losses: reconstruction {config['reconstruction']}, classification "
        f"{config['classification']}; best of {config['epochs']} epochs was {training['epoch']}; "
        f"{training['seconds'] / 60:.0f} minutes on {training['device']} (torch "
        f"{training['torch']}), seed {config['seed']}",
        f"- Input: {spec.views} square view(s) of {spec.size} x {spec.size} pixels, short side "
        f"resized ({spec.resampling}){', grey' if spec.grey else ''}",
        f"- Fitted on {pictures['train']} pictures, validated on {pictures['val']}; "
        f"{pictures['holdout']} were held out"
        + (
            f"; {pictures['unlabelled']} without labels had a part in what the encoder was taught"
            if pictures.get("unlabelled")
            else ""
        ),
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
        *_all_measured(metrics, operating_point),
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
        *_all_measured(metrics, operating_point),
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
    # A cascade's scores are its stages', calibrated as they are.
    fitted = f"Temperature {temperature:.3f}. Thresholds and temperature were"
    if temperature == 1.0:
        fitted = "P(fake) is that of the stage that decides. Thresholds were"
    lines = [
        f"{fitted} fitted to scores of sources and generators that were left out of the fit, of "
        "pictures that are not in the held-out split (`trainer calibrate`). The figures "
        "are means over families, each judged by a calibration without it; in brackets 95 %, by "
        "drawing families and their groups anew.",
        "",
        "| tier | operating point | balanced accuracy | generators called fake | sources called "
        "real | worst source called real |",
        "|---|---|---|---|---|---|",
    ]
    for tier, content in measured.items():
        for point, rates in content["points"].items():
            cells = " | ".join(
                _with_interval(rates, key)
                for key in (
                    "balanced_accuracy",
                    "left_out_generators_called_fake",
                    "left_out_sources_called_real",
                    "worst_source_called_real",
                )
            )
            lines.append(f"| {tier} | {_point(point, thresholds, shipped)} | {cells} |")
    lines.append("")
    for tier, content in measured.items():
        sure = content["unsure"]
        line = (
            f"- {tier}: {sure['coverage']:.1%} of the pictures get a verdict that is not `unsure`"
        )
        if sure["balanced_accuracy_outside"] is not None:
            shown = _with_interval(sure, "balanced_accuracy_outside")
            line += f", of balanced accuracy {shown} at Youden's threshold"
        line += (
            f"; the verdict `fake` is given to {_with_interval(sure, 'real_called_fake')} of the "
            f"real pictures ({sure['worst_real_called_fake']:.3f} of the worst source's) and "
            f"{_with_interval(sure, 'fake_called_fake')} of the fakes. AUC of all left-out "
            f"pictures together {content['auc']:.3f}, ECE {content['ece']:.3f}"
        )
        lines.append(line)
    return [*lines, "", *_reliability(measured), ""]


def _with_interval(rates: Mapping[str, Any], key: str) -> str:
    found = rates["intervals"].get(key)
    between = f" ({found[0]:.3f}-{found[1]:.3f})" if found else ""
    return f"{rates[key]:.3f}{between}"


def _reliability(measured: Mapping[str, Any]) -> list[str]:
    """What P(fake) was worth: in each stretch of it, how many of the pictures are fakes."""
    tiers = list(measured)
    lines = [
        "Of left-out pictures with such a P(fake), the share that is fake, were half of all "
        "pictures fakes (in brackets 95 %):",
        "",
        f"| P(fake) | {' | '.join(tiers)} |",
        "|---|" + "---|" * len(tiers),
    ]
    for rows in zip(*(content["reliability"] for content in measured.values()), strict=True):
        cells = " | ".join(
            "-" if row["fake"] is None or row["interval"] is None
            else f"{row['fake']:.2f} ({row['interval'][0]:.2f}-{row['interval'][1]:.2f})"
            for row in rows
        )  # fmt: skip
        lines.append(f"| {rows[0]['low']:g} to {rows[0]['high']:g} | {cells} |")
    return lines


def _unsure(band: Sequence[float] | None) -> list[str]:
    if band is None:
        return []
    return [
        f"`unsure` from P(fake) {band[0]:.3f} to {band[1]:.3f}: the stretch around Youden's "
        "threshold in which more than one verdict in five on left-out sources is wrong.",
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


def _all_measured(metrics: Mapping[str, Any], point: str) -> Iterator[str]:
    for key, figures in metrics.items():
        if isinstance(figures, Mapping):
            yield from _measured(key, figures, point)


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
            "families and their groups drawn anew.",
            "",
            "AUC: against held-out pictures of known sources, of the other class.",
            "",
            "| tier, threshold | known sources: balanced accuracy | balanced accuracy | generators "
            "called fake | sources called real | AUC |\n|---|---|---|---|---|---|",
        ]
        for tier, points in figures["summary"].items():
            for name, row in points.items():
                if name == "auc":
                    continue
                known = figures.get("in_domain", {}).get(tier, {}).get(name)
                known_cell = "-" if known is None else f"{known['balanced_accuracy']:.3f}"
                lines.append(
                    f"| {tier}, {name} | {known_cell} | {row['balanced_accuracy']:.3f} "
                    f"({row['low']:.3f}-{row['high']:.3f}) | "
                    f"{row['left_out_generators_called_fake']:.3f} | "
                    f"{row['left_out_sources_called_real']:.3f} | {points['auc']:.3f} |"
                )
        return [*lines, "", *_families(figures["families"], point), ""]
    return []


def _families(rows: Sequence[Mapping[str, Any]], point: str) -> list[str]:
    """Share of each left-out family that is rightly judged, by tier, at the fold's threshold."""
    if not rows or any(point not in row["accuracy"] for row in rows):
        return []
    tiers = list(dict.fromkeys(row["tier"] for row in rows))
    by_family: dict[tuple[str, str], dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        by_family.setdefault((row["label"], row["family"]), {})[row["tier"]] = row
    lines = [
        f"Rightly judged at the fold's own `{point}` threshold, of each family:",
        "",
        f"| left out | pictures | {' | '.join(tiers)} |",
        "|---|---|" + "---|" * len(tiers),
    ]
    for (label, name), found in sorted(by_family.items()):
        cells = " | ".join(f"{found[tier]['accuracy'][point]:.3f}" for tier in tiers)
        lines.append(f"| {label}: {name} | {found[tiers[0]]['count']} | {cells} |")
    return lines


def _table_head(first: str) -> str:
    names = " | ".join(name.replace("_", " ") for name in _FIGURES)
    return f"| {first} | {names} |\n|---|{'---|' * len(_FIGURES)}"


def _row(title: str, figures: Mapping[str, Any]) -> str:
    cells = (figures.get(name) for name in _FIGURES)
    return f"| {title} | " + " | ".join("-" if c is None else f"{c:.3f}" for c in cells) + " |"


def _trained(config: Mapping[str, Any]) -> str:
    unfrozen = config["unfrozen"]
    if config.get("teacher"):
        taught = f"last {config['taught_stages']} stages taught by `{config['teacher']}`"
        return f"{taught}, then frozen"
    if unfrozen == 0:
        return "frozen"
    return "all trained" if unfrozen < 0 else f"last {unfrozen} stages trained"
