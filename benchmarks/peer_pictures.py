"""Which pictures detectors are compared on: those that every left-out benchmark scored."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scanner.errors import UsageError
from trainer.left_out import read_scores
from trainer.tiers import TIERS

Family = tuple[str, bool]  # its name, and whether it is fake


@dataclass(frozen=True, slots=True)
class LeftOutScores:
    """What `trainer benchmark` wrote: `keys` of the pictures of each family that have a score at
    every tier, in its order; `by_tier` tier -> key -> logit, by models that did not know it."""

    keys: Mapping[Family, tuple[str, ...]]
    by_tier: Mapping[str, Mapping[str, float]]


def read_left_out(path: Path) -> LeftOutScores:
    """Raises UsageError where `path` is not such a file, or lacks pictures or a tier."""
    try:
        raw = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; `trainer benchmark` writes it") from None
    except ValueError as error:
        raise UsageError(f"{path}: not JSON: {error}") from None
    scores = read_scores(raw, str(path))  # which checks the rest
    keys: dict[Family, list[str]] = {}
    by_tier: dict[str, dict[str, float]] = {tier: {} for tier in TIERS}
    for row, of_family in zip(raw["left_out"], scores, strict=True):
        named = row.get("keys") or ()
        if len(named) != len(of_family.logits):
            raise UsageError(f"{path}: names no pictures; run `trainer benchmark` again")
        if of_family.tier in by_tier:
            by_tier[of_family.tier].update(zip(named, of_family.logits, strict=True))
            keys.setdefault((of_family.family, of_family.fake), list(named))
    whole = {
        family: tuple(key for key in named if all(key in of for of in by_tier.values()))
        for family, named in keys.items()
    }
    return LeftOutScores(whole, by_tier)


def chosen(ours: Sequence[LeftOutScores], per_family: int) -> dict[Family, tuple[str, ...]]:
    """The first pictures of each family that all of `ours` have: as many of each.

    That is `per_family`, or what the smallest family has: families count alike by their size.
    """
    shared: dict[Family, tuple[str, ...]] = {}
    for family, keys in ours[0].keys.items():
        others = [set(scores.keys.get(family, ())) for scores in ours[1:]]
        shared[family] = tuple(key for key in keys if all(key in other for other in others))
    count = min(per_family, *map(len, shared.values()))
    if count < 2 or any(scores.keys.keys() != shared.keys() for scores in ours):
        raise UsageError("--ours: the files have not the same families, or pictures, in common")
    return {family: keys[:count] for family, keys in sorted(shared.items())}
