"""The scan: refs in, verdicts and failures out, in the same order. One core for every face."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from scanner.errors import ImgscanError
from scanner.images import decode
from scanner.preprocess import PreprocessSpec, prepare
from scanner.text import one_line
from scanner.types import Failed, FileFacts, ImageRef, Verdict
from scanner.verdict import OperatingPoint, judge


class HasSpec(Protocol):
    """The part of a bundle that says how pixels are prepared."""

    @property
    def spec(self) -> PreprocessSpec:
        """What `prepare()` needs."""


class Scorer(Protocol):
    """What `scan()` needs of a model; `scanner.detector.Detector` is one."""

    @property
    def bundle(self) -> HasSpec:
        """Where the preprocessing comes from."""

    def score(self, batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """float32 [B, V, 3, S, S] -> P(fake), float64 [B], each in [0, 1]."""


@dataclass(frozen=True, slots=True)
class _Prepared:
    ref: ImageRef
    views: npt.NDArray[np.float32]  # [V, 3, S, S]
    facts: FileFacts


_File: TypeAlias = _Prepared | Failed


def default_workers() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def scan(
    refs: Iterable[ImageRef | Failed],
    scorer: Scorer,
    *,
    point: OperatingPoint,
    batch_size: int,
    workers: int,
) -> Generator[Verdict | Failed, None, None]:
    """One result for each of `refs`, in their order.

    `workers` threads decode and prepare (Pillow lets go of the interpreter lock) while one more
    scores the batch before. At any time there are prepared squares of at most about three
    batches and `2 * workers` files, whatever the number of refs, which are drawn as needed.
    Closing the iterator drops what has not begun and does not wait for the rest.

    Raises ImgscanError if the scorer gives anything but a probability for each picture.
    """
    if batch_size < 1:
        raise ValueError("batch_size must be 1 or more")
    if workers < 1:
        raise ValueError("workers must be 1 or more")
    return _scan(iter(refs), scorer, point, batch_size, workers)


def _scan(
    refs: Iterator[ImageRef | Failed],
    scorer: Scorer,
    point: OperatingPoint,
    batch_size: int,
    workers: int,
) -> Generator[Verdict | Failed, None, None]:
    decoders = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    # A thread of its own, so that scoring a batch never stops the decoders being fed.
    scoring = ThreadPoolExecutor(1, thread_name_prefix="score")
    try:
        ahead = batch_size + 2 * workers
        files = _prepared(refs, scorer.bundle.spec, decoders, ahead)
        before: tuple[list[_File], Future[list[float]]] | None = None
        for batch in _batches(files, batch_size):
            scores = scoring.submit(_score, scorer, batch)
            if before is not None:
                yield from _judged(*before, point)
            before = batch, scores
        if before is not None:
            yield from _judged(*before, point)
    finally:
        decoders.shutdown(wait=False, cancel_futures=True)
        scoring.shutdown(wait=False, cancel_futures=True)


def _prepared(
    refs: Iterator[ImageRef | Failed],
    spec: PreprocessSpec,
    decoders: ThreadPoolExecutor,
    ahead: int,
) -> Iterator[_File]:
    """Every ref's file, in order, with up to `ahead` of them begun before they are asked for."""
    window: deque[Future[_File] | Failed] = deque()
    for ref in refs:
        window.append(ref if isinstance(ref, Failed) else decoders.submit(_prepare, ref, spec))
        if len(window) >= ahead:
            yield _done(window.popleft())
    while window:
        yield _done(window.popleft())


def _done(item: Future[_File] | Failed) -> _File:
    return item if isinstance(item, Failed) else item.result()


def _prepare(ref: ImageRef, spec: PreprocessSpec) -> _File:
    pixels = decode(ref, spec)
    if isinstance(pixels, Failed):
        return pixels
    try:
        return _Prepared(ref, prepare(pixels.rgb, spec, pixels.box), pixels.facts)
    except MemoryError:
        return Failed(ref, "too_large", "there is not enough memory to resize it", pixels.facts)


def _batches(files: Iterator[_File], batch_size: int) -> Iterator[list[_File]]:
    """Consecutive files, of which `batch_size` are pictures to score."""
    batch: list[_File] = []
    pictures = 0
    for file in files:
        batch.append(file)
        pictures += isinstance(file, _Prepared)
        # A long run of failures is passed on too: it must neither pile up nor wait.
        if pictures == batch_size or len(batch) == 4 * batch_size:
            yield batch
            batch, pictures = [], 0
    if batch:
        yield batch


def _score(scorer: Scorer, batch: list[_File]) -> list[float]:
    """P(fake) of each picture of the batch, in order."""
    views = [file.views for file in batch if isinstance(file, _Prepared)]
    if not views:
        return []
    try:
        scores = scorer.score(np.stack(views))
    except ImgscanError:
        raise
    # A scorer may be anything that runs a graph; onnxruntime's exceptions, for one, share no
    # base class. What the user can do about it is the same for all.
    except Exception as error:
        raise ImgscanError(
            f"the model failed on a batch of {len(views)}: {one_line(error)}; "
            "try a smaller --batch-size or --device cpu"
        ) from error
    if scores.shape != (len(views),) or not np.all((scores >= 0.0) & (scores <= 1.0)):
        raise ImgscanError(
            f"the model gave no probability in 0..1 for some of {len(views)} pictures; "
            "try --device cpu or another --model"
        )
    return [float(score) for score in scores]


def _judged(
    batch: list[_File], scores: Future[list[float]], point: OperatingPoint
) -> Iterator[Verdict | Failed]:
    p_fake = iter(scores.result())
    for file in batch:
        if isinstance(file, Failed):
            yield file
        else:
            yield judge(file.ref, file.facts, next(p_fake), point)
