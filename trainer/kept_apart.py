"""Which sources are left out together, and whether enough is left then: by the list of files alone.

Light, so that what is wrong is told at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from scanner.errors import UsageError
from trainer.samples import FAKE, LABELS, REAL, Sample

_LEAST_FAMILIES = 2  # of a class: one is left out


def families_of(samples: Sequence[Sample], merged: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Source -> family: its own name, or that under which `merged` lists it.

    Sources of one generator, or of one collection, must be left out together.
    """
    label_of: dict[str, set[int]] = {}
    for sample in samples:
        label_of.setdefault(sample.source, set()).add(sample.label)
    family = {source: source for source in label_of}
    for name, sources in merged.items():
        for source in sources:
            if source not in label_of:
                raise UsageError(f"--family {name}: the data has no source {source!r}")
            family[source] = name
    for name in set(family.values()):
        labels = {label for s, f in family.items() if f == name for label in label_of[s]}
        if len(labels) > 1:
            raise UsageError(f"family {name!r} holds both real and fake pictures; rename a source")
    return family


def check_families(samples: Sequence[Sample], family: Mapping[str, str], holdout: str) -> None:
    """Something must be left to learn from without each family, and to score. Raises UsageError."""
    for label, name in enumerate(LABELS):
        families = {family[s.source] for s in samples if s.label == label}
        if len(families) < _LEAST_FAMILIES:
            sources = sorted({s.source for s in samples if s.label == label})
            if len(sources) > 1:
                raise UsageError(
                    f"--family {min(families)} takes in all {name} sources "
                    f"({', '.join(sources)}), and without it there are none to learn from; "
                    "benchmark needs two families of each class"
                )
            raise UsageError(
                f"all {name} pictures are of one source, {min(families)!r}, and without it there "
                "are none to learn from; pictures of one source belong in a folder of their own "
                f"below {name}/ (or a manifest's column source), and benchmark needs two of each "
                "class"
            )
    held_out = {s.label for s in samples if s.split == holdout}
    if not held_out:
        raise UsageError(_no_holdout(samples, holdout))
    if held_out != {REAL, FAKE}:
        raise UsageError(f"the split {holdout!r} lacks a class; name another with --holdout")
    unscored = set(family.values()) - {family[s.source] for s in samples if s.split != holdout}
    if unscored:
        raise UsageError(
            f"all pictures of {', '.join(sorted(unscored))} are in the split {holdout!r}, of which "
            "none is scored as left out; put them into a --family with others"
        )


def _no_holdout(samples: Sequence[Sample], holdout: str) -> str:
    missing = f"no picture is in the split {holdout!r}, by which known sources are judged; "
    splits = sorted({s.split for s in samples if s.split})
    if splits:
        return f"{missing}the data has {', '.join(splits)}: name one with --holdout"
    return (
        f"{missing}the data has no splits: put a part of each source into {holdout}/real/SOURCE "
        f"and {holdout}/fake/SOURCE, the rest into train/real/SOURCE and train/fake/SOURCE, or "
        "give a manifest.csv with a column split"
    )
