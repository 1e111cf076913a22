"""The scan: refs in, verdicts and failures out, in the same order. One core for every face."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from scanner.decoders import Decoders, Job
from scanner.errors import ImgscanError
from scanner.limits import Limits
from scanner.memory import Memory
from scanner.preprocess import PreprocessSpec, normalised
from scanner.text import one_line
from scanner.types import Failed, ImageRef, Scored, Verdict
from scanner.verdict import OperatingPoint, judge
from scanner.workers import Decode, Decoded, Setup, Squares, decode_file

# Files handed to a worker at once: what handing over costs is shared by them, and few enough
# that a handful of pictures keeps all workers busy to the end.
_CHUNK = 4
# Refs recalled from the memory at once, when all of them are known.
_RECALLED = 512


class HasSpec(Protocol):
    """The part of a bundle that says how pixels are prepared."""

    @property
    def spec(self) -> PreprocessSpec:
        """What `normalised()` and the workers need."""


class Scorer(Protocol):
    """What `scan()` needs of a model; `scanner.detector.Detector` is one."""

    @property
    def bundle(self) -> HasSpec:
        """Where the preprocessing comes from."""

    @property
    def streams(self) -> int:
        """How many threads may call `score()` at the same time, to use all of the device."""

    def score(self, batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """float32 [B, V, 3, S, S] -> P(fake), float64 [B], each in [0, 1]."""


_Result: TypeAlias = Scored | Failed


@dataclass(frozen=True, slots=True)
class _Known:
    """Results that need no work: remembered, or of what the walk could not list."""

    results: Sequence[_Result]


@dataclass(slots=True)
class _Batch:
    """Consecutive results, some of which wait for their score."""

    entries: list[_Known | Decoded] = field(default_factory=list)
    pictures: int = 0
    scores: Future[list[float]] | None = None


def scan(
    refs: Iterable[ImageRef | Failed],
    scorer: Scorer,
    *,
    point: OperatingPoint,
    batch_size: int,
    limits: Limits,
    memory: Memory | None = None,
    decode: Decode = decode_file,
) -> Generator[Verdict | Failed, None, None]:
    """One result for each of `refs`, in their order.

    What `memory` recalls is judged at once and no file of it opened. The rest is decoded in
    `limits.workers` processes while threads here normalise and score the batches before; a
    file that ends or outstays its process is a `Failed`. New results are kept in the memory
    before they are given. At any time there are squares of at most `streams + 2` batches and
    `16 * workers` files, whatever the number of refs, which are drawn as needed.
    `decode` runs in the workers, which import it by its name. Closing the iterator ends them.

    Raises ImgscanError if the scorer gives anything but a probability for each picture, or if
    no processes can be had.
    """
    if batch_size < 1:
        raise ValueError("batch_size must be 1 or more")
    contents = None if memory is None else memory.contents
    setup = Setup(scorer.bundle.spec, limits, contents, decode)
    return _scan(iter(refs), scorer, point, batch_size, setup, memory)


def _scan(
    refs: Iterator[ImageRef | Failed],
    scorer: Scorer,
    point: OperatingPoint,
    batch_size: int,
    setup: Setup,
    memory: Memory | None,
) -> Generator[Verdict | Failed, None, None]:
    workers = setup.limits.workers
    decoders = Decoders(setup)
    # Threads of their own, so that scoring a batch never stops the decoders being fed.
    scoring = ThreadPoolExecutor(scorer.streams, thread_name_prefix="score")
    waiting: deque[_Batch] = deque()
    try:
        files = _decoded(_pieces(refs, memory, workers), decoders, 4 * workers)
        for batch in _batches(files, batch_size):
            if batch.pictures:
                batch.scores = scoring.submit(_score, scorer, _squares(batch))
            waiting.append(batch)
            # One more than are being scored, so that no thread waits for the consumer.
            while waiting and (len(waiting) > scorer.streams + 1 or waiting[0].scores is None):
                yield from _judged(waiting.popleft(), memory, point)
        while waiting:
            yield from _judged(waiting.popleft(), memory, point)
    finally:
        scoring.shutdown(wait=False, cancel_futures=True)
        decoders.close()


def _pieces(
    refs: Iterator[ImageRef | Failed], memory: Memory | None, workers: int
) -> Iterator[_Known | list[ImageRef]]:
    """The refs in order: runs of results that are there already, and chunks to decode."""
    size, begun = _CHUNK, 0
    while True:
        # One by one at first, so that a few files are spread over all workers.
        chunk_size = 1 if begun < 2 * workers else _CHUNK
        drawn = _draw(refs, max(size, chunk_size) if memory else chunk_size)
        if not drawn:
            return
        run: list[_Result] = []
        chunk: list[ImageRef] = []
        before = begun
        for ref, result in zip(drawn, _recall(drawn, memory), strict=True):
            if result is None and isinstance(ref, ImageRef):
                if run:
                    yield _Known(run)
                    run = []
                begun += 1
                chunk.append(ref)
                if len(chunk) == chunk_size:
                    yield chunk
                    chunk = []
            elif result is not None:
                if chunk:
                    yield chunk
                    chunk = []
                run.append(result)
        if run:
            yield _Known(run)
        if chunk:
            yield chunk
        # Many at once only while nothing is to be decoded: new files are drawn no further
        # ahead than needed.
        size = _CHUNK if begun > before else min(2 * size, _RECALLED)


def _draw(refs: Iterator[ImageRef | Failed], count: int) -> list[ImageRef | Failed]:
    drawn = []
    for ref in refs:
        drawn.append(ref)
        if len(drawn) == count:
            break
    return drawn


def _recall(drawn: Sequence[ImageRef | Failed], memory: Memory | None) -> Sequence[_Result | None]:
    """What is known of each; a `Failed` of the walk's stands for itself."""
    if memory is None:
        return [ref if isinstance(ref, Failed) else None for ref in drawn]
    refs = [ref for ref in drawn if isinstance(ref, ImageRef)]
    recalled = memory.recall(refs)
    if len(refs) == len(drawn):
        return recalled
    found = iter(recalled)
    return [ref if isinstance(ref, Failed) else next(found) for ref in drawn]


