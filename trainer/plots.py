"""Figures of an evaluation as PNG bytes. Drawn by Agg: no display is needed."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import precision_recall_curve, roc_curve

from scanner.text import printable
from trainer.evaluate import TierResult
from trainer.scores import CALIBRATION_BINS, Array, Labels
from trainer.tables import THRESHOLD_NAMES

REAL_COLOUR, FAKE_COLOUR = "#2a7fb8", "#d1495b"
# Of an operating point: its sign, colour and line. Points of later kinds share the last ones.
_MARKS = {
    "half": ("o", "#444444", ":"),
    "best_f1": ("s", "#7b4ea3", "-."),
    "youden": ("^", "#1b8a5a", "--"),
    "fpr_1pct": ("D", "#c77c11", (0, (5, 1))),
    "fpr_0.1pct": ("v", "#8c2d04", (0, (1, 1))),
}
_OTHER = ("X", "#5b6770", "-")
_INCHES, _DPI = (5.2, 4.4), 120
# Any: rc_context types its keys by a list of all of them.
_STYLE: Any = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "figure.constrained_layout.h_pad": 0.1,
    "figure.constrained_layout.w_pad": 0.1,
    "legend.fontsize": 9,
    "legend.framealpha": 0.9,
}

# A name and its curve's (P(fake) [N], labels [N]).
Curve = tuple[str, Array, Labels]


def plots_of(title: str, tier: TierResult) -> dict[str, bytes]:
    """The figures of one run under one tier: name -> PNG. Curves need both classes."""
    made = {"confusion": confusion(title, tier.figures)}
    if 0 < tier.labels.sum() < len(tier.labels):
        curve = [(title, tier.p_fake, tier.labels)]
        made["roc"] = roc(curve, tier.figures)
        made["precision-recall"] = precision_recall(title, tier.p_fake, tier.labels, tier.figures)
    made["reliability"] = reliability(title, tier.p_fake, tier.labels)
    made["histogram"] = histogram(title, tier.p_fake, tier.labels, tier.figures)
    return made


def confusion(title: str, figures: Mapping[str, dict[str, Any]]) -> bytes:
    """One matrix for each threshold: counts, and shares of the actual class."""
    with mpl.rc_context({**_STYLE, "axes.grid": False}):
        figure = Figure(figsize=(3.3 * len(figures), 3.9), layout="constrained")
        axes = figure.subplots(1, len(figures), squeeze=False)[0]
        for axis, (name, at) in zip(axes, figures.items(), strict=True):
            c = at["confusion"]
            counts = np.array([[c["tn"], c["fp"]], [c["fn"], c["tp"]]])
            shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
            axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
            for (row, column), count in np.ndenumerate(counts):
                share = shares[row, column]
                axis.text(
                    column,
                    row,
                    f"{count}\n{share:.1%}",
                    ha="center",
                    va="center",
                    fontsize=12,
                    color="white" if share > 0.55 else "black",
                )
            axis.set_xticks([0, 1], ["real", "fake"])
            axis.set_yticks([0, 1], ["real", "fake"], rotation=90, va="center")
            axis.set_xlabel("predicted")
            axis.spines[:].set_visible(True)
            axis.tick_params(length=0)
            axis.set_title(_at(name, at))
        axes[0].set_ylabel("actual")
        figure.suptitle(_label(title))
        return _png(figure)


def roc(
    curves: Sequence[Curve],
    figures: Mapping[str, dict[str, Any]] | None = None,
    title: str | None = None,
) -> bytes:
    """ROC curves; with `figures` (of the only curve) its thresholds are marked."""
    with mpl.rc_context(_STYLE):
        figure, axis = _square()
        axis.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle="--")
        for name, p, labels in curves:
            fpr, tpr, _ = roc_curve(labels, p)
            axis.plot(
                fpr, tpr, linewidth=2, label=_curve_label("AUC", _area(fpr, tpr), name, curves)
            )
        for key, at in (figures or {}).items():
            if at["specificity"] is not None and at["recall"] is not None:
                _mark(axis, key, at, 1 - at["specificity"], at["recall"])
        axis.set_xlabel("false positive rate (real pictures called fake)")
        axis.set_ylabel("true positive rate (fakes found)")
        axis.set_title(f"ROC: {_label(title or curves[0][0])}")
        axis.legend(loc="lower right")
        return _png(figure)


def precision_recall(
    title: str, p: Array, labels: Labels, figures: Mapping[str, dict[str, Any]]
) -> bytes:
    """Precision over recall of the fake class; dashed: the share of fakes, which chance gives."""
    with mpl.rc_context(_STYLE):
        figure, axis = _square()
        precision, recall, _ = precision_recall_curve(labels, p)
        ap = float(-np.sum(np.diff(recall) * precision[:-1]))
        axis.axhline(float(labels.mean()), color="0.6", linewidth=1, linestyle="--")
        axis.plot(recall, precision, linewidth=2, drawstyle="steps-post", label=f"AP {ap:.3f}")
        for key, at in figures.items():
            if at["precision"] is not None and at["recall"] is not None:
                _mark(axis, key, at, at["recall"], at["precision"])
        axis.set_xlabel("recall (share of the fakes found)")
        axis.set_ylabel("precision (share of fakes among those called fake)")
        axis.set_title(f"Precision-recall: {_label(title)}")
        axis.legend(loc="best")
        return _png(figure)


def reliability(title: str, p: Array, labels: Labels) -> bytes:
    """Share of fakes over P(fake) in the bins of the ECE, and below how many pictures each has.

    After DeGroot & Fienberg (1983). A calibrated model lies on the diagonal.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=_INCHES, layout="constrained")
        top, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        edges = np.linspace(0, 1, CALIBRATION_BINS + 1)
        index = np.minimum((p * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
        counts = np.bincount(index, minlength=CALIBRATION_BINS)
        filled = np.flatnonzero(counts)
        mean_p = np.bincount(index, p, CALIBRATION_BINS)[filled] / counts[filled]
        share = np.bincount(index, labels, CALIBRATION_BINS)[filled] / counts[filled]
        top.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle="--", label="calibrated")
        top.vlines(mean_p, mean_p, share, color=FAKE_COLOUR, alpha=0.5, linewidth=4)
        top.plot(mean_p, share, "o-", color=REAL_COLOUR, linewidth=1.5, label=_label(title))
        top.set_xlim(0, 1)
        top.set_ylim(-0.02, 1.02)
        top.set_ylabel("share of fakes")
        top.set_title("Reliability (bars: the gap that ECE averages)")
        top.legend(loc="upper left")
        below.bar(
            edges[:-1], counts, width=np.diff(edges), align="edge", color="0.6", edgecolor="w"
        )
        below.set_ylabel("pictures")
        below.set_xlabel("P(fake)")
        return _png(figure)


def histogram(title: str, p: Array, labels: Labels, figures: Mapping[str, dict[str, Any]]) -> bytes:
    """How P(fake) spreads in each class, as shares of the class, with the thresholds."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=_INCHES, layout="constrained")
        axis = figure.subplots()
        for label, name, colour in ((0, "real", REAL_COLOUR), (1, "fake", FAKE_COLOUR)):
            part = p[labels == label]
            if len(part):
                weights = np.full(len(part), 1 / len(part))
                axis.hist(
                    part, 40, range=(0, 1), weights=weights, color=colour, alpha=0.55,
                    label=f"{name} ({len(part)})",
                )  # fmt: skip
        for key, at in figures.items():
            _, colour, line = _MARKS.get(key, _OTHER)
            axis.axvline(
                at["threshold"], color=colour, linewidth=1.5, linestyle=line, label=_at(key, at)
            )
        axis.set_xlim(0, 1)
        axis.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
        axis.set_ylabel("share of the class")
        axis.set_xlabel("P(fake)")
        axis.set_title(f"Scores: {_label(title)}")
        axis.legend(loc="best")
        return _png(figure)


def _square() -> tuple[Figure, Axes]:
    figure = Figure(figsize=_INCHES, layout="constrained")
    axis = figure.subplots()
    axis.set_xlim(-0.02, 1.02)
    axis.set_ylim(-0.02, 1.02)
    axis.set_aspect("equal")
    return figure, axis


def _mark(axis: Axes, key: str, at: dict[str, Any], x: float, y: float) -> None:
    marker, colour, _ = _MARKS.get(key, _OTHER)
    axis.plot(x, y, marker, color=colour, markersize=8, markeredgecolor="white", label=_at(key, at))


def _curve_label(figure: str, value: float, name: str, curves: Sequence[Curve]) -> str:
    return f"{figure} {value:.3f}" + (f"  {_label(name)}" if len(curves) > 1 else "")


def _area(x: Array, y: Array) -> float:
    return float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2))


def _at(name: str, at: dict[str, Any]) -> str:
    if name == "half":
        return "at 0.5"
    return f"{THRESHOLD_NAMES.get(name, name)} ({at['threshold']:.3f})"


def _label(name: str) -> str:
    """A name as matplotlib shows it literally: `$` would begin a formula."""
    short = name if len(name) <= 44 else name[:43] + "…"
    return printable(short).replace("$", r"\$")


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # A run may be named in a script that the font lacks: boxes then, and no noise.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure.savefig(buffer, format="png", dpi=_DPI)
    return buffer.getvalue()
