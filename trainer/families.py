"""How far a mean over families would move with other families, and other groups in them.

A two-stage bootstrap (Efron, 1979; Davison & Hinkley, 1997, section 3.8): families are drawn within
each class, and within a drawn family its groups, for pictures of one group are alike. Thresholds
stay as they are: what their fit would change is not in the interval.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainer.samples import Sample

Array = npt.NDArray[np.float64]
DRAWS = 2000
_PERCENTILES = (2.5, 97.5)


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Of one family, class `fake`: a figure for each picture, [N]; nan: it has no say.

    `groups` names the group of each picture, [N]; empty: each is its own.
    """

    fake: bool
    values: Array
    groups: tuple[str, ...] = ()

    def drawn(self, rng: np.random.Generator) -> Array:
        """The family's mean with its groups drawn anew, [DRAWS]; nan where none has a say."""
        groups = self.groups or tuple(map(str, range(len(self.values))))
        _, unit = np.unique(np.array(groups), return_inverse=True)
        says = ~np.isnan(self.values)
        count = int(unit.max()) + 1
        sums = np.bincount(unit[says], self.values[says], minlength=count)
        sizes = np.bincount(unit[says], minlength=count)
        times = rng.multinomial(count, np.full(count, 1 / count), DRAWS)
        with np.errstate(invalid="ignore"):
            means: Array = (times @ sums) / (times @ sizes)
        return means


def draws(families: Sequence[Outcomes], seed: int = 0) -> dict[str, Array]:
    """Means over families, [DRAWS], by class: "real", "fake"; a class of no family is left out.

    A draw is nan where none of its families has a say.
    """
    rng = np.random.default_rng(seed)
    by_class: dict[str, Array] = {}
    for name, label in (("real", False), ("fake", True)):
        of = [family.drawn(rng) for family in families if family.fake is label]
        if not of:
            continue
        means = np.stack(of)  # [families, DRAWS]
        # A family that is drawn twice is two draws of its groups.
        which = rng.integers(len(of), size=means.shape)
        when = rng.integers(DRAWS, size=means.shape)
        taken = means[which, when]
        with np.errstate(invalid="ignore"):
            by_class[name] = np.nansum(taken, axis=0) / (~np.isnan(taken)).sum(0)
    return by_class


def intervals(families: Sequence[Outcomes], seed: int = 0) -> dict[str, list[float]]:
    """Of 95 %, [low, high], of the means over families: "fake", "real" and "both", their mean.

    Classes that no family is of are left out.
    """
    drawn = draws(families, seed)
    if len(drawn) == 2:
        drawn["both"] = (drawn["real"] + drawn["fake"]) / 2
    return {name: percentiles(values) for name, values in drawn.items()}


def percentiles(values: Array) -> list[float]:
    """Ends of the middle 95 % of those draws that are not nan, [low, high]; nan where all are."""
    if np.isnan(values).all():
        return [float("nan")] * 2
    return [float(x) for x in np.nanpercentile(values, _PERCENTILES)]


def few_of_each_group(samples: Sequence[Sample], most: int) -> list[Sample]:
    """In their order, of each group the first `most`: one long series is not to be the family."""
    seen: Counter[str] = Counter()
    kept = []
    for sample in samples:
        seen[sample.group] += 1
        if seen[sample.group] <= most:
            kept.append(sample)
    return kept
