"""Which of the journal's scans to look at, the newest first."""

from __future__ import annotations

from collections.abc import Sequence

from scanner.journal import ScanInfo
from scanner.tui.past import in_words
from scanner.tui.screens.choose import ChooseScreen

_SCANS = "Scans in this journal"


class ScansScreen(ChooseScreen):
    """A choice of scans; `reviewed` says of each how many of its files have a decision."""

    def __init__(self, scans: Sequence[ScanInfo], reviewed: Sequence[int], leaves: bool) -> None:
        lines = [in_words(info, count) for info, count in zip(scans, reviewed, strict=True)]
        hint = f"Enter opens · Esc {'quits' if leaves else 'goes back'}"
        super().__init__(_SCANS, lines, hint)
