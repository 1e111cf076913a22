"""The leak probe: a small classifier that is given a few numbers and no picture.

What it can tell from them, a detector can learn instead of looking.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold

from trainer.auc_error import auc_standard_error
from trainer.facts import Facts, signature

Finding = Literal["ok", "weak leak", "LEAK", "too few"]

# A coin has an AUC of 0.5. They bound what 95 % of probes of such a set would at least show.
WEAK, STRONG = 0.55, 0.70


@dataclass(frozen=True, slots=True)
class Probe:
    """Cross-validated figures of one set of features; None where there are too few groups."""

    count: int
    auc: float | None
    low: float | None  # lower end of the AUC's 95 % interval
    balanced_accuracy: float | None
    finding: Finding
    told_by: str  # the feature that the trees lean on most; "" if none


def probe(
    features: npt.NDArray[np.float64],
    names: Sequence[str],
    labels: npt.NDArray[np.int64],
    groups: Sequence[str],
    seed: int = 0,
) -> Probe:
    """Random forest (Breiman, 2001) on [N, F] in five folds; no group is in two of them.

    The interval counts groups, not pictures, since pictures of one group are much alike.
    """
    of_class = [len({g for g, y in zip(groups, labels, strict=True) if y == c}) for c in (0, 1)]
    folds = min(5, *of_class)
    if folds < 2:
        return Probe(len(labels), None, None, None, "too few", "")
    # What no picture has says nothing; trees refuse columns that are nan throughout.
    told = [i for i in range(len(names)) if not np.isnan(features[:, i]).all()]
    features, names = features[:, told], [names[i] for i in told]
    p, importance = np.full(len(labels), 0.5), np.zeros(len(names))
    if names:
        split = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
        for train, test in split.split(features, labels, groups):
            forest = RandomForestClassifier(
                100,
                min_samples_leaf=max(1, min(5, len(train) // 40)),
                class_weight="balanced",
                random_state=seed,
            )
            forest.fit(features[train], labels[train])
            p[test] = forest.predict_proba(features[test])[:, 1]
            importance += forest.feature_importances_
    auc = float(roc_auc_score(labels, p))
    low = auc - 1.96 * auc_standard_error(auc, of_class[1], of_class[0])
    finding: Finding = "LEAK" if low > STRONG else "weak leak" if low > WEAK else "ok"
    accuracy = float(balanced_accuracy_score(labels, p > 0.5))
    best = names[int(importance.argmax())] if importance.any() and finding != "ok" else ""
    return Probe(len(labels), auc, low, accuracy, finding, best)


@dataclass(frozen=True, slots=True)
class Telltale:
    """A value that nearly only one class has."""

    kind: str  # "size", "format", ...
    value: str
    fakes: int
    reals: int


def telltales(
    facts: Sequence[Facts], labels: npt.NDArray[np.int64], limit: int = 2
) -> list[Telltale]:
    """For each kind of value, the `limit` most common ones that give away each class.

    A value counts if it is at least nine times as common in one class as in the other, and
    at least a twentieth of its class has it.
    """
    total = [int((labels == c).sum()) for c in (0, 1)]
    counted: dict[str, Counter[tuple[str, int]]] = {}
    for fact, label in zip(facts, labels.tolist(), strict=True):
        for kind, value in signature(fact).items():
            counted.setdefault(kind, Counter())[value, label] += 1
    found = []
    for kind, counter in counted.items():
        for label in (1, 0):
            shares = {
                value: (counter[value, label] / total[label], counter[value, 1 - label])
                for value, of in counter
                if of == label
            }
            telling = [
                value
                for value, (share, others) in sorted(shares.items(), key=lambda i: -i[1][0])
                if share >= 0.05 and share >= 9 * others / total[1 - label]
            ]
            for value in telling[:limit]:
                found.append(Telltale(kind, value, counter[value, 1], counter[value, 0]))
    return found