def _decoded(
    pieces: Iterator[_Known | list[ImageRef]], decoders: Decoders, ahead: int
) -> Iterator[_Known | Decoded]:
    """Every piece, in order, with up to `ahead` chunks begun before they are asked for."""
    window: deque[_Known | Job] = deque()
    for piece in pieces:
        if not window and isinstance(piece, _Known):
            yield piece
            continue
        window.append(piece if isinstance(piece, _Known) else decoders.submit(piece))
        while len(window) >= ahead or (window and isinstance(window[0], _Known)):
            yield from _done(window.popleft(), decoders)
    while window:
        yield from _done(window.popleft(), decoders)


def _done(item: _Known | Job, decoders: Decoders) -> Iterator[_Known | Decoded]:
    if isinstance(item, _Known):
        yield item
    else:
        yield from decoders.result(item)


def _batches(files: Iterator[_Known | Decoded], batch_size: int) -> Iterator[_Batch]:
    """Consecutive results, of which `batch_size` are pictures to score."""
    batch = _Batch()
    for file in files:
        batch.entries.append(file)
        batch.pictures += isinstance(file, Squares)
        # What needs no score is passed on too: it must neither pile up nor wait for long.
        many = isinstance(file, _Known) and (not batch.pictures or len(file.results) >= 64)
        if many or batch.pictures == batch_size or len(batch.entries) == 4 * batch_size:
            yield batch
            batch = _Batch()
    if batch.entries:
        yield batch


def _squares(batch: _Batch) -> list[npt.NDArray[np.uint8]]:
    return [entry.squares for entry in batch.entries if isinstance(entry, Squares)]


def _score(scorer: Scorer, squares: list[npt.NDArray[np.uint8]]) -> list[float]:
    """P(fake) of each picture, in order."""
    spec = scorer.bundle.spec
    try:
        scores = scorer.score(np.stack([normalised(picture, spec) for picture in squares]))
    except ImgscanError:
        raise
    # A scorer may be anything that runs a graph; onnxruntime's exceptions, for one, share no
    # base class. What the user can do about it is the same for all.
    except Exception as error:
        raise ImgscanError(
            f"the model failed on a batch of {len(squares)}: {one_line(error)}; "
            "try a smaller --batch-size or --device cpu"
        ) from error
    if scores.shape != (len(squares),) or not np.all((scores >= 0.0) & (scores <= 1.0)):
        raise ImgscanError(
            f"the model gave no probability in 0..1 for some of {len(squares)} pictures; "
            "try --device cpu or another --model"
        )
    return [float(score) for score in scores]


def _judged(
    batch: _Batch, memory: Memory | None, point: OperatingPoint
) -> Iterator[Verdict | Failed]:
    """The batch's results, once what is new among them is in the memory."""
    p_fake = iter([] if batch.scores is None else batch.scores.result())
    results: list[_Result] = []
    new: list[_Result] = []
    for entry in batch.entries:
        if isinstance(entry, _Known):
            results.extend(entry.results)
            continue
        if isinstance(entry, Squares):
            entry = Scored(entry.ref, next(p_fake), entry.facts)
        results.append(entry)
        new.append(entry)
    if memory is not None and new:
        memory.keep(new)
    for result in results:
        if isinstance(result, Failed):
            yield result
        else:
            yield judge(result.ref, result.facts, result.p_fake, point)
