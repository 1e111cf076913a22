"""Two models' scores of what was left out, as those of a cascade: band, shares, figures."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from scanner.errors import UsageError
from trainer.checkpoint import read_json
from trainer.data import FAKE, LABELS, REAL
from trainer.left_out import (
    FamilyScores,
    LeftOutCalibration,
    cross_fitted,
    fit_left_out,
    judged,
    read_scores,
)

Array = npt.NDArray[np.float64]
Band = tuple[float, float]
# Edges of the bands that are tried.
_LOWS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4)
_HIGHS = (0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


@dataclass(frozen=True, slots=True)
class PairScores:
    """Of one family at one tier by both stages, uncalibrated logits [N] each."""

    family: str
    fake: bool
    tier: str
    first: Array
    second: Array
    groups: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()

    def of_stage(self, stage: int) -> FamilyScores:
        """By one stage: 0 or 1."""
        logits = (self.first, self.second)[stage]
        return FamilyScores(self.family, self.fake, self.tier, tuple(logits.tolist()), self.groups)


@dataclass(frozen=True, slots=True)
class Stages:
    """The calibrations of both stages."""

    first: LeftOutCalibration
    second: LeftOutCalibration

    def rescored(self, scores: PairScores, band: Band) -> npt.NDArray[np.bool_]:
        """Which of these pictures go to the second stage, [N]."""
        p = self.first.p_fake(scores.first)
        return (p >= band[0]) & (p < band[1])

    def combined(self, scores: PairScores, band: Band) -> FamilyScores:
        """By the cascade, as log odds of P(fake)."""
        of_first = (scores.first + self.first.shift) / self.first.temperature
        of_second = (scores.second + self.second.shift) / self.second.temperature
        logits = np.where(self.rescored(scores, band), of_second, of_first)
        return FamilyScores(
            scores.family, scores.fake, scores.tier, tuple(logits.tolist()), scores.groups
        )


def _fit_stages(scores: Sequence[PairScores]) -> Stages:
    return Stages(*(fit_left_out([s.of_stage(i) for s in scores]) for i in (0, 1)))


def joined(files: Sequence[Path]) -> tuple[list[PairScores], Stages]:
    """What both stages scored, family by family and tier by tier; and their calibrations.

    `files` are `trainer benchmark`'s of the first stage and of the second. Raises UsageError.
    """
    fits, found = [], []
    for file in files:
        raw = read_json(file)
        scores = read_scores(raw, str(file))
        fits.append(fit_left_out(scores))
        found.append(
            {
                (score.family, score.fake, score.tier): _by_key(row, score, file)
                for row, score in zip(raw["left_out"], scores, strict=True)
            }
        )
    both = []
    for (family, fake, tier), of_first in found[0].items():
        of_second = found[1].get((family, fake, tier), {})
        keys = [key for key in of_first if key in of_second]
        if keys:
            groups = tuple(of_first[k].group for k in keys)
            logits = [np.array([of[k].logit for k in keys]) for of in (of_first, of_second)]
            both.append(PairScores(family, fake, tier, logits[0], logits[1], groups, tuple(keys)))
    if {one.fake for one in both} != {True, False}:
        raise UsageError(
            f"{files[0]} and {files[1]}: hold no pictures of both classes in common; run `trainer "
            "benchmark` for both stages on the same data, with the same --family"
        )
    return both, Stages(*fits)


class _Score(NamedTuple):
    logit: float
    group: str


def _by_key(row: Mapping[str, Any], score: FamilyScores, file: Path) -> dict[str, _Score]:
    keys = row.get("keys")
    if not isinstance(keys, list) or len(keys) != len(score.logits):
        raise UsageError(
            f"{file}: does not say which pictures the scores of {score.family} are of; run "
            "`trainer benchmark` again"
        )
    groups = score.groups or tuple(keys)  # of a file that has none: each picture its own
    found = zip(keys, score.logits, groups, strict=True)
    return {str(key): _Score(logit, group) for key, logit, group in found}


def cross_fitted_stages(scores: Sequence[PairScores], band: Band) -> dict[str, Any]:
    """As `trainer.left_out`'s: neither stage's calibration knows the family that is judged."""

    def without(family: str) -> tuple[LeftOutCalibration, list[FamilyScores]]:
        rest = [s for s in scores if s.family != family]
        stages = _fit_stages(rest)
        fit = fit_left_out([stages.combined(s, band) for s in rest], calibrated=True)
        return fit, [stages.combined(s, band) for s in scores if s.family == family]

    return cross_fitted([s.of_stage(0) for s in scores], without)


def left_out_rows(scores: Sequence[PairScores], stages: Stages, band: Band) -> list[dict[str, Any]]:
    """The cascade's scores in the form of `trainer benchmark`'s JSON; `logits` are log odds of
    P(fake), by the stages' own calibrations."""
    return [
        {
            "family": one.family, "label": LABELS[one.fake], "tier": one.tier,
            "keys": list(one.keys), "groups": list(one.groups),
            "logits": list(stages.combined(one, band).logits),
        }
        for one in scores
    ]  # fmt: skip


def best_band(scores: Sequence[PairScores], stages: Stages, share: float) -> Band:
    """Of a grid of bands within `share`, that of the best balanced accuracy.

    Youden's thresholds are fitted to the other families each time. Among bands that are as good
    to a tenth of a point, the one that sends the fewest on.
    """
    best: tuple[float, float, Band] | None = None
    for low, high in itertools.product(_LOWS, _HIGHS):
        band = (low, high)
        sent = float(np.mean([stages.rescored(s, band).mean() for s in scores if not s.fake]))
        if sent > share:
            continue
        combined = [stages.combined(s, band) for s in scores]
        quality = round(_balanced_accuracy(combined), 3)
        if best is None or (quality, -sent) > best[:2]:
            best = (quality, -sent, band)
    if best is None:
        raise UsageError(f"--share {share:g}: no band sends so few pictures on; raise it")
    return best[2]


def _balanced_accuracy(scores: Sequence[FamilyScores]) -> float:
    """Mean over tiers, by thresholds of the other families."""

    def without(family: str) -> tuple[LeftOutCalibration, list[FamilyScores]]:
        fit = fit_left_out([s for s in scores if s.family != family], calibrated=True)
        return fit, [s for s in scores if s.family == family]

    found = judged(scores, without)
    means = []
    for tier in dict.fromkeys(s.tier for s in scores):
        right: dict[bool, list[float]] = {True: [], False: []}
        for fit, row in found:
            if row.tier == tier:
                called = fit.p_fake(np.array(row.logits)) >= fit.thresholds["youden"]
                right[row.fake].append(float((called == row.fake).mean()))
        means.append((np.mean(right[True]) + np.mean(right[False])) / 2)
    return float(np.mean(means))


def rescored_shares(
    scores: Sequence[PairScores], stages: Stages, band: Band
) -> dict[str, dict[str, float]]:
    """Tier -> mean share over left-out families that goes to the second stage, by class."""
    return {
        tier: {
            LABELS[fake]: float(
                np.mean(
                    [
                        stages.rescored(s, band).mean()
                        for s in scores
                        if s.tier == tier and s.fake is bool(fake)
                    ]
                )
            )
            for fake in (REAL, FAKE)
        }
        for tier in dict.fromkeys(s.tier for s in scores)
    }
