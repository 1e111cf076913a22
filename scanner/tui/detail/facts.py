"""What is known of a file, in words. Every text that comes from outside is made safe here."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
from rich.table import Column, Table
from rich.text import Text

from scanner.domain import no_score
from scanner.text import printable
from scanner.tui.items import Item
from scanner.types import FileFacts, Note, Reason

REMEDY: dict[Reason, str] = {
    "permission": "allow this user to read it, then scan it again",
    "vanished": "it was moved, renamed or deleted; scan where it is now",
    "not_an_image": "open it in the program that made it; if it is a picture, save it as PNG",
    "empty": "copy it again from where it came from",
    "truncated": "copy or download it again",
    "too_large": "save it at a smaller size, or allow more",
    "too_small": "look for a larger version: the model cannot judge this one",
    "unsupported": "save it as PNG or JPEG and scan that",
    "unreadable": "copy it again; if a viewer opens it, save it as PNG and scan that",
    "changed": "scan it again once nothing writes to it",
    "timeout": "scan it again when the machine or the disk is less busy",
    "crashed": "treat it with care: it ended the program that decoded it",
}
NOTES: dict[Note, str] = {
    "truncated": "the file ends early; judged by the part that is there",
    "extension_mismatch": "the name says another format than the content",
    "embedded_preview": "camera raw; judged by the JPEG that the camera put inside",
    "small": "too small to be sure of anything",
    "elongated": "so long that the model sees less than a quarter of it",
    "near_uniform": "nearly uniform, or a page of text: little to judge",
}


def failure_text(reason: Reason, detail: str) -> Text:
    """Why there is no score or no picture, and what to do."""
    text = Text()
    text.append(f"{reason}: ", "bold")
    text.append(printable(detail) + "\n")
    return text.append(f"{REMEDY[reason]}\n", "italic")


def facts_text(
    item: Item, exif: Sequence[tuple[str, str]] = (), now: FileFacts | None = None
) -> Table:
    """Labelled lines: the file, its EXIF, what a person said of it.

    `now` is what the file is as it was last opened, to say what has changed since the scan.
    """
    facts = item.facts
    rows: list[tuple[str, str]] = [("file", item.ref.name)]
    if facts.width and facts.height:
        size = f"{facts.width} x {facts.height}, {facts.width * facts.height / 1e6:.1f} MP"
        rows.append(("picture", f"{size}, {facts.format or 'unknown format'}"))
    elif facts.format:
        rows.append(("format", facts.format))
    if facts.bytes is not None:
        rows.append(("bytes", f"{facts.bytes:,}"))
    if facts.mtime_ns is not None:
        rows.append(("changed", _moment(facts.mtime_ns)))
    # Of a file with a score, those that take its worth away stand in the score's place.
    above = no_score(facts, item.verdict)
    rows += [("note", NOTES[note]) for note in facts.notes if note not in above]
    if now is not None and _differ(facts, now):
        rows.append(("attention", "the file has changed since it was scanned; scan it again"))
    rows += exif
    rows.append(("model", item.model))
    if facts.sha256:
        rows.append(("sha256", facts.sha256))
    said: list[tuple[str, str]] = []
    if item.review is not None:
        said.append(("review", f"{item.review}{f' by {item.reviewer}' if item.reviewer else ''}"))
    if item.tags:
        said.append(("tags", ", ".join(item.tags)))
    if item.note:
        said.append(("remark", item.note))
    table = Table.grid(Column(no_wrap=True), Column(overflow="fold"), padding=(0, 2, 0, 0))
    for label, value in said:
        table.add_row(Text(label, "dim"), Text(printable(value), "bold"))
    for label, value in rows:
        style = "bold" if label == "attention" else ""
        table.add_row(Text(label, "dim"), Text(printable(value), style))
    return table


def heat_in_words(heat: npt.NDArray[np.float32]) -> str:
    """Where a map [V, S, S] is strongest, for terminals that show no pictures."""
    found = []
    for sign, side in ((1, "fake"), (-1, "real")):
        strength = heat * sign
        view, row, column = np.unravel_index(int(strength.argmax()), heat.shape)
        change = float(heat[view, row, column])
        if change * sign > 0.005:
            place = _place(int(row), int(column), heat.shape[1])
            found.append(f"most towards {side}: {place} ({change:+.2f})")
    return "; ".join(found) or "no part moves the score by itself"


def _place(row: int, column: int, size: int) -> str:
    vertical = ("top", "middle", "bottom")[min(2, row * 3 // size)]
    horizontal = ("left", "centre", "right")[min(2, column * 3 // size)]
    return (
        "centre" if (vertical, horizontal) == ("middle", "centre") else f"{vertical} {horizontal}"
    )


def _differ(scanned: FileFacts, now: FileFacts) -> bool:
    if scanned.sha256 and now.sha256:
        return scanned.sha256 != now.sha256
    if scanned.bytes is None:  # the scan did not get as far as to know
        return False
    return (scanned.bytes, scanned.mtime_ns) != (now.bytes, now.mtime_ns)


def _moment(mtime_ns: int) -> str:
    try:
        return datetime.fromtimestamp(mtime_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):  # a year that no calendar here knows
        return f"{mtime_ns / 1e9:.0f} s since 1970"
