"""Work for one background thread, where what is wanted now displaces what was wanted before."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

Errand = Callable[[], None]


class Errands:
    """A thread that runs errands in order; it starts with the first and ends with `close()`.

    An errand answers for its own failures: it must not raise.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._changed = threading.Condition()
        self._waiting: list[Errand] = []
        self._thread: threading.Thread | None = None
        self._closed = False

    def replace(self, errands: Sequence[Errand]) -> None:
        """Run these next; of the earlier ones only the one under way is finished."""
        with self._changed:
            if self._closed:
                return
            self._waiting = list(errands)
            if self._thread is None and errands:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self._changed.notify()

    def close(self) -> None:
        """Begin no further errand; does not wait for the one under way."""
        with self._changed:
            self._closed = True
            self._waiting = []
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                errand = self._waiting.pop(0)
            errand()
