"""How far figures would move with other pictures of the same kind: the bootstrap (Efron, 1979).

What is drawn anew, with replacement, are whole groups, for pictures of one group are alike; and
each class by itself, so that its number of groups stays. An interval holds the middle 95 % of
the draws. It knows nothing of another seed of the fit, nor of other sources.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainer.scores import Array, Labels

METRICS = ("accuracy", "balanced_accuracy", "auc")
_PERCENTILES = (2.5, 97.5)
_AT_ONCE = 4_000_000  # weights of pictures held at a time

Draws = Mapping[str, Array]  # by metric, [draws]; nan where a metric is not defined


@dataclass(frozen=True, slots=True)
class Interval:
    """`low` and `high` hold the middle 95 % of the draws."""

    low: float
    high: float


class Resampled:
    """`count` draws of the same pictures, the same ones for the same `seed`.

    `labels` is [N], 1: fake; `groups` names the group of each picture, [N]. Figures of several
    runs on these pictures are drawn in pairs: their differences have intervals of their own.
    """

    def __init__(
        self, labels: Labels, groups: Sequence[str], *, count: int = 1000, seed: int = 0
    ) -> None:
        self.labels, self.count = labels, count
        rng = np.random.default_rng(seed)
        names = np.array([f"{label}\0{group}" for label, group in zip(labels, groups, strict=True)])
        _, first, self._unit = np.unique(names, return_index=True, return_inverse=True)
        unit_label = labels[first]
        times = np.zeros((count, len(first)), np.int32)  # how often a draw has each group
        for label in np.unique(unit_label):
            own = np.flatnonzero(unit_label == label)
            times[:, own] = rng.multinomial(len(own), np.full(len(own), 1 / len(own)), count)
        self._times = times

    def figures(self, p: Array, threshold: float) -> Draws:
        """Accuracy, balanced accuracy and AUC of P(fake) `p` [N], each [draws]."""
        fake = self.labels == 1
        right = ((p >= threshold) == fake).astype(float)
        order = np.argsort(p, kind="stable")
        _, starts = np.unique(p[order], return_index=True)
        parts: dict[str, list[Array]] = {name: [] for name in METRICS}
        for weights in self._weights():
            fakes, reals = weights[:, fake].sum(1), weights[:, ~fake].sum(1)
            hits, passes = weights[:, fake] @ right[fake], weights[:, ~fake] @ right[~fake]
            with np.errstate(invalid="ignore", divide="ignore"):  # one class: nan
                parts["accuracy"].append((hits + passes) / (fakes + reals))
                parts["balanced_accuracy"].append((hits / fakes + passes / reals) / 2)
                pairs = _pairs_in_order(weights[:, order], fake[order], starts)
                parts["auc"].append(pairs / (fakes * reals))
        return {name: np.concatenate(values) for name, values in parts.items()}

    def _weights(self) -> Iterator[Array]:
        """How often each draw has each picture, [some draws, N]."""
        rows = max(1, _AT_ONCE // max(1, len(self.labels)))
        for start in range(0, self.count, rows):
            yield self._times[start : start + rows, self._unit].astype(float)


def _pairs_in_order(weights: Array, fake: npt.NDArray[np.bool_], starts: Labels) -> Array:
    """Weighted pairs whose fake scores above its real picture, ties by half: [draws].

    Columns are sorted by score; each of `starts` begins a run of equal scores. Divided by all
    pairs this is the AUC (Mann & Whitney, 1947).
    """
    fakes = np.add.reduceat(weights * fake, starts, axis=1)
    reals = np.add.reduceat(weights * ~fake, starts, axis=1)
    below = np.cumsum(reals, axis=1) - reals
    pairs: Array = (fakes * (below + reals / 2)).sum(1)
    return pairs


def intervals(draws: Draws) -> dict[str, Interval | None]:
    """By metric; None where these pictures do not define it."""
    return {name: _interval(values) for name, values in draws.items()}


def differences(one: Draws, other: Draws) -> dict[str, Interval | None]:
    """Of `other` minus `one`, draw by draw; both of one `Resampled`."""
    return {name: _interval(other[name] - one[name]) for name in one}


def _interval(values: Array) -> Interval | None:
    if np.isnan(values).any():
        return None
    low, high = np.percentile(values, _PERCENTILES)
    return Interval(float(low), float(high))
