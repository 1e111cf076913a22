"""Items of an iterator that may be slow, drawn in a thread of its own."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

# What has come is given, though fewer than asked for, once the first of it has waited so long.
_PATIENCE_S = 0.05
_STOP_S = 0.5


class Ahead(Generic[T]):
    """Draws `items` in a thread, never more ahead than were last asked for.

    `wake` is called from the thread when there is something to take. The thread is a daemon:
    nothing ends one that waits for a pipe.
    """

    def __init__(self, items: Iterator[T], count: int, wake: Callable[[], None]) -> None:
        self._items = items
        self._wake = wake
        self._room = count
        self._drawn: deque[T] = deque()
        self._since = 0.0  # when the first of `_drawn` came
        self._ended = self._stopped = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._draw, name="list", daemon=True)
        self._thread.start()

    def take(self, count: int) -> list[T]:
        """Up to `count`, without waiting; fewer only of what has waited, or at the end.

        Raises what the iterator raised, once all before it is taken.
        """
        with self._changed:
            if count != self._room:
                self._room = count
                self._changed.notify()
            waited = time.monotonic() - self._since > _PATIENCE_S
            if not self._drawn or not (len(self._drawn) >= count or self._ended or waited):
                if self._error is not None and not self._drawn:
                    raise self._error
                return []
            taken = [self._drawn.popleft() for _ in range(min(count, len(self._drawn)))]
            self._since = time.monotonic()
            self._changed.notify()
            return taken

    @property
    def exhausted(self) -> bool:
        """Whether nothing is left to take, nor to raise."""
        return self._ended and not self._drawn and self._error is None

    def close(self) -> None:
        """Draw no more; waits for the item that is being drawn, half a second at most."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join(_STOP_S)

    def _draw(self) -> None:
        try:
            for item in self._items:
                with self._changed:
                    if not self._drawn:
                        self._since = time.monotonic()
                    self._drawn.append(item)
                    full = len(self._drawn) >= self._room
                if full:
                    self._wake()
                with self._changed:
                    self._changed.wait_for(lambda: self._stopped or len(self._drawn) < self._room)
                    if self._stopped:
                        break
        # Handed on to whoever takes, in whose thread it is dealt with.
        except BaseException as error:  # noqa: BLE001
            self._error = error
        finally:
            self._ended = True
            self._wake()
