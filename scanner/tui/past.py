"""The scans of a journal, for people to choose from."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from scanner.journal import Journal, ScanInfo
from scanner.text import counted, printable


def reviewed_in(journal: Journal, scans: Sequence[ScanInfo]) -> list[int]:
    """How many files of each scan have a decision."""
    return [journal.pages.count_reviewed(info.id) for info in scans]


def in_words(info: ScanInfo, reviewed: int) -> str:
    """Two lines: when and of what; and what was found and done."""
    roots = ", ".join(printable(str(root)) for root in info.roots) or "a list of files"
    # As people here read times; the journal has UTC.
    started = datetime.fromisoformat(info.started).astimezone()
    broke_off = "" if info.finished else ", broke off"
    return (
        f"{started:%Y-%m-%d %H:%M}  {roots}\n"
        f"    {counted(info.files, 'file')}, {info.suspects:,} suspect, {info.failed:,} failed, "
        f"{reviewed:,} reviewed{broke_off} · {printable(info.model_name)}"
    )
