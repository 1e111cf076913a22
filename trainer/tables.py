"""An evaluation as tables of text: the same rows for the terminal and the page."""

from __future__ import annotations

from typing import Any

from scanner.text import printable
from trainer.evaluate import Evaluation

THRESHOLD_NAMES = {"half": "0.5", "best_f1": "best F1", "youden": "Youden"}
_FIGURES = (
    ("accuracy", "accuracy"),
    ("balanced", "balanced_accuracy"),
    ("precision", "precision"),
    ("recall", "recall"),
    ("F1", "f1"),
    ("AUC", "auc"),
    ("AP", "ap"),
    ("ECE", "ece"),
    ("Brier", "brier"),
)
Table = tuple[list[str], list[list[str]]]


def summary_table(evaluation: Evaluation) -> Table:
    """(header, rows): every run, tier and threshold; `*` marks a run's operating point."""
    header = ["run", "tier", "threshold", "at", "pictures", *(title for title, _ in _FIGURES)]
    rows = []
    for result in evaluation.runs:
        for tier in result.tiers:
            for name, at in tier.figures.items():
                mark = "*" if name == result.run.operating_point else ""
                rows.append(
                    [
                        result.run.name,
                        tier.tier.name,
                        THRESHOLD_NAMES[name] + mark,
                        f"{at['threshold']:.4f}",
                        str(at["count"]),
                        *(number(at[key]) for _, key in _FIGURES),
                    ]
                )
    return header, rows


def source_table(evaluation: Evaluation, label: str) -> Table:
    """(header, rows) of the sources of one class ("real" or "fake"): accuracy at the operating
    point of each run and tier, with its 95 % interval.
    """
    columns = [(result, tier) for result in evaluation.runs for tier in result.tiers]
    found: list[dict[str, dict[str, Any]]] = [
        {r["source"]: r for r in tier.sources[result.run.operating_point] if r["label"] == label}
        for result, tier in columns
    ]
    several_tiers = len({tier.tier.name for _, tier in columns}) > 1
    title = "generator" if label == "fake" else "real source"
    header = [title, "pictures"] + [
        f"{result.run.name}, {tier.tier.name}" if several_tiers else result.run.name
        for result, tier in columns
    ]
    rows = []
    for source in sorted({name for column in found for name in column}):
        counts = sorted({column[source]["count"] for column in found if source in column})
        cells = [_share(column.get(source)) for column in found]
        rows.append([source, "/".join(map(str, counts)), *cells])
    return header, rows


def number(value: float | None) -> str:
    """Three decimals; a dash for a figure that these pictures do not define."""
    return "-" if value is None else f"{value:.3f}"


def text_table(table: Table, left: int) -> str:
    """Aligned columns: the first `left` to the left, the others to the right."""
    header, rows = table
    lines = [[printable(cell) for cell in line] for line in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _share(row: dict[str, Any] | None) -> str:
    if row is None:
        return "-"
    return f"{row['accuracy']:.3f} [{row['low']:.2f}, {row['high']:.2f}]"


def as_text(evaluation: Evaluation) -> str:
    """All of it for the terminal: the figures, the sources, and a report for each run."""
    parts = [text_table(summary_table(evaluation), left=3)]
    if evaluation.grey:
        parts.append("the pictures were scored in grey")
    parts.append("* the run's operating point, which the tables below use")
    for label in ("fake", "real"):
        table = source_table(evaluation, label)
        if table[1]:
            parts.append(text_table(table, left=1))
    for result in evaluation.runs:
        for tier in result.tiers:
            title = f"{printable(result.run.name)}, {tier.tier.name}: classification report"
            parts.append(f"{title}\n{tier.report.rstrip()}")
    return "\n\n".join(parts)
