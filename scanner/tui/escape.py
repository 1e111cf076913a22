"""Esc is answered as soon as other keys are: Textual looks for its time-out ten times a second."""

from __future__ import annotations

import selectors
import sys
from types import SimpleNamespace

from textual import constants

_READ = list[tuple[selectors.SelectorKey, int]]


class PromptSelector(selectors.SelectSelector):
    """After input it comes back once the time for more of the same key is over."""

    _waits_for_more = False

    def select(self, timeout: float | None = None) -> _READ:
        """As its parent's, with a shorter `timeout` (seconds) where a key may be half there."""
        if self._waits_for_more and timeout is not None:
            timeout = min(timeout, constants.ESCAPE_DELAY + 0.002)
        found = super().select(timeout)
        self._waits_for_more = bool(found)
        return found


def answer_escape_at_once() -> None:
    """Textual's driver for POSIX terminals takes its selector from here, from now on."""
    if sys.platform == "win32":
        return
    from textual.drivers import linux_driver

    prompt = SimpleNamespace(SelectSelector=PromptSelector, EVENT_READ=selectors.EVENT_READ)
    setattr(linux_driver, "selectors", prompt)  # noqa: B010 - to mypy a module is no variable
