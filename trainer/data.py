"""A data set for a fit: labelled pictures, checked, in fixed, grouped, seeded splits."""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from scanner.errors import UsageError
from scanner.preprocess import PreprocessSpec
from scanner.types import Failed
from trainer.samples import (
    FAKE,
    FILE_COLUMNS,
    LABELS,
    REAL,
    Sample,
    load_samples,
)

__all__ = [
    "FAKE", "FILE_COLUMNS", "LABELS", "REAL", "Sample", "Splits", "across_splits",
    "cap_per_source", "check_readable", "describe", "draw_key", "load_samples",
    "refuse_contradictions", "split_samples", "take_groups",
]  # fmt: skip
PARTS = ("train", "val", "holdout")


@dataclass(frozen=True, slots=True)
class Splits:
    """Disjoint parts of one data set; no group stands in two of the first three.

    `left_out` is of splits that the data names and that a fit has no use for; `unlabelled` are
    pictures that a teacher alone speaks of.
    """

    train: tuple[Sample, ...]
    val: tuple[Sample, ...]
    holdout: tuple[Sample, ...]
    left_out: tuple[Sample, ...] = ()
    unlabelled: tuple[Sample, ...] = ()


def split_samples(
    samples: Sequence[Sample],
    *,
    val_fraction: float,
    holdout: str = "test",
    fraction: float = 1.0,
    max_per_source: int = 0,
    seed: int = 0,
) -> Splits:
    """Grouped, stratified by class and source, and the same for the same seed everywhere.

    A split named `holdout` is set aside whole. Where the data names a `val` split besides, it
    is the validation set; else `val_fraction` of the groups are drawn. What is trained on is
    the split `train` and pictures of none. `fraction` takes a part of both, again by groups.
    Raises UsageError for a group that the data puts into two of these, and for a part that
    lacks a class.
    """
    kept = [s for s in samples if s.split == holdout]
    rest = [s for s in samples if s.split != holdout]
    named = [s for s in rest if s.split == "val"]
    train = [s for s in rest if s.split in ("train", None)]
    unused = [s for s in rest if s.split not in ("train", "val", None)]
    _refuse_torn_groups({"train": train, "val": named, "holdout": kept})
    if named:
        val = named
    else:
        val, train = take_groups(train, val_fraction, seed=seed, salt="val")
    if fraction < 1:
        train, _ = take_groups(train, fraction, seed=seed, salt="sample")
        val, _ = take_groups(val, fraction, seed=seed, salt="sample")
    if max_per_source:
        train = cap_per_source(train, max_per_source, seed)
    for name, part in (("training", train), ("validation", val)):
        if {s.label for s in part} != {REAL, FAKE}:
            raise UsageError(
                f"the {name} set of {len(part)} pictures lacks a class; use more data, a larger "
                "sample, or another val_fraction" + (f" ({_unused_line(unused)})" if unused else "")
            )
    return Splits(tuple(train), tuple(val), tuple(kept), tuple(unused))


def _refuse_torn_groups(parts: Mapping[str, Sequence[Sample]]) -> None:
    home: dict[str, tuple[str, Sample]] = {}
    for name, part in parts.items():
        for sample in part:
            other_name, other = home.setdefault(sample.group, (name, sample))
            if other_name != name:
                raise UsageError(
                    f"group {sample.group} stands in two splits: {other.key} ({other_name}) and "
                    f"{sample.key} ({name}); move one or name another group"
                )


def take_groups(
    samples: Sequence[Sample], fraction: float, *, seed: int, salt: str
) -> tuple[list[Sample], list[Sample]]:
    """(about `fraction` of the pictures, the rest), by whole groups, in each class and source."""
    strata: dict[tuple[int, str], dict[str, int]] = defaultdict(dict)
    home: dict[str, tuple[int, str]] = {}
    for sample in samples:
        stratum = home.setdefault(sample.group, (sample.label, sample.source))
        strata[stratum][sample.group] = strata[stratum].get(sample.group, 0) + 1
    taken: set[str] = set()
    owed = {REAL: 0.0, FAKE: 0.0}  # what rounding to whole groups left over in a class
    for (label, _), groups in sorted(strata.items()):
        owed[label] += fraction * sum(groups.values())
        for group in sorted(groups, key=lambda g: draw_key(seed, salt, g)):
            # Half a group too many is as far off as half a group too few.
            if groups[group] / 2 > owed[label]:
                break
            taken.add(group)
            owed[label] -= groups[group]
    part = [s for s in samples if s.group in taken]
    return part, [s for s in samples if s.group not in taken]


