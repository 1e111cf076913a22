"""Between the journal's rows and what the rest of the program calls results."""

from __future__ import annotations

from scanner.errors import UsageError
from scanner.journal import Journal, ScanInfo
from scanner.tui.items import Item
from scanner.types import Failed, Verdict
from scanner.verdict import OperatingPoint, judge


def result_of(item: Item, point: OperatingPoint) -> Verdict | Failed:
    """The item as what the scan gave, for a report."""
    if item.p_fake is None:
        return Failed(item.ref, item.reason or "unreadable", item.detail, item.facts)
    return judge(item.ref, item.facts, item.p_fake, point)


def listed_scans(journal: Journal) -> list[ScanInfo]:
    """The scans that can be looked at, the last one first. Raises UsageError if there is none."""
    found = [info for info in journal.scans() if info.listed]
    if not found:
        raise UsageError(
            f"{journal.path}: holds no scan to look at; give a folder: imgscan FOLDER --tui"
        )
    return found
