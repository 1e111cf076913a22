"""Calibration and operating points from scores of what was left out of the fit.

A detector's scores on sources it knows are surer than on those it has never seen, and a user's
folder is of the second kind. So temperature, thresholds and the band of `unsure` are fitted to
the scores that `trainer benchmark` gave to left-out families, each family counting alike
within its class; and what is reported of them is measured on families that had no part in
fitting them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

from scanner.errors import UsageError
from scanner.verdict import probabilities
from trainer.calibrate import best_f1_threshold, fit_to_prior, youden_threshold
from trainer.families import Outcomes, draws, intervals, percentiles
from trainer.scores import expected_calibration_error

Array = npt.NDArray[np.float64]
# Real pictures called fake, at most, on left-out real sources.
FALSE_ALARMS = {"fpr_1pct": 0.01, "fpr_0.1pct": 0.001}
UNSURE_ABOVE = 0.2  # share of errors from which on a verdict is withheld
_STRETCHES = (0.0, 0.05, 0.2, 0.4, 0.6, 0.8, 0.95, 1.0)  # of P(fake)
_GRID = np.linspace(-8, 8, 321)  # of log odds


@dataclass(frozen=True, slots=True)
class FamilyScores:
    """Uncalibrated logits of one left-out family at one tier; `fake` is its class.

    `groups` names the group of each picture; empty: each is its own.
    """

    family: str
    fake: bool
    tier: str
    logits: tuple[float, ...]
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LeftOutCalibration:
    """P(fake) = sigmoid((logit + shift) / temperature).

    `thresholds` and the band `unsure` (low, high; None: none) apply to P(fake): between its
    ends more than `UNSURE_ABOVE` of the verdicts at Youden's threshold are wrong.
    """

    temperature: float
    shift: float
    thresholds: dict[str, float]
    unsure: tuple[float, float] | None

    def p_fake(self, logits: Array) -> Array:
        """Calibrated probabilities, [N]."""
        return probabilities(logits + self.shift, self.temperature)


# A family's name -> a fit without it, and its scores as that fit takes them.
Without: TypeAlias = Callable[[str], tuple[LeftOutCalibration, Sequence[FamilyScores]]]


def read_scores(raw: Any, origin: str) -> list[FamilyScores]:
    """The scores inside `trainer benchmark`'s JSON; raises UsageError."""
    try:
        scores = [
            FamilyScores(
                str(row["family"]),
                row["label"] == "fake",
                str(row["tier"]),
                tuple(row["logits"]),
                tuple(row.get("groups", ())),
            )
            for row in raw["left_out"]
        ]
        if not scores or not all(np.isfinite(s.logits).all() and s.logits for s in scores):
            raise ValueError("some family has no scores")
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f"{origin}: no figures of `trainer benchmark` with scores ({error}); run it again"
        ) from None
    if {s.fake for s in scores} != {True, False}:
        raise UsageError(f"{origin}: families of one class only")
    return scores


def fit_left_out(scores: Sequence[FamilyScores], *, calibrated: bool = False) -> LeftOutCalibration:
    """Platt's scaling (1999) and the operating points, each family alike within its class.

    Tiers of one family share its weight: the three are what a user's folder is a mixture of.
    Scores that are `calibrated` already, log odds of P(fake), are not scaled again.
    """
    logits, fake, weights = _pooled(scores)
    labels = fake.astype(np.int64)
    # The weights enter by repetition: what fits a temperature takes none.
    drawn = _even_sample(weights)
    temperature, shift = 1.0, 0.0
    if not calibrated:
        temperature, shift = fit_to_prior(logits[drawn], labels[drawn], 0.5)
    p = probabilities(logits + shift, temperature)
    youden = youden_threshold(p[drawn], labels[drawn])
    thresholds = {
        "youden": youden,
        "best_f1": best_f1_threshold(p, labels, weights),
        **{name: _false_alarm_threshold(p, fake, weights, r) for name, r in FALSE_ALARMS.items()},
    }
    return LeftOutCalibration(
        temperature, shift, thresholds, _unsure_band(p, fake, weights, youden)
    )


def judged(
    scores: Sequence[FamilyScores], without: Without | None = None
) -> list[tuple[LeftOutCalibration, FamilyScores]]:
    """Each family's scores, at each tier, with a calibration that it had no part in.

    `without` fits to all families but one and gives the scores of that one; by default it is
    `fit_left_out` and the scores as they are.
    """

    def by_default(family: str) -> tuple[LeftOutCalibration, list[FamilyScores]]:
        fit = fit_left_out([s for s in scores if s.family != family])
        return fit, [s for s in scores if s.family == family]

    found = [(without or by_default)(f) for f in sorted({s.family for s in scores})]
    return [(fit, row) for fit, rows in found for row in rows]


