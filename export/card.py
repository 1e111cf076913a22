"""The model card of a bundle (Mitchell et al., 2019): what made it and what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scanner.preprocess import PreprocessSpec

_FIGURES = ("balanced_accuracy", "recall", "specificity", "precision", "f1", "auc", "ece")


def model_card(
    *,
    name: str,
    spec: PreprocessSpec,
    thresholds: Mapping[str, float],
    operating_point: str,
    temperature: float,
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
        f"Temperature {temperature:.3f}. Threshold and temperature were fitted on the validation "
        "pictures, on which the figures of this table were measured too: they flatter. Figures "
        "on pictures the fit never saw follow where there are any.",
        "",
        _table_head(),
        *(
            _row(
                f"`{point}` ({thresholds[point]:.4f})"
                + (" - shipped" if point == operating_point else ""),
                metrics["validation"][point],
            )
            for point in sorted(thresholds)
        ),
        "",
    ]
    return "\n".join(lines)


def _table_head() -> str:
    names = " | ".join(name.replace("_", " ") for name in _FIGURES)
    return f"| operating point | {names} |\n|---|{'---|' * len(_FIGURES)}"


def _row(title: str, figures: Mapping[str, Any]) -> str:
    cells = (figures.get(name) for name in _FIGURES)
    return f"| {title} | " + " | ".join("-" if c is None else f"{c:.3f}" for c in cells) + " |"


def _trained(unfrozen: int) -> str:
    if unfrozen == 0:
        return "frozen"
    return "all trained" if unfrozen < 0 else f"last {unfrozen} stages trained"
