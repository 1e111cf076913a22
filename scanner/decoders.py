"""The worker processes as the scan sees them: work handed over, guilty files told from innocent."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing.context import BaseContext
from pathlib import Path

from pebble import ProcessExpired, ProcessPool

from scanner import workers
from scanner.errors import ImgscanError
from scanner.limits import large_at_a_time
from scanner.text import one_line
from scanner.types import Failed, ImageRef, Reason
from scanner.workers import RECYCLED, Decoded, Setup

# Of a chunk, no file is begun after this: so the last has its whole time too, and one that
# hangs is noticed after its own time and not after that of all.
_BEGIN_S = 2.0
# Room for what is not decoding: a start of the workers on a slow disk, a stop.
_GRACE_S = 60.0
_STOP_S = 1.5
_MOST_BREAKS = 3


def start_ahead() -> None:
    """Begin to load, in a process of its own, what the workers are forked from.

    That takes as long as loading the model does, and can go on beside it. Does nothing where
    workers are spawned.
    """
    if _start_method() != "forkserver":
        return
    from multiprocessing import forkserver, resource_tracker

    multiprocessing.get_context("forkserver").set_forkserver_preload([workers.__name__])
    with _quiet_children():
        # First, and by itself: it unblocks SIGINT once it has started its process.
        resource_tracker.ensure_running()
        # Ctrl-C goes to every process of the terminal, and Python ignores it only once it is up.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


@contextmanager
def _quiet_children() -> Iterator[None]:
    """What is started meanwhile has no stderr.

    A worker that is still starting when a short scan is over finds its locks gone and would
    print a traceback of that.
    """
    sys.stderr.flush()
    stderr, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(null)


def _start_method() -> str:
    # Never a plain fork: onnxruntime has threads here, which a fork would leave half there. On
    # macOS the frameworks under numpy do not survive a fork either, not even the server's.
    if sys.platform != "darwin" and "forkserver" in multiprocessing.get_all_start_methods():
        return "forkserver"
    return "spawn"


class _Job:
    """Files under way, each with its place in the scan; `alone`: one that is tried again."""

    def __init__(self, files: Sequence[tuple[int, ImageRef]], *, alone: bool = False) -> None:
        self.files = files
        self.alone = alone
        self.future: Future[list[Decoded]] | None = None


class Decoders:
    """A pool of worker processes in which a file can hurt nobody but itself.

    A chunk that fails, because a worker died or its time was up, is tried again file by file;
    a file that fails alone is a `Failed`. Processes start with the first job. Not thread-safe;
    `wake` is called from another thread when there may be something to take.
    """

    def __init__(self, setup: Setup, wake: Callable[[], None] = lambda: None) -> None:
        self._setup, self._turns = _with_turns(setup)
        self._wake = wake
        self._timeout_s = setup.limits.timeout_s
        self._begin_s = min(_BEGIN_S, self._timeout_s)
        self._pool: ProcessPool | None = None
        self._open: list[_Job] = []  # handed over and not settled
        self._done: list[tuple[int, Decoded]] = []
        self._breaks = 0  # of the pool, without a result in between
        self._asked_at = time.monotonic()
        self._waited_s = 0.0  # without a result

    @property
    def jobs(self) -> int:
        """How many are under way."""
        return len(self._open)

    def submit(self, files: Sequence[tuple[int, ImageRef]]) -> None:
        """Begin to decode these, each with its place in the scan, when a worker is free."""
        self._send(_Job(files))

    def take(self) -> list[tuple[int, Decoded]]:
        """What has ended since the last call, each with its place, in any order; never waits.

        To be called every second or more often while something is under way. Raises
        ImgscanError if worker processes cannot be started or do not answer.
        """
        # Only what was spent waiting counts, not what the caller did with the results before.
        now = time.monotonic()
        self._waited_s += min(now - self._asked_at, 1.0) if self._open else 0.0
        self._asked_at = now
        self._settle_done()
        if self._waited_s > self._begin_s + self._timeout_s + _GRACE_S:
            self._stalled()
        done, self._done = self._done, []
        return done

    def close(self) -> None:
        """End the workers, whatever they are at; waits no longer than 1.5 seconds."""
        self._open.clear()
        self._stop()
        if self._turns is not None:
            self._turns.unlink(missing_ok=True)

    def _send(self, job: _Job) -> None:
        while True:
            if self._pool is None:
                self._pool = self._new_pool()
            limit = self._timeout_s if job.alone else self._begin_s + self._timeout_s
            try:
                job.future = self._pool.schedule(
                    workers.work, args=([ref for _, ref in job.files], self._begin_s), timeout=limit
                )
            except RuntimeError:  # the pool has broken since
                self._rebuild()
                continue
            self._open.append(job)
            job.future.add_done_callback(lambda _: self._wake())
            return

    def _new_pool(self) -> ProcessPool:
        start_ahead()
        context: BaseContext = multiprocessing.get_context(_start_method())
        return ProcessPool(
            self._setup.limits.workers,
            initializer=workers.start,
            initargs=(self._setup,),
            context=context,
        )

    def _settle_done(self) -> None:
        """Take in every job that has ended, so that second tries begin at once."""
        broken = False
        for job in list(self._open):
            # Taking in one may break the pool, and with it what is under way for the others.
            if job not in self._open or job.future is None or not job.future.done():
                continue
            error = job.future.exception()
            if isinstance(error, BrokenProcessPool):
                broken = True  # nothing is known of this job; it stays open
                continue
            self._waited_s = 0.0
            self._open.remove(job)
            if error is None:
                self._breaks = 0
                self._take(job, job.future.result())
            elif isinstance(error, ProcessExpired) and error.exitcode == RECYCLED:
                self._send(job)
            else:
                self._failed(job, error)
        if broken or (self._pool is not None and not self._pool.active):
            self._rebuild()

    def _take(self, job: _Job, done: list[Decoded]) -> None:
        self._done += [(place, one) for (place, _), one in zip(job.files, done, strict=False)]
        rest = job.files[len(done) :]
        if rest:
            self._send(_Job(rest))

    def _failed(self, job: _Job, error: BaseException) -> None:
        if job.alone:
            reason, detail = _explain(error, self._timeout_s)
            self._done += [(place, Failed(ref, reason, detail)) for place, ref in job.files]
            return
        for file in job.files:
            self._send(_Job([file], alone=True))

    def _stalled(self) -> None:
        """No job has ended in longer than any may take: a worker that not even a kill ends.

        So it is with a disk that does not answer. What was running is taken to have timed out.
        """
        running = [job for job in self._open if job.future is not None and job.future.running()]
        self._open = [job for job in self._open if job not in running]
        self._rebuild()
        for job in running:
            self._failed(job, TimeoutError())
        self._waited_s = 0.0

    def _rebuild(self) -> None:
        """Go on with new processes, and hand them what is open."""
        self._breaks += 1
        self._stop()
        if self._breaks > _MOST_BREAKS:
            raise ImgscanError(
                f"the processes that decode ended or stalled {self._breaks} times in a row "
                "without a result; try fewer --workers or a higher --memory-limit"
            )
        jobs, self._open = self._open, []
        for job in jobs:
            future = job.future
            if (
                future is not None
                and future.done()
                and not isinstance(future.exception(), BrokenProcessPool)
            ):
                self._open.append(job)  # to be settled as it is
            else:
                self._send(job)

    def _stop(self) -> None:
        pool, self._pool = self._pool, None
        if pool is None:
            return
        pool.stop()  # type: ignore[no-untyped-call]
        # A worker that waits for a dead disk cannot be killed, and pebble would wait for it.
        joining = threading.Thread(target=_join, args=(pool,), name="stop workers", daemon=True)
        joining.start()
        joining.join(_STOP_S)


def _with_turns(setup: Setup) -> tuple[Setup, Path | None]:
    """With a new file for turns over large pictures, if not all may decode one at a time."""
    slots = large_at_a_time(setup.limits)
    if slots >= setup.limits.workers:
        return setup, None
    try:
        fd, name = tempfile.mkstemp(prefix="imgscan-turns-")
    except OSError:  # no temporary folder: each has its own limit all the same
        return setup, None
    os.close(fd)
    return replace(setup, turns=Path(name), slots=slots), Path(name)


def _join(pool: ProcessPool) -> None:
    with suppress(RuntimeError, OSError):  # nobody is left to be told
        pool.join()


def _explain(error: BaseException, timeout_s: float) -> tuple[Reason, str]:
    if isinstance(error, TimeoutError):
        return "timeout", f"it was not decoded within {timeout_s:g} s; --timeout allows more"
    if isinstance(error, ProcessExpired):
        return "crashed", f"its decoding ended the process: {_cause(error.exitcode)}"
    return "crashed", f"its decoding failed: {type(error).__name__}: {one_line(error)}"


def _cause(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    if name == "SIGKILL":  # as a rule by the system; the user may have, too
        return "SIGKILL, as when the system runs out of memory; try fewer --workers"
    return name