def cross_fitted(scores: Sequence[FamilyScores], without: Without | None = None) -> dict[str, Any]:
    """What the operating points do to families that had no part in fitting them.

    `without` is that of `judged`. For each tier: at each point the share of generators' pictures
    called fake and of real sources' called real (means over families) and their balanced accuracy;
    AUC and ECE of P(fake) of all left-out pictures together, families alike, and the share of
    fakes in stretches of it; and with the band of `unsure` the coverage, the balanced accuracy
    outside it (None if all of one class is unsure), and the shares of either class that the
    verdict `fake` is given to. `intervals` are of 95 %, by `trainer.families`.
    """
    found = judged(scores, without)
    result: dict[str, Any] = {}
    for tier in dict.fromkeys(s.tier for s in scores):
        rows = [row for _, row in found if row.tier == tier]
        fits = [fit for fit, row in found if row.tier == tier]
        p = [fit.p_fake(np.array(row.logits)) for row, fit in zip(rows, fits, strict=True)]
        points = {}
        for point in fits[0].thresholds:
            called = [values >= fit.thresholds[point] for values, fit in zip(p, fits, strict=True)]
            points[point] = _rates(rows, called)
        _, fake, weights = _pooled(rows)
        labels, pooled = fake.astype(np.int64), np.concatenate(p)
        result[tier] = {
            "points": points,
            "auc": float(roc_auc_score(labels, pooled, sample_weight=weights)),
            "ece": expected_calibration_error(pooled, labels, weights=weights),
            "reliability": _reliability(rows, p),
            "unsure": _outside_band(rows, p, fits),
        }
    return result


def _reliability(rows: Sequence[FamilyScores], p: Sequence[Array]) -> list[dict[str, Any]]:
    """Of each stretch of P(fake), `low` included: the share of pictures that lie in it, the share
    of fakes among those, and its interval; classes and families alike."""
    _, fake, weights = _pooled(rows)
    found = []
    for low, high in itertools.pairwise(_STRETCHES):
        # The last takes what is 1.
        inside = [(v >= low) & ((v < high) | (high == 1)) for v in p]
        at = np.concatenate(inside)
        part = float(weights[at].sum())
        drawn = draws(
            [Outcomes(r.fake, i.astype(np.float64), r.groups)
             for r, i in zip(rows, inside, strict=True)]
        )  # fmt: skip
        both = drawn["fake"] + drawn["real"]
        shares = drawn["fake"][both > 0] / both[both > 0]
        found.append({
            "low": low, "high": high, "share": part,
            "fake": float(weights[at & fake].sum()) / part if part else None,
            "interval": percentiles(shares) if len(shares) else None,
        })  # fmt: skip
    return found


def _rates(rows: Sequence[FamilyScores], called: Sequence[npt.NDArray[np.bool_]]) -> dict[str, Any]:
    means = [float(c.mean()) for c in called]
    fakes = [c for row, c in zip(rows, means, strict=True) if row.fake]
    reals = [c for row, c in zip(rows, means, strict=True) if not row.fake]
    found, alarms = float(np.mean(fakes)), float(np.mean(reals))
    right = intervals(
        [Outcomes(row.fake, (c == row.fake).astype(np.float64), row.groups)
         for row, c in zip(rows, called, strict=True)]
    )  # fmt: skip
    return {
        "left_out_generators_called_fake": found,
        "left_out_sources_called_real": 1 - alarms,
        "worst_source_called_real": 1 - max(reals),
        "balanced_accuracy": (found + 1 - alarms) / 2,
        "intervals": {
            "left_out_generators_called_fake": right["fake"],
            "left_out_sources_called_real": right["real"],
            "balanced_accuracy": right["both"],
        },
    }


