"""The leak probe: what could a detector cheat with, on this data, instead of looking?

Three questions. Do file facts (size, format, compression, metadata) tell the classes apart?
What of that is left of the pictures that training sees? Does the same picture stand in two
splits, or in both classes?
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from scanner.errors import UsageError
from scanner.preprocess import PreprocessSpec
from scanner.types import Failed
from trainer.config import FitConfig
from trainer.data import FAKE, PARTS, REAL, Sample, load_samples, split_samples
from trainer.facts import (
    PIXELS,
    SIZE,
    STORAGE,
    TRACES,
    Facts,
    file_facts,
    matrix,
    original_facts,
    pixel_facts,
)
from trainer.loader import Pictures
from trainer.near import Near, near_duplicates, thumbnail
from trainer.probe import Probe, Telltale, probe, telltales

_JPEG_QUALITY = 90  # of the re-encoded square, whose bytes then depend on its detail alone
_HASH_SPEC = PreprocessSpec(size=64)  # large JPEGs are decoded at reduced scale
Stage = Literal["files", "originals", "loaded", "augmented"]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: which facts, at which stage, and what they tell."""

    stage: Stage
    what: str
    probe: Probe
    content: bool = False  # sums of pixels: what they tell may be content and no leak


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Two pictures that are nearly the same in different splits or classes."""

    first: Sample
    second: Sample
    first_split: str
    second_split: str
    near: Near

    @property
    def across_classes(self) -> bool:
        """Whether one is labelled real and the other fake."""
        return self.first.label != self.second.label


@dataclass(frozen=True, slots=True)
class Audit:
    """What was found. `counts` maps each split to (reals, fakes); `failed` could not be read."""

    rows: tuple[Row, ...]
    telltales: tuple[tuple[Stage, Telltale], ...]
    duplicates: tuple[Duplicate, ...]
    counts: dict[str, tuple[int, int]]
    failed: tuple[Failed, ...]

    @property
    def leaks(self) -> tuple[Row, ...]:
        """The rows that are a strong leak."""
        return tuple(r for r in self.rows if r.probe.finding == "LEAK" and not r.content)


def audit(
    data: Path,
    config: FitConfig,
    *,
    loaded_per_class: int = 1000,
    workers: int = 4,
    say: Callable[[str], None] = lambda text: None,
) -> Audit:
    """Probe the data as a fit with `config` would see it.

    `loaded_per_class` pictures of each class are put through the loading pipeline, drawn by
    the config's seed; file facts and hashes are those of all. Raises UsageError for data that
    cannot be read at all.
    """
    samples = load_samples(data)
    splits = split_samples(
        samples, val_fraction=config.val_fraction, holdout=config.holdout, seed=config.seed
    )
    split_of = {s.key: str(s.split) for s in splits.left_out}
    split_of |= {s.key: name for name in PARTS for s in getattr(splits, name)}
    with ThreadPoolExecutor(workers) as pool:
        say(f"reading {len(samples)} pictures")
        seen = list(pool.map(_look, samples))
        failed = tuple(s for s in seen if isinstance(s, Failed))
        kept = [(s, r) for s, r in zip(samples, seen, strict=True) if not isinstance(r, Failed)]
        if {s.label for s, _ in kept} != {REAL, FAKE}:
            raise UsageError(f"{data}: too few pictures can be read: a class is missing")
        readable = [s for s, _ in kept]
        rows, tells = _file_rows(readable, [r.facts for _, r in kept], original_facts(data))
        some = _some(readable, loaded_per_class, config.seed)
        say(f"loading {len(some)} of them as training does")
        rows += _loaded_rows(some, replace(config, augment="none"), "loaded", pool)
        if config.augment != "none":
            rows += _loaded_rows(some, config, "augmented", pool)
    say("comparing hashes")
    thumbs = np.stack([r.thumb for _, r in kept])
    return Audit(
        rows=tuple(rows),
        telltales=tuple(tells),
        duplicates=tuple(_duplicates(readable, split_of, thumbs)),
        counts={
            name: _by_class([s for s in readable if split_of[s.key] == name])
            for name in (*PARTS, *sorted({str(s.split) for s in splits.left_out}))
        },
        failed=failed,
    )


@dataclass(frozen=True, slots=True)
class _Seen:
    facts: Facts
    thumb: npt.NDArray[np.float32]


def _look(sample: Sample) -> _Seen | Failed:
    pixels = sample.decode(_HASH_SPEC)
    if isinstance(pixels, Failed):
        return pixels
    with sample.open() as (stream, length):
        return _Seen(file_facts(stream, length), thumbnail(pixels.rgb))


def _file_rows(
    samples: Sequence[Sample], facts: Sequence[Facts], originals: dict[str, Facts]
) -> tuple[list[Row], list[tuple[Stage, Telltale]]]:
    labels, groups = _labels(samples), [s.group for s in samples]
    jobs: list[tuple[Stage, str, Sequence[Facts], tuple[str, ...]]] = [
        ("files", "size and shape", facts, SIZE),
        ("files", "format and bytes", facts, STORAGE),
        ("files", "compression, EXIF, text", facts, TRACES),
        ("files", "all of these", facts, SIZE + STORAGE + TRACES),
    ]
    tells: list[tuple[Stage, Telltale]] = [("files", t) for t in telltales(facts, labels)]
    if originals:
        before = [originals[s.key] for s in samples]
        jobs += [
            ("originals", "size and shape", before, SIZE),
            ("originals", "format and bytes", before, STORAGE),
            ("originals", "all of these", before, SIZE + STORAGE),
        ]
        tells += [("originals", t) for t in telltales(before, labels)]
    return [
        Row(stage, what, probe(matrix(f, names), names, labels, groups))
        for stage, what, f, names in jobs
    ], tells


def _loaded_rows(
    samples: Sequence[Sample], config: FitConfig, stage: Stage, pool: ThreadPoolExecutor
) -> list[Row]:
    """Probe the very squares that training is given, saved again by one encoder."""
    spec = config.preprocess((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    pictures = Pictures(samples, spec, augmentation=config.augment, seed=config.seed)

    def facts(index: int) -> Facts:
        square = pictures[index][0][0].permute(1, 2, 0).numpy()  # [S, S, 3], 0..1
        rgb = np.rint(square * 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(rgb).save(buffer, "JPEG", quality=_JPEG_QUALITY)
        length = buffer.tell()
        buffer.seek(0)
        return {**file_facts(buffer, length), **pixel_facts(rgb)}

    found = list(pool.map(facts, range(len(samples))))
    labels, groups = _labels(samples), [s.group for s in samples]
    every = SIZE + STORAGE + TRACES
    return [
        Row(stage, "all file facts", probe(matrix(found, every), every, labels, groups)),
        Row(stage, "sums of pixels", probe(matrix(found, PIXELS), PIXELS, labels, groups), True),
    ]


def _duplicates(
    samples: Sequence[Sample], split_of: dict[str, str], thumbs: npt.NDArray[np.float32]
) -> Iterable[Duplicate]:
    names = sorted(set(split_of.values()))
    kinds = np.array([2 * names.index(split_of[s.key]) + s.label for s in samples], np.int64)
    for near in near_duplicates(thumbs, kinds):
        first, second = samples[near.first], samples[near.second]
        yield Duplicate(first, second, split_of[first.key], split_of[second.key], near)


def _some(samples: Sequence[Sample], per_class: int, seed: int) -> list[Sample]:
    shuffled = list(samples)
    random.Random(seed).shuffle(shuffled)
    chosen = [s for c in (REAL, FAKE) for s in [s for s in shuffled if s.label == c][:per_class]]
    return sorted(chosen, key=lambda s: s.key)


def _labels(samples: Sequence[Sample]) -> npt.NDArray[np.int64]:
    return np.array([s.label for s in samples], np.int64)


def _by_class(samples: Sequence[Sample]) -> tuple[int, int]:
    fakes = sum(s.label for s in samples)
    return len(samples) - fakes, fakes
