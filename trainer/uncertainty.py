"""95 % intervals of an evaluation's figures, and of what one run is better than another."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.bootstrap import METRICS, Draws, Interval, Resampled, differences, intervals

if TYPE_CHECKING:
    from trainer.evaluate import RunResult, TierResult

Intervals = Mapping[str, Interval | None]  # by figure; None: not defined on these pictures


@dataclass(frozen=True, slots=True)
class Difference:
    """`other` minus `one`, two runs on the same pictures, each at its own operating point.

    `figures` gives by name the difference and its interval; `neighbours` were named one after
    the other.
    """

    tier: str
    one: str
    other: str
    figures: Mapping[str, tuple[float, Interval]]
    neighbours: bool


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """`intervals` by (run, tier, threshold), from `draws` draws by `seed`."""

    draws: int
    seed: int
    intervals: Mapping[tuple[str, str, str], Intervals]
    differences: tuple[Difference, ...]


def uncertainty(results: Sequence[RunResult], *, draws: int, seed: int) -> Uncertainty | None:
    """Of all runs, tiers and thresholds; None for no draws.

    Runs are compared where they were judged on the same pictures. Groups are those of the data
    that was read, even where a run was judged on all of it.
    """
    if not draws:
        return None
    resampled: dict[tuple[tuple[str, int], ...], Resampled] = {}
    found: dict[tuple[str, str, str], Intervals] = {}
    drawn: list[list[tuple[Resampled, Draws]]] = []  # at the operating point, by run and tier
    for result in results:
        drawn.append([])
        for tier in result.tiers:
            key = tuple((s.key, s.label) for s in tier.samples)
            if key not in resampled:
                groups = [sample.group for sample in tier.samples]
                resampled[key] = Resampled(tier.labels, groups, count=draws, seed=seed)
            for name, threshold in result.run.thresholds.items():
                some = resampled[key].figures(tier.p_fake, threshold)
                found[result.run.name, tier.tier.name, name] = intervals(some)
                if name == result.run.operating_point:
                    drawn[-1].append((resampled[key], some))
    between: list[Difference] = []
    for (i, one), (j, other) in itertools.combinations(enumerate(results), 2):
        for k, (a, b) in enumerate(zip(one.tiers, other.tiers, strict=True)):
            if drawn[i][k][0] is drawn[j][k][0]:
                moved = differences(drawn[i][k][1], drawn[j][k][1])
                between.append(_difference(one, a, other, b, moved, neighbours=j == i + 1))
    return Uncertainty(draws, seed, found, tuple(between))


def _difference(
    one: RunResult,
    a: TierResult,
    other: RunResult,
    b: TierResult,
    moved: Mapping[str, Interval | None],
    *,
    neighbours: bool,
) -> Difference:
    before, after = a.figures[one.run.operating_point], b.figures[other.run.operating_point]
    figures = {
        name: (after[name] - before[name], interval)
        for name in METRICS
        if (interval := moved[name]) is not None
    }
    return Difference(a.tier.name, one.run.name, other.run.name, figures, neighbours)
