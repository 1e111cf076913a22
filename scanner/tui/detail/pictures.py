"""Pictures for the panel: decoded in other processes, ahead of time, and kept for a while."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from pebble import ProcessExpired, ProcessPool

from scanner.limits import DEFAULT_TIMEOUT_S
from scanner.preprocess import PreprocessSpec
from scanner.tui.detail import worker
from scanner.tui.detail.errands import Errands
from scanner.tui.detail.processes import process_context
from scanner.tui.detail.worker import Crop, Loaded
from scanner.types import Failed, ImageRef

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")
# Each takes up to 5 MB.
_KEPT = 24


class Runner(Protocol):
    """Where a function of `worker` runs."""

    def __call__(self, ref: ImageRef, function: Callable[..., Any], *args: Any) -> Any:
        """`function(ref, *args)`, or `Failed` whatever it does."""

    def close(self) -> None:
        """End what is under way."""


class Recent(Generic[K, T]):
    """The `capacity` entries used last; for threads."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._entries: OrderedDict[K, T] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: K) -> T | None:
        """The entry, which counts as used; None if there is none."""
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
            return self._entries.get(key)

    def put(self, key: K, value: T) -> None:
        """Keep `value`; what was used longest ago makes room."""
        with self._lock:
            self._entries[key] = value
            self._entries.move_to_end(key)
            while len(self._entries) > self._capacity:
                self._entries.popitem(last=False)


class Isolated:
    """One worker process, started with the first call and anew after each that ends it."""

    def __init__(self, spec: PreprocessSpec, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        self._spec, self._timeout_s = spec, timeout_s
        self._context: Any = process_context()
        self._pool: ProcessPool | None = None
        self._closed = False

    def __call__(self, ref: ImageRef, function: Callable[..., Any], *args: Any) -> Any:
        """`function(ref, *args)` there; a crash or a hang is a `Failed` and hurts nobody else."""
        try:
            if self._pool is None or not self._pool.active:
                self._pool = ProcessPool(
                    1, initializer=worker.start, initargs=(self._spec,), context=self._context
                )
            future = self._pool.schedule(function, args=(ref, *args), timeout=self._timeout_s)
            return future.result()
        except TimeoutError:
            return Failed(ref, "timeout", f"it was not decoded within {self._timeout_s:g} s")
        except MemoryError:
            return Failed(ref, "too_large", "there is not enough memory to decode it")
        # Whatever the process raises, ends with or cannot be started for.
        except Exception as error:  # noqa: BLE001
            if not self._closed:
                self.close()
                self._closed = False
            return Failed(ref, "crashed", f"its decoding ended the process: {_cause(error)}")

    def close(self) -> None:
        """End the process, whatever it is at; waits for nothing."""
        self._closed = True
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.stop()  # type: ignore[no-untyped-call]
            threading.Thread(target=_join, args=(pool,), daemon=True).start()


class Pictures:
    """Previews and crops, answered in the threads that `ready` and `cropped` are called in."""

    def __init__(
        self,
        spec: PreprocessSpec,
        *,
        ready: Callable[[ImageRef, Loaded | Failed], None],
        cropped: Callable[[ImageRef, Crop | Failed], None],
        runner: Callable[[PreprocessSpec], Runner] = Isolated,
    ) -> None:
        self._spec = spec
        self._ready, self._cropped = ready, cropped
        self._recent: Recent[ImageRef, Loaded | Failed] = Recent(_KEPT)
        self._previews, self._crops = runner(spec), runner(spec)
        self._preview_errands = Errands("previews")
        self._crop_errands = Errands("crops")

    def get(self, ref: ImageRef) -> Loaded | Failed | None:
        """What is at hand at once."""
        return self._recent.get(ref)

    def want(self, refs: Sequence[ImageRef]) -> None:
        """Decode these, the first first, instead of what was wanted before."""
        missing = [ref for ref in refs if self._recent.get(ref) is None]
        self._preview_errands.replace([partial(self._load, ref) for ref in missing])

    def want_crop(
        self,
        ref: ImageRef,
        centre: tuple[float, float],
        width: int,
        height: int,
        room: tuple[int, int],
    ) -> None:
        """See `worker.crop`."""
        self._crop_errands.replace([partial(self._crop, ref, centre, width, height, room)])

    def close(self) -> None:
        """End the processes and threads."""
        for errands in (self._preview_errands, self._crop_errands):
            errands.close()
        for runner in (self._previews, self._crops):
            runner.close()

    def _load(self, ref: ImageRef) -> None:
        if self._recent.get(ref) is not None:
            return
        result = self._previews(ref, worker.load, self._spec)
        self._recent.put(ref, result)
        self._ready(ref, result)

    def _crop(self, ref: ImageRef, *part: Any) -> None:
        self._cropped(ref, self._crops(ref, worker.crop, *part))


def _join(pool: ProcessPool) -> None:
    with suppress(RuntimeError, OSError):  # nobody is left to be told
        pool.join()


def _cause(error: BaseException) -> str:
    if isinstance(error, ProcessExpired):
        return f"exit status {error.exitcode}"
    return str(error) or type(error).__name__
