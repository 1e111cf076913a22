"""The scan: refs in, verdicts and failures out, in the same order. One core for every face."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from scanner.ahead import Ahead
from scanner.decoders import Decoders
from scanner.domain import limited
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
# A batch that is not full waits no longer for more pictures, which may never come.
_BATCH_WAIT_S = 0.5
# In short turns: Windows delivers no Ctrl-C to a thread that waits.
_TICK_S = 0.05


class HasSpec(Protocol):
    """The part of a bundle that says how pixels are prepared, and where it withholds a verdict."""

    @property
    def spec(self) -> PreprocessSpec:
        """What `normalised()` and the workers need."""

    @property
    def unsure(self) -> tuple[float, float] | None:
        """A stretch of P(fake), or None; see `scanner.domain.limited`."""


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


@dataclass(slots=True, eq=False)
class _Batch:
    """Results by their place in the scan, some of which wait for their score."""

    entries: list[tuple[int, Decoded]] = field(default_factory=list)
    pictures: int = 0
    begun: float = 0.0
    scores: Future[list[float]] | None = None

    @property
    def done(self) -> bool:
        """Whether every score is there."""
        return self.scores is None or (
            self.scores.done() and not self.scores.cancelled() and self.scores.exception() is None
        )

    def results(self, unsure: tuple[float, float] | None) -> list[tuple[int, _Result]]:
        """With their scores, limited for what is out of the domain; raises what the scorer did."""
        p_fake = iter([] if self.scores is None else self.scores.result())
        return [
            (place, Scored(entry.ref, limited(next(p_fake), entry.facts, unsure), entry.facts))
            if isinstance(entry, Squares)
            else (place, entry)
            for place, entry in self.entries
        ]


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
    `limits.workers` processes while threads here normalise and score what is decoded; a file
    that ends or outstays its process is a `Failed`. New results are kept in the memory as soon
    as they are there, whatever is still under way before them, and given in their turn; those
    that are there when the iterator is closed are kept too. `refs` are drawn in a thread, as
    needed, and may be slow to come. New files under way, from drawn to given, are at most
    `batch_size * (streams + 2) + 16 * workers`, whatever the number of refs.
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
    engine = _Engine(refs, scorer, batch_size, setup, memory)
    try:
        while True:
            for result in engine.given():
                if isinstance(result, Failed):
                    yield result
                else:
                    yield judge(result.ref, result.facts, result.p_fake, point)
            if not engine.advance():
                return
    finally:
        engine.close()


class _Engine:
    """What is under way of a scan. `advance()` moves it on, `given()` has what came of it."""

    def __init__(
        self,
        refs: Iterator[ImageRef | Failed],
        scorer: Scorer,
        batch_size: int,
        setup: Setup,
        memory: Memory | None,
    ) -> None:
        self._scorer = scorer
        self._batch_size = batch_size
        self._workers = setup.limits.workers
        self._memory = memory
        self._news = threading.Event()
        self._refs = Ahead(refs, _CHUNK, self._news.set)
        self._decoders = Decoders(setup, self._news.set)
        # Threads of their own, so that scoring a batch never stops the decoders being fed.
        self._scoring = ThreadPoolExecutor(scorer.streams, thread_name_prefix="score")
        # With what the thread that draws may have in hand.
        self._most = batch_size * (scorer.streams + 2) + 16 * self._workers - _CHUNK
        self._size = _CHUNK  # refs to draw at once
        self._place = self._next = 0  # of the next ref to come, and of the next result to give
        self._begun = 0
        self._new: deque[tuple[int, ImageRef]] = deque()  # not known, and not yet handed over
        self._batch = _Batch()
        self._scored: list[_Batch] = []  # handed to `_scoring`, or without pictures
        self._ready: dict[int, _Result] = {}
        self._error: Exception | None = None

    def given(self) -> Iterator[_Result]:
        """The results whose turn it is."""
        while self._next in self._ready:
            result = self._ready.pop(self._next)
            self._next += 1
            yield result

    def advance(self) -> bool:
        """Move everything on, waiting until there is something to move; whether more will come."""
        if self._error is not None:
            raise self._error
        self._news.clear()
        drawn = self._draw()
        for place, entry in self._decoders.take():
            self._add(place, entry)
        self._send_batch()
        self._collect()
        if self._next in self._ready or drawn or self._error is not None:
            return True
        if self._refs.exhausted and self._next == self._place:
            return False
        self._news.wait(_TICK_S)
        return True

    def close(self) -> None:
        """End all of it; what is scored is kept."""
        self._scoring.shutdown(wait=False, cancel_futures=True)
        try:
            failed = [one for one in self._batch.entries if not isinstance(one[1], Squares)]
            self._scored.append(_Batch(failed))
            self._keep([batch for batch in self._scored if batch.done])
        finally:
            self._decoders.close()
            self._refs.close()

    def _draw(self) -> bool:
        """Take refs, tell the known from the new, and keep the decoders fed."""
        under_way = self._place - self._next
        room = self._most - under_way
        drawn: list[ImageRef | Failed] = []
        if room >= _CHUNK or under_way == 0:
            drawn = self._refs.take(min(self._size, room) if under_way else self._size)
        new = 0
        for ref, result in zip(drawn, _recall(drawn, self._memory), strict=True):
            if result is not None:
                self._ready[self._place] = result
            elif isinstance(ref, ImageRef):
                self._new.append((self._place, ref))
                new += 1
            self._place += 1
        if drawn:
            # Many at once only while nothing is to be decoded: new files are drawn no further
            # ahead than needed.
            self._size = _CHUNK if new or not self._memory else min(2 * self._size, _RECALLED)
        while self._new:
            # One by one at first, so that a few files are spread over all workers.
            count = 1 if self._begun < 2 * self._workers else _CHUNK
            if len(self._new) < count and drawn and self._decoders.jobs >= self._workers:
                break  # the rest of a chunk is about to come
            files = [self._new.popleft() for _ in range(min(count, len(self._new)))]
            self._begun += len(files)
            self._decoders.submit(files)
        return bool(drawn)

    def _add(self, place: int, entry: Decoded) -> None:
        if not self._batch.entries:
            self._batch.begun = time.monotonic()
        self._batch.entries.append((place, entry))
        self._batch.pictures += isinstance(entry, Squares)
        if self._batch.pictures == self._batch_size:
            self._send_batch(full=True)

    def _send_batch(self, *, full: bool = False) -> None:
        """Have the open batch scored, once it is full, or has waited, or nothing is to come."""
        batch = self._batch
        if not batch.entries:
            return
        last = self._refs.exhausted and not self._new and not self._decoders.jobs
        waited = time.monotonic() - batch.begun > _BATCH_WAIT_S
        # What needs no score is passed on too: it must neither pile up nor wait for long.
        if full or last or waited or len(batch.entries) >= 4 * self._batch_size:
            self._batch = _Batch()
            if batch.pictures:
                squares = [
                    entry.squares for _, entry in batch.entries if isinstance(entry, Squares)
                ]
                batch.scores = self._scoring.submit(_score, self._scorer, squares)
                batch.scores.add_done_callback(lambda _: self._news.set())
            self._scored.append(batch)

    def _collect(self) -> None:
        """Keep what is scored, and let it be given."""
        for batch in self._scored:
            if batch.scores is not None and batch.scores.done() and not batch.done:
                self._error = self._error or _as_error(batch.scores.exception())
        self._keep([batch for batch in self._scored if batch.done])

    def _keep(self, batches: list[_Batch]) -> None:
        results = sorted(
            (one for batch in batches for one in batch.results(self._scorer.bundle.unsure)),
            key=lambda one: one[0],
        )
        if self._memory is not None and results:
            try:
                self._memory.keep([result for _, result in results])
            # Interrupted, it is tried again as the scan ends; what failed is not.
            except Exception:
                self._memory = None
                raise
        self._scored = [batch for batch in self._scored if batch not in batches]
        self._ready.update(results)


def _as_error(error: BaseException | None) -> Exception:
    return error if isinstance(error, Exception) else ImgscanError("the model gave no answer")


def _recall(drawn: Sequence[ImageRef | Failed], memory: Memory | None) -> Sequence[_Result | None]:
    """What is known of each; a `Failed` of the walk's stands for itself."""
    if memory is None or not drawn:
        return [ref if isinstance(ref, Failed) else None for ref in drawn]
    refs = [ref for ref in drawn if isinstance(ref, ImageRef)]
    recalled = memory.recall(refs)
    if len(refs) == len(drawn):
        return recalled
    found = iter(recalled)
    return [ref if isinstance(ref, Failed) else next(found) for ref in drawn]


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