def draw_key(seed: int, salt: str, group: str) -> bytes:
    """A place in the draw that depends on nothing but these: not on order, platform or count."""
    return hashlib.sha256(f"{seed}\0{salt}\0{group}".encode("utf-8", "surrogateescape")).digest()


def cap_per_source(samples: Sequence[Sample], limit: int, seed: int) -> list[Sample]:
    """At most `limit` pictures of each class and source: the same for the same seed and keys."""
    by_source: dict[tuple[int, str], list[Sample]] = defaultdict(list)
    for sample in sorted(samples, key=lambda s: draw_key(seed, "cap", s.key)):
        by_source[sample.label, sample.source].append(sample)
    kept = {s.key for part in by_source.values() for s in part[:limit]}
    return [s for s in samples if s.key in kept]


def check_readable(
    samples: Iterable[Sample], spec: PreprocessSpec, workers: int = 4
) -> tuple[list[Sample], list[Failed]]:
    """Decode every picture once: those that can be used, and the failures with their reasons."""
    samples = list(samples)
    good, bad = [], []
    with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        for sample, failure in zip(
            samples, pool.map(lambda s: _failure(s, spec), samples), strict=True
        ):
            if failure is None:
                good.append(sample)
            else:
                bad.append(failure)
    return good, bad


def refuse_contradictions(samples: Sequence[Sample]) -> None:
    """Raise UsageError if the same file (by content) stands in both classes."""
    for one, other in _same_files(samples, {s.key: str(s.label) for s in samples}):
        raise UsageError(f"{one.key} and {other.key} are the same file in both classes; remove one")


def across_splits(splits: Splits) -> list[tuple[Sample, Sample]]:
    """Pairs of the same file (by content) in two of train, val and holdout."""
    part_of = {s.key: part for part in PARTS for s in getattr(splits, part)}
    return list(_same_files([*splits.train, *splits.val, *splits.holdout], part_of))


def _same_files(
    samples: Sequence[Sample], mark_of: Mapping[str, str]
) -> Iterator[tuple[Sample, Sample]]:
    """Pairs of the same bytes and different marks; what cannot be read is passed over."""
    by_size: dict[int, list[Sample]] = defaultdict(list)
    for sample in samples:
        with contextlib.suppress(OSError):  # decoding it will say why
            length = sample.length if sample.offset >= 0 else sample.path.stat().st_size
            by_size[length].append(sample)
    for same_size in by_size.values():
        if len({mark_of[s.key] for s in same_size}) < 2:
            continue
        seen: dict[str, Sample] = {}
        for sample in same_size:
            digest = sample.sha256()
            if digest is None:
                continue
            other = seen.setdefault(digest, sample)
            if mark_of[other.key] != mark_of[sample.key]:
                yield other, sample


def _failure(sample: Sample, spec: PreprocessSpec) -> Failed | None:
    result = sample.decode(spec)
    return result if isinstance(result, Failed) else None


def describe(splits: Splits, say: Callable[[str], None]) -> None:
    """Say how many pictures of each class and sources each part holds, and what is in none."""
    for name in PARTS:
        part: tuple[Sample, ...] = getattr(splits, name)
        counts = Counter(s.label for s in part)
        sources = len({(s.label, s.source) for s in part})
        say(f"{name:8s} {counts[REAL]:6d} real {counts[FAKE]:6d} fake {sources:4d} sources")
    if splits.unlabelled:
        say(f"{'unlabelled':8s} {len(splits.unlabelled):4d} pictures, for the teacher's lessons")
    if splits.left_out:
        say(_unused_line(splits.left_out))


def _unused_line(samples: Sequence[Sample]) -> str:
    counts = Counter(s.split for s in samples)
    named = (f"{count} pictures of split {name}" for name, count in sorted(counts.items(), key=str))
    return f"left out: {'; '.join(named)}"
