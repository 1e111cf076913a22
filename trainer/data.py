"""A data set for a fit: labelled pictures, checked, in fixed, grouped, seeded splits."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from scanner.errors import UsageError
from scanner.preprocess import PreprocessSpec
from scanner.types import Failed
from trainer.samples import FAKE, FILE_COLUMNS, LABELS, REAL, Sample, load_samples

__all__ = [
    "FAKE", "FILE_COLUMNS", "LABELS", "REAL", "Sample", "Splits", "cap_per_source",
    "check_readable", "describe", "draw_key", "load_samples", "refuse_contradictions",
    "split_samples", "take_groups",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Splits:
    """Disjoint parts of one data set; no group stands in two of them."""

    train: tuple[Sample, ...]
    val: tuple[Sample, ...]
    holdout: tuple[Sample, ...]


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
    is the validation set; else `val_fraction` of the groups are drawn. `fraction` takes a
    part of both, again by groups.
    """
    kept = [s for s in samples if s.split == holdout]
    rest = [s for s in samples if s.split != holdout]
    if any(s.split == "val" for s in rest):
        val = [s for s in rest if s.split == "val"]
        train = [s for s in rest if s.split != "val"]
    else:
        val, train = take_groups(rest, val_fraction, seed=seed, salt="val")
    if fraction < 1:
        train, _ = take_groups(train, fraction, seed=seed, salt="sample")
        val, _ = take_groups(val, fraction, seed=seed, salt="sample")
    if max_per_source:
        train = cap_per_source(train, max_per_source, seed)
    for name, part in (("training", train), ("validation", val)):
        if {s.label for s in part} != {REAL, FAKE}:
            raise UsageError(
                f"the {name} set of {len(part)} pictures lacks a class; use more data, a larger "
                "sample, or another val_fraction"
            )
    return Splits(tuple(train), tuple(val), tuple(kept))


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
    by_size: dict[int, list[Sample]] = defaultdict(list)
    for sample in samples:
        length = sample.length if sample.offset >= 0 else sample.path.stat().st_size
        by_size[length].append(sample)
    for same_size in by_size.values():
        if len({s.label for s in same_size}) < 2:
            continue
        seen: dict[str, Sample] = {}
        for sample in same_size:
            with sample.open() as (stream, _):
                digest = hashlib.sha256(stream.read()).hexdigest()
            other = seen.setdefault(digest, sample)
            if other.label != sample.label:
                raise UsageError(
                    f"{other.key} and {sample.key} are the same file in both classes; remove one"
                )


def _failure(sample: Sample, spec: PreprocessSpec) -> Failed | None:
    result = sample.decode(spec)
    return result if isinstance(result, Failed) else None


def describe(splits: Splits, say: Callable[[str], None]) -> None:
    """Say how many pictures of each class and how many sources each part holds."""
    for name in ("train", "val", "holdout"):
        part: tuple[Sample, ...] = getattr(splits, name)
        counts = Counter(s.label for s in part)
        sources = len({(s.label, s.source) for s in part})
        say(f"{name:8s} {counts[REAL]:6d} real {counts[FAKE]:6d} fake {sources:4d} sources")
