"""The detail panel of the triage screen: `DetailPanel.show(item)`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scanner.tui.detail.panel import DetailPanel

__all__ = ["DetailPanel"]


def __getattr__(name: str) -> object:
    # Not before it is asked for: the processes that decode import `worker` out of this package,
    # and importing the panel asks the terminal what it can show. The answer would be taken for
    # keys by the screen that is on that terminal.
    if name == "DetailPanel":
        from scanner.tui.detail.panel import DetailPanel

        return DetailPanel
    raise AttributeError(name)
