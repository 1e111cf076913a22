"""Ctrl-C and a polite kill: never in the middle of a row, and treated alike."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any


class Interrupts:
    """While entered, SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt, once, outside `held()`.

    After that one they are ignored until this is left, so that an impatient second Ctrl-C does
    not stop the rows so far from being saved. Only for the main thread.
    """

    def __init__(self) -> None:
        self._holds = 0
        self._pending = False
        self._raised = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # Windows has no SIGHUP
            number = getattr(signal, name, None)
            # Ignored by whoever started this (nohup, a background job): it stays so.
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def held(self) -> Iterator[None]:
        """A stretch that is finished first."""
        self._holds += 1
        try:
            yield
        finally:
            self._holds -= 1
            if self._pending and not self._holds:
                self._interrupt()

    def no_more(self) -> None:
        """From here on, ignore them: only closing and saving is left to do."""
        self._raised = True

    @contextmanager
    def ending(self) -> Iterator[None]:
        """A stretch, after `no_more()`, that one of them ends early, and nothing besides."""
        try:
            self._raised = False
            yield
        except KeyboardInterrupt:
            pass  # that is what it was for
        finally:
            self._raised = True

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._pending = True
        if not self._holds:
            self._interrupt()

    def _interrupt(self) -> None:
        self._pending = False
        if not self._raised:
            self._raised = True
            raise KeyboardInterrupt
