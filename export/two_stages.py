"""What two models made of the same left-out pictures, and which of them the second should score."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scanner.bundle import Bundle
from scanner.errors import UsageError
from trainer.checkpoint import read_json
from trainer.config import config_from_dict
from trainer.data import FAKE, LABELS, REAL
from trainer.left_out import (
    FamilyScores,
    LeftOutCalibration,
    cross_fitted,
    fit_left_out,
    read_scores,
)
from trainer.recalibrate import require_same_recipe

Array = npt.NDArray[np.float64]
Band = tuple[float, float]
# Edges of the bands that are tried.
_LOWS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4)
_HIGHS = (0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.98)


@dataclass(frozen=True, slots=True)
class PairScores:
    """Of one family at one tier by both stages, uncalibrated logits [N] each."""

    family: str
    fake: bool
    tier: str
    first: Array
    second: Array

    def of_stage(self, stage: int) -> FamilyScores:
        """By stage 0 or 1 alone."""
        logits = (self.first, self.second)[stage]
        return FamilyScores(self.family, self.fake, self.tier, tuple(logits.tolist()))


@dataclass(frozen=True, slots=True)
class Stages:
    """The calibrations of both stages; `on_left_out` says which came of left-out scores."""

    first: LeftOutCalibration
    second: LeftOutCalibration
    on_left_out: tuple[bool, bool]

    def fitted_to(self, scores: Sequence[PairScores]) -> Stages:
        """With those fitted anew that knew left-out scores; the others knew none anyway."""
        first, second = (
            fit_left_out([s.of_stage(i) for s in scores]) if knows else fit
            for i, (fit, knows) in enumerate(
                zip((self.first, self.second), self.on_left_out, strict=True)
            )
        )
        return Stages(first, second, self.on_left_out)

    def rescored(self, scores: PairScores, band: Band) -> npt.NDArray[np.bool_]:
        """Which of these pictures go to the second stage, [N]."""
        p = self.first.p_fake(scores.first)
        return (p >= band[0]) & (p < band[1])

    def combined(self, scores: PairScores, band: Band) -> FamilyScores:
        """By the cascade, as log odds of P(fake)."""
        of_first = (scores.first + self.first.shift) / self.first.temperature
        of_second = (scores.second + self.second.shift) / self.second.temperature
        logits = np.where(self.rescored(scores, band), of_second, of_first)
        return FamilyScores(scores.family, scores.fake, scores.tier, tuple(logits.tolist()))


def joined(bundles: Sequence[Bundle], files: Sequence[Path]) -> tuple[list[PairScores], Stages]:
    """What both stages scored, by tier, family and picture; and each stage's own calibration.

    Raises UsageError for files that are not of these bundles, or have too little in common.
    """
    fits, found = [], []
    for bundle, file in zip(bundles, files, strict=True):
        raw = read_json(file)
        scores = read_scores(raw, str(file))
        fits.append(_calibration(bundle, raw, scores, file))
        found.append(
            {
                (score.family, score.fake, score.tier): _by_key(row, score, file)
                for row, score in zip(raw["left_out"], scores, strict=True)
            }
        )
    pairs = []
    for (family, fake, tier), of_first in found[0].items():
        of_second = found[1].get((family, fake, tier), {})
        keys = [key for key in of_first if key in of_second]
        if keys:
            first, second = (np.array([of[k] for k in keys]) for of in (of_first, of_second))
            pairs.append(PairScores(family, fake, tier, first, second))
    # To judge one family, two others of its class must be there to fit to.
    families = {fake: {one.family for one in pairs if one.fake is fake} for fake in (True, False)}
    if min(len(of_class) for of_class in families.values()) < 2:
        raise UsageError(
            f"{files[0]} and {files[1]}: have pictures of {len(families[False])} real and "
            f"{len(families[True])} fake families in common, of two each at least; run `trainer "
            "benchmark` for both stages on the same data, with the same --family"
        )
    return pairs, Stages(fits[0], fits[1], (_on_left_out(bundles[0]), _on_left_out(bundles[1])))


def _on_left_out(bundle: Bundle) -> bool:
    """Whether `trainer calibrate` had a part in it."""
    return "left_out_points" in bundle.metrics


def _calibration(
    bundle: Bundle, raw: Mapping[str, Any], scores: Sequence[FamilyScores], file: Path
) -> LeftOutCalibration:
    """The bundle's own.

    One by left-out scores is fitted to them again, for its shift is in the bundle's graph and
    nowhere else; that it is the same shows in the temperature.
    """
    which = f"{bundle.name}@{bundle.digest}"
    if "config" in bundle.training and "config" in raw:
        config = config_from_dict(bundle.training["config"], origin=which)
        require_same_recipe(config, raw["config"], file, of=which)
        if config.prior is not None:
            raise UsageError(
                f"{which}: was fitted with real_per_fake, whose P(fake) left-out families, which "
                "count alike, cannot judge; name another stage"
            )
    if not _on_left_out(bundle):
        return LeftOutCalibration(bundle.temperature, 0.0, dict(bundle.thresholds), bundle.unsure)
    fit = fit_left_out(scores)
    if abs(fit.temperature - bundle.temperature) > 1e-6:
        raise UsageError(
            f"{file}: {which} was not calibrated by these scores (temperature "
            f"{bundle.temperature:.4f}, they give {fit.temperature:.4f}); run `trainer calibrate` "
            "with them and export the stage again"
        )
    return fit


def _by_key(row: Mapping[str, Any], score: FamilyScores, file: Path) -> dict[str, float]:
    keys = row.get("keys", ())
    if not isinstance(keys, list) or len(keys) != len(score.logits):
        raise UsageError(
            f"{file}: does not say which pictures the scores of {score.family} are of; run "
            "`trainer benchmark` again"
        )
    return {str(key): logit for key, logit in zip(keys, score.logits, strict=True)}


def best_band(scores: Sequence[PairScores], stages: Stages, share: float) -> Band:
    """Of a grid of bands that send at most `share` on, that of the best balanced accuracy.

    At Youden's threshold of all families, mean over the tiers. Among bands that are as good to a
    tenth of a point, the one that sends the fewest on. Raises UsageError if there is none.
    """
    best: tuple[float, float, Band] | None = None
    for band in itertools.product(_LOWS, _HIGHS):
        sent = _sent(scores, stages, band)
        if sent > share:
            continue
        combined = [stages.combined(s, band) for s in scores]
        quality = round(_balanced_accuracy(combined), 3)
        if best is None or (quality, -sent) > best[:2]:
            best = (quality, -sent, band)
    if best is None:
        raise UsageError(f"--share {share:g}: no band sends so few pictures on; raise it")
    return best[2]


def _sent(scores: Sequence[PairScores], stages: Stages, band: Band) -> float:
    """Share of left-out pictures that go on; families count alike within a class, so do classes."""
    return float(
        np.mean(
            [
                np.mean([stages.rescored(s, band).mean() for s in scores if s.fake is fake])
                for fake in (True, False)
            ]
        )
    )


def _balanced_accuracy(combined: Sequence[FamilyScores]) -> float:
    """Mean over tiers. One threshold for all, not one without each family: it only ranks bands."""
    fit = fit_left_out(combined, calibrated=True)
    tiers = cross_fitted(
        combined, lambda family: (fit, [s for s in combined if s.family == family])
    )
    return float(np.mean([t["points"]["youden"]["balanced_accuracy"] for t in tiers.values()]))


def cross_fitted_pair(
    scores: Sequence[PairScores], stages: Stages, band: Band
) -> dict[str, dict[str, Any]]:
    """As `trainer.left_out.cross_fitted`, of the cascade.

    No threshold and neither stage's calibration knows the family that is judged by it.
    """

    def without(family: str) -> tuple[LeftOutCalibration, list[FamilyScores]]:
        rest = [s for s in scores if s.family != family]
        others = stages.fitted_to(rest)
        fit = fit_left_out([others.combined(s, band) for s in rest], calibrated=True)
        return fit, [others.combined(s, band) for s in scores if s.family == family]

    return cross_fitted([s.of_stage(0) for s in scores], without)


def rescored_shares(
    scores: Sequence[PairScores], stages: Stages, band: Band
) -> dict[str, dict[str, float]]:
    """Tier -> class -> mean share over left-out families that goes to the second stage."""
    return {
        tier: {
            LABELS[label]: float(
                np.mean(
                    [
                        stages.rescored(s, band).mean()
                        for s in scores
                        if s.tier == tier and s.fake is (label == FAKE)
                    ]
                )
            )
            for label in (REAL, FAKE)
        }
        for tier in dict.fromkeys(s.tier for s in scores)
    }
