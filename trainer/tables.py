"""An evaluation as tables of text: the same rows for the terminal and the page."""

from __future__ import annotations

from typing import Any

from scanner.text import printable
from trainer.bootstrap import Interval
from trainer.evaluate import Evaluation

THRESHOLD_NAMES = {
    "half": "0.5",
    "best_f1": "best F1",
    "youden": "Youden",
    "fpr_1pct": "FPR 1 %",
    "fpr_0.1pct": "FPR 0.1 %",
}
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
                        THRESHOLD_NAMES.get(name, name) + mark,
                        f"{at['threshold']:.4f}",
                        str(at["count"]),
                        *(number(at[key]) for _, key in _FIGURES),
                    ]
                )
    return header, rows


_BOOTSTRAPPED = (
    ("accuracy", "accuracy"), ("balanced", "balanced_accuracy"), ("AUC", "auc")
)  # fmt: skip


def interval_table(evaluation: Evaluation) -> Table:
    """(header, rows): the figures of each run and tier at the operating point, with their 95 %
    intervals by the bootstrap. No rows where none were drawn.
    """
    header = ["run", "tier", *(title for title, _ in _BOOTSTRAPPED)]
    rows: list[list[str]] = []
    if evaluation.uncertainty is None:
        return header, rows
    for result in evaluation.runs:
        point = result.run.operating_point
        for tier in result.tiers:
            key = (result.run.name, tier.tier.name, point)
            found = evaluation.uncertainty.intervals[key]
            cells = []
            for _, name in _BOOTSTRAPPED:
                text, interval = number(tier.figures[point][name]), found[name]
                if interval is not None:
                    text += f" [{interval.low:.3f}, {interval.high:.3f}]"
                cells.append(text)
            rows.append([result.run.name, tier.tier.name, *cells])
    return header, rows


def difference_table(evaluation: Evaluation, *, every: bool) -> Table:
    """(header, rows): how much better a run is than the one named before it, or with `every`
    than each of those; `*` where the 95 % interval leaves out zero.
    """
    header = ["from", "to", "tier", *(title for title, _ in _BOOTSTRAPPED)]
    rows: list[list[str]] = []
    if evaluation.uncertainty is None:
        return header, rows
    for found in evaluation.uncertainty.differences:
        if every or found.neighbours:
            cells = [_moved(found.figures.get(name)) for _, name in _BOOTSTRAPPED]
            rows.append([found.one, found.other, found.tier, *cells])
    return header, rows


def _moved(figure: tuple[float, Interval] | None) -> str:
    if figure is None:
        return "-"
    value, (low, high) = figure[0], (figure[1].low, figure[1].high)
    return f"{value:+.3f} [{low:+.3f}, {high:+.3f}]{'*' if low > 0 or high < 0 else ' '}"


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
    if evaluation.uncertainty is not None:
        table = text_table(interval_table(evaluation), left=2)
        parts.append(f"95 % intervals, bootstrap of {evaluation.uncertainty.draws} draws\n{table}")
        between = difference_table(evaluation, every=False)
        if between[1]:
            title = "each run against the one before it; * the interval leaves out zero"
            parts.append(f"{title}\n{text_table(between, left=3)}")
    for label in ("fake", "real"):
        of_sources = source_table(evaluation, label)
        if of_sources[1]:
            parts.append(text_table(of_sources, left=1))
    for result in evaluation.runs:
        for tier in result.tiers:
            title = f"{printable(result.run.name)}, {tier.tier.name}: classification report"
            parts.append(f"{title}\n{tier.report.rstrip()}")
    return "\n\n".join(parts)