def _outside_band(
    rows: Sequence[FamilyScores], p: Sequence[Array], fits: Sequence[LeftOutCalibration]
) -> dict[str, Any]:
    sure_shares, right_shares, called_shares, fakes = [], [], [], []
    all_called, right_outside = [], []
    for row, values, fit in zip(rows, p, fits, strict=True):
        low, high = fit.unsure or (fit.thresholds["youden"],) * 2
        sure = (values < low) | (values >= high)
        called = values >= max(high, fit.thresholds["youden"])
        called_shares.append(float(called.mean()))
        all_called.append(Outcomes(row.fake, called.astype(np.float64), row.groups))
        right = (values >= fit.thresholds["youden"]) == row.fake
        sure_shares.append(float(sure.mean()))
        # A family without a single sure verdict has no say in how right the sure ones are.
        right_shares.append(float(right[sure].mean()) if sure.any() else np.nan)
        fakes.append(row.fake)
        right_outside.append(Outcomes(row.fake, np.where(sure, right, np.nan), row.groups))
    fake, right_share = np.array(fakes), np.array(right_shares)
    of_class = [right_share[fake], right_share[~fake]]
    both_classes = not any(np.isnan(shares).all() for shares in of_class)
    coverage, called_fake = np.array(sure_shares), np.array(called_shares)
    of_called = intervals(all_called)
    return {
        "coverage": float((coverage[fake].mean() + coverage[~fake].mean()) / 2),
        "balanced_accuracy_outside": (
            sum(float(np.nanmean(shares)) for shares in of_class) / 2 if both_classes else None
        ),
        "real_called_fake": float(called_fake[~fake].mean()),
        "fake_called_fake": float(called_fake[fake].mean()),
        "worst_real_called_fake": float(called_fake[~fake].max()),
        "intervals": {
            "balanced_accuracy_outside": intervals(right_outside)["both"] if both_classes else None,
            "real_called_fake": of_called["real"],
            "fake_called_fake": of_called["fake"],
        },
    }


def _pooled(scores: Sequence[FamilyScores]) -> tuple[Array, npt.NDArray[np.bool_], Array]:
    """(logits, whether fake, weights that sum to 0.5 in each class), all [N]."""
    sizes: dict[str, int] = {}
    for s in scores:
        sizes[s.family] = sizes.get(s.family, 0) + len(s.logits)
    count = {c: len({s.family for s in scores if s.fake == c}) for c in (True, False)}
    if not all(count.values()):
        raise UsageError("calibration on left-out families needs families of both classes")
    logits = np.concatenate([np.array(s.logits, np.float64) for s in scores])
    fake = np.concatenate([np.full(len(s.logits), s.fake) for s in scores])
    weights = np.concatenate(
        [np.full(len(s.logits), 0.5 / count[s.fake] / sizes[s.family]) for s in scores]
    )
    return logits, fake, weights


def _even_sample(weights: Array, size: int = 8_000) -> npt.NDArray[np.int64]:
    """Indices that repeat each item in proportion to its weight (systematic sampling)."""
    at = (np.arange(size) + 0.5) / size * weights.sum()
    drawn: npt.NDArray[np.int64] = np.searchsorted(np.cumsum(weights), at)
    return drawn.clip(0, len(weights) - 1)


def _false_alarm_threshold(
    p: Array, fake: npt.NDArray[np.bool_], weights: Array, rate: float
) -> float:
    """The least threshold at which at most `rate` of the real pictures, weighted, are fakes."""
    order = np.argsort(-p[~fake])
    alarms = np.cumsum(weights[~fake][order]) / weights[~fake].sum()
    allowed = int(np.searchsorted(alarms, rate, side="right"))
    scores = p[~fake][order]
    if allowed == len(scores):
        return 0.0
    highest_refused = float(scores[allowed])
    above = p[p > highest_refused]
    return float((highest_refused + above.min()) / 2) if len(above) else 1.0


def _unsure_band(
    p: Array, fake: npt.NDArray[np.bool_], weights: Array, threshold: float
) -> tuple[float, float] | None:
    """The stretch around `threshold` where more than `UNSURE_ABOVE` of the verdicts are wrong.

    The share of fakes at each score is that of the two classes' densities, smoothed by
    Gaussian kernels on the scale of log odds.
    """
    bandwidth = 0.4
    odds = np.log(np.clip(p, 1e-9, 1 - 1e-9) / np.clip(1 - p, 1e-9, 1 - 1e-9))
    cut = float(np.log(max(threshold, 1e-9) / max(1 - threshold, 1e-9)))
    density = {}
    for label in (True, False):
        distance = (_GRID[:, None] - odds[fake == label]) / bandwidth
        density[label] = (np.exp(-0.5 * distance**2) * weights[fake == label]).sum(1)
    both = density[True] + density[False]
    share = density[True] / np.maximum(both, 1e-12)
    # Where there are hardly any scores, a share says nothing.
    wrong = (np.where(cut <= _GRID, 1 - share, share) > UNSURE_ABOVE) & (both > 1e-3)
    low = high = int(np.argmin(np.abs(_GRID - cut)))
    while low > 0 and wrong[low - 1]:
        low -= 1
    while high < len(_GRID) - 1 and wrong[high + 1]:
        high += 1
    if low == high:
        return None
    ends = 1 / (1 + np.exp(-_GRID[[low, high]]))
    return float(min(ends[0], threshold)), float(max(ends[1], threshold))
