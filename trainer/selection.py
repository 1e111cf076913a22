"""Which pictures of a data set a run is judged on, and what must be said about them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scanner.errors import UsageError
from trainer.data import Sample, cap_per_source

ROLES = ("train", "val", "holdout")
FITTED_HERE = (
    "thresholds and temperature were fitted on these pictures: the figures flatter the run; "
    "judge it on a held-out split or on other data"
)
OF_BUNDLES = (
    "a bundle does not say which pictures it was fitted on: the figures are honest if it has seen "
    "none of these"
)


@dataclass(frozen=True, slots=True)
class Seen:
    """What a run did with each picture: "train", "val" or "holdout", by key and by group."""

    keys: dict[str, str]
    groups: dict[str, str]

    def knows(self, samples: Sequence[Sample]) -> bool:
        """Whether this is the run's own data set: half of the smaller of both is in the other.

        Names like real/0001.png recur from one data set to the next, so a few in common do not
        make it the same; and either may be a part of the other.
        """
        common = sum(sample.key in self.keys for sample in samples)
        return common > 0 and 2 * common >= min(len(samples), len(self.keys))

    def role(self, sample: Sample) -> str | None:
        """A new picture of a known group counts as its group does: they are near copies."""
        return self.keys.get(sample.key) or self.groups.get(sample.group)


@dataclass(frozen=True, slots=True)
class Selection:
    """`samples` to score, `split` as the outputs call it, and `warnings` for all of them."""

    split: str
    samples: tuple[Sample, ...]
    warnings: tuple[str, ...] = ()


def read_seen(run: Path) -> Seen:
    """Read a run's splits.csv. Raises UsageError if it is missing or not one."""
    path = run / "splits.csv"
    keys, groups = {}, {}
    try:
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as stream:
            for row in csv.DictReader(stream):
                keys[row["file"]] = groups[row["group"]] = row["split"]
    except FileNotFoundError:
        raise UsageError(
            f"{path}: missing, so nobody can tell which pictures the run was fitted on; is the "
            "folder a run of trainer fit?"
        ) from None
    except KeyError as error:
        raise UsageError(f"{path}: has no column {error.args[0]!r}") from None
    return Seen(keys, groups)


def select(
    samples: Sequence[Sample], seen: Seen, *, split: str | None, holdout: str, origin: str
) -> Selection:
    """The pictures of `split`; training pictures only where "train" or "all" asks for them.

    `split` is "train", "val" or "holdout" as the run divided the data, "all", or a name that
    the data itself uses. None: the run's holdout (which the data may call `holdout`), else its
    validation pictures; all of a data set that the run never saw and that names no such split.
    `origin` names the data in messages. Raises UsageError if nothing is left to score.
    """
    known = seen.knows(samples)
    parts = _parts(samples, seen, holdout) if known else {}
    if split is None:
        named = [s for s in samples if s.split == holdout]
        if known:
            split = "holdout" if parts["holdout"] else "val"
        elif named:
            split = holdout
        else:
            split = "all"
    if split == "all":
        chosen = list(samples)
    elif split in parts:
        chosen = parts[split]
    else:
        chosen = [s for s in samples if s.split == split]
    warnings = []
    if known and split not in ("all", "train"):
        kept = [s for s in chosen if seen.role(s) != "train"]
        if left_out := len(chosen) - len(kept):
            warnings.append(
                f"{left_out} of {len(chosen)} pictures of split {split} (or near copies of "
                "them) were in the run's training set and are left out"
            )
        chosen = kept
    if not chosen:
        names = sorted({s.split for s in samples if s.split} | (set(ROLES) if known else set()))
        choices = ", ".join(["all", *names])
        raise UsageError(
            f"{origin}: no picture to judge the run on in split {split!r}"
            + (" that it was not fitted on" if warnings else "")
            + f"; choose --split from {choices}"
        )
    warnings += _warnings(chosen, seen) if known else _namesakes(chosen, seen)
    return Selection(split, tuple(chosen), tuple(warnings))


def limited(selection: Selection, limit: int, seed: int) -> Selection:
    """At most `limit` pictures of each class and source (0: all), drawn by `seed` and key."""
    if not limit:
        return selection
    kept = tuple(cap_per_source(selection.samples, limit, seed))
    warning = f"a draw of {len(kept)} from {len(selection.samples)} pictures (--limit {limit})"
    warnings = selection.warnings
    if len(kept) < len(selection.samples):
        warnings = (*warnings, warning)
    return Selection(selection.split, kept, warnings)


def _parts(samples: Sequence[Sample], seen: Seen, holdout: str) -> dict[str, list[Sample]]:
    """The run's own division; pictures that the holdout has gained since belong to it."""
    parts: dict[str, list[Sample]] = {role: [] for role in ROLES}
    for sample in samples:
        role = seen.keys.get(sample.key)
        if role is None and sample.split == holdout:
            role = "holdout"
        if role in parts:
            parts[role].append(sample)
    return parts


def _namesakes(chosen: Sequence[Sample], seen: Seen) -> list[str]:
    count = sum(seen.keys.get(s.key) == "train" for s in chosen)
    if not count:
        return []
    return [
        f"{count} of {len(chosen)} pictures are named like pictures of the run's training set; "
        "if they are the same, the figures flatter the run"
    ]


def _warnings(chosen: Sequence[Sample], seen: Seen) -> list[str]:
    roles = [seen.role(s) for s in chosen]
    trained, fitted = roles.count("train"), roles.count("val")
    warnings = []
    if trained:
        warnings.append(
            f"{trained} of {len(chosen)} pictures were in the run's training set: the figures "
            "say how well it remembers, not how well it detects"
        )
    if fitted == len(chosen):
        warnings.append(FITTED_HERE)
    elif fitted:
        warnings.append(f"for {fitted} of {len(chosen)} pictures: {FITTED_HERE}")
    return warnings
