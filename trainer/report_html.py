"""The page of an evaluation: one file, nothing loaded from anywhere, no scripts."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

from scanner.text import printable
from trainer.evaluate import Evaluation, RunResult, TierResult
from trainer.tables import (
    Table,
    difference_table,
    interval_table,
    source_table,
    summary_table,
)

_STYLE = """
:root { color-scheme: light dark; --line: #d5d8dc; --pale: #f4f5f7; --dim: #5c636a;
  --warn: #fff4d6; --warn-line: #e0b13c; --mark: #e8f1fa; }
@media (prefers-color-scheme: dark) { :root { --line: #3b4046; --pale: #24282d; --dim: #a3abb3;
  --warn: #3a3115; --warn-line: #a8832a; --mark: #1d3144; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1200px; margin: 2em auto;
  padding: 0 1.2em; }
h1 { font-size: 1.6em; margin-bottom: .2em; } h2 { font-size: 1.25em; margin-top: 2em; }
h3 { font-size: 1.05em; margin: 1.6em 0 .4em; }
p.dim, figcaption, small { color: var(--dim); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 14px; }
th, td { padding: .28em .7em; text-align: right; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
th { background: var(--pale); font-weight: 600; } th.left, td.left { text-align: left; }
tr.point td { background: var(--mark); }
.warn { background: var(--warn); border-left: 4px solid var(--warn-line); padding: .5em .9em;
  margin: .6em 0; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr));
  gap: 14px; }
figure { margin: 0; } figure.wide { grid-column: 1 / -1; } figure.wide img { width: 900px; }
img { max-width: 100%; height: auto; background: #fff; border-radius: 6px; display: block;
  margin: 0 auto; }
pre { background: var(--pale); padding: .8em 1em; overflow-x: auto; font-size: 13px; }
summary { cursor: pointer; color: var(--dim); }
"""
# The browser itself refuses anything that a name might have smuggled in.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


# Run, tier and figure; the run of an overlay of all runs is OVERLAY.
Key = tuple[str, str, str]
OVERLAY = ""


class Drawing(NamedTuple):
    """A PNG, and the name of the file beside the page that it was also saved as."""

    png: bytes
    file: str


def page(evaluation: Evaluation, drawings: Mapping[Key, Drawing]) -> str:
    """The whole page, as text to be saved in UTF-8."""
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Evaluation: {_text(_run_names(evaluation))}</title>",
        f"<style>{_STYLE}</style></head><body>",
        "<h1>Evaluation</h1>",
        f'<p class="dim">{_text(_run_names(evaluation))} on {_text(evaluation.data)}'
        + (", pictures scored in grey" if evaluation.grey else "")
        + "</p>",
        _warnings(evaluation.warnings),
        *(_warnings(result.selection.warnings, result.run.name) for result in evaluation.runs),
        "<h2>Figures</h2>",
        _table(summary_table(evaluation), left=3, marked=2),
        '<p class="dim">* marked: the operating point of the run. Thresholds and temperature '
        "come from the run's validation data; nothing is fitted here. ECE and Brier are of the "
        "calibrated P(fake) and do not depend on a threshold.</p>",
        _tier_meanings(evaluation),
        _intervals(evaluation),
        _overlays(drawings),
        "<h2>Generators and real sources</h2>",
        '<p class="dim">Accuracy on each source at the operating point, with a 95 % Wilson '
        "interval: of a generator the share found, of a real source the share let pass.</p>",
    ]
    for label in ("fake", "real"):
        table = source_table(evaluation, label)
        if table[1]:
            parts.append(_table(table, left=1) + "<p></p>")
    for result in evaluation.runs:
        parts += [_run(result, tier, drawings) for tier in result.tiers]
    parts.append("</body></html>\n")
    return "\n".join(part for part in parts if part)


def _intervals(evaluation: Evaluation) -> str:
    if evaluation.uncertainty is None:
        return ""
    parts = [
        "<h2>95 % intervals</h2>",
        f'<p class="dim">At the operating point, from {evaluation.uncertainty.draws} draws of the '
        "bootstrap (Efron, 1979) over groups of pictures, each class by itself. They say how far "
        "other pictures of the same sources would move a figure, and nothing of another seed of "
        "the fit.</p>",
        _table(interval_table(evaluation), left=2),
    ]
    before, all_pairs = (difference_table(evaluation, every=every) for every in (False, True))
    if all_pairs[1]:
        parts += [
            "<h3>Each run against the one before it</h3>",
            '<p class="dim">On the same draws; * marks an interval that leaves out zero.</p>',
            _table(before, left=3),
        ]
    if len(all_pairs[1]) > len(before[1]):
        every = _table(all_pairs, left=3)
        parts.append(f"<details><summary>every pair of runs</summary>{every}</details>")
    return "\n".join(parts)


def _run(result: RunResult, tier: TierResult, drawings: Mapping[Key, Drawing]) -> str:
    run = result.run
    facts = f"{run.facts}, split {result.selection.split}: {len(tier.samples)} pictures"
    if tier.reconstruction_error is not None:
        facts += f", mean absolute reconstruction error {tier.reconstruction_error:.4f}"
    plots = [
        _figure(drawing, f"{run.name}, {tier.tier.name}: {kind}", wide=kind == "confusion")
        for (owner, of, kind), drawing in drawings.items()
        if (owner, of) == (run.name, tier.tier.name) and kind != "misclassified"
    ]
    parts = [
        f"<h2>{_text(run.name)}, {tier.tier.name}</h2>",
        f'<p class="dim">{_text(facts)}</p>',
        f'<div class="plots">{"".join(plots)}</div>',
        f"<h3>Classification report at the operating point</h3><pre>{escape(tier.report)}</pre>",
        f"<h3>Misclassified at the operating point: {_error_count(result, tier)}</h3>",
    ]
    if tier.errors:
        caption = "the surest errors first, half the places for each kind" + (
            "; what the model saw over what it remade"
            if tier.errors[0].reconstruction is not None
            else ""
        )
        drawing = drawings[run.name, tier.tier.name, "misclassified"]
        parts.append(_figure(drawing, "misclassified pictures", caption))
        rows = [
            [e.sample.key, e.sample.source, e.actual, e.predicted, f"{e.confidence:.4f}"]
            for e in tier.errors
        ]
        header = ["file", "source", "actual", "predicted", "confidence"]
        files = _table((header, rows), left=4)
        parts.append(f"<details><summary>as a table</summary>{files}</details>")
    return "\n".join(parts)


def _error_count(result: RunResult, tier: TierResult) -> str:
    c = tier.figures[result.run.operating_point]["confusion"]
    wrong = c["fp"] + c["fn"]
    shown = f", {len(tier.errors)} shown" if len(tier.errors) < wrong else ""
    return f"{wrong} of {len(tier.samples)}{shown}"


def _overlays(drawings: Mapping[Key, Drawing]) -> str:
    shown = [
        _figure(drawing, f"ROC curves of all runs, {tier}")
        for (owner, tier, _), drawing in drawings.items()
        if owner == OVERLAY
    ]
    if not shown:
        return ""
    return f'<h2>ROC of all runs</h2><div class="plots">{"".join(shown)}</div>'


def _figure(drawing: Drawing, alt: str, caption: str = "", *, wide: bool = False) -> str:
    opening = '<figure class="wide">' if wide else "<figure>"
    below = f"<figcaption>{_text(caption)}</figcaption>" if caption else ""
    data = base64.b64encode(drawing.png).decode("ascii")
    return (
        f'{opening}<img alt="{_text(alt)}" title="{_text(drawing.file)}" '
        f'src="data:image/png;base64,{data}">{below}</figure>'
    )


def _table(table: Table, left: int, marked: int | None = None) -> str:
    """Rows whose cell in column `marked` ends in `*` are set off."""
    header, rows = table

    def line(cells: Sequence[str], tag: str) -> str:
        left_tag = f'<{tag} class="left">'
        return "".join(
            f"{left_tag if i < left else f'<{tag}>'}{_text(cell)}</{tag}>"
            for i, cell in enumerate(cells)
        )

    def opening(row: Sequence[str]) -> str:
        point = marked is not None and row[marked].endswith("*")
        return '<tr class="point">' if point else "<tr>"

    body = "".join(f"{opening(row)}{line(row, 'td')}</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{line(header, "th")}</tr>{body}</table></div>'


def _warnings(warnings: Sequence[str], run: str = "") -> str:
    prefix = f"{run}: " if run else ""
    return "".join(f'<p class="warn">{_text(prefix + warning)}</p>' for warning in warnings)


def _tier_meanings(evaluation: Evaluation) -> str:
    tiers = {tier.tier.name: tier.tier for result in evaluation.runs for tier in result.tiers}
    text = "; ".join(f"{name}: {tier.meaning}" for name, tier in tiers.items())
    return f'<p class="dim">Tiers. {_text(text)}.</p>'


def _run_names(evaluation: Evaluation) -> str:
    return ", ".join(result.run.name for result in evaluation.runs)


def _text(text: str) -> str:
    """Escaped for content and attributes; nothing unencodable or reordering is left in it."""
    return escape(printable(text), quote=True)
