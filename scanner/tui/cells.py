"""A table's columns and cells: who gets how much room, and what is cut from a text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich.cells import cell_len, set_cell_size

Align = Literal["left", "right"]


@dataclass(frozen=True, slots=True)
class Column:
    """`width` in cells; with `grow`, that is the least, and the share of what is left over.

    `most` (0: none) is the most that a column which grows takes; others get the rest.
    `keep_end`: of a text that is too long the end is shown; `keep_extension`: a file's name is cut
    in its middle. `drop` (0: never): where there is no room for all, the columns with the least go
    first. `key` is what a click asks to sort by.
    """

    title: str
    width: int
    grow: int = 0
    align: Align = "left"
    most: int = 0
    keep_end: bool = False
    keep_extension: bool = False
    drop: int = 0
    key: str = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """A text, already safe to show, and the component class of its colour ("": none)."""

    text: str
    kind: str = ""


def widths(columns: Sequence[Column], width: int) -> list[int]:
    """Cells for each of the columns of a table that is so wide, without the blanks after them; 0
    for one that is left out.

    Those that grow share what the others leave, by `grow`.
    """
    kept = list(columns)
    for column in sorted((each for each in columns if each.drop), key=lambda each: each.drop):
        if sum(each.width + 1 for each in kept) <= width:
            break
        kept.remove(column)
    room = dict(zip(kept, _shared(kept, width), strict=True))
    return [room.get(column, 0) for column in columns]


def _shared(columns: Sequence[Column], width: int) -> list[int]:
    growing = [column for column in columns if column.grow]
    left = width - len(columns) - sum(column.width for column in columns if not column.grow)
    left = max(0, left)
    room: dict[Column, int] = {}
    # Those with a limit first: what they may not take is for the others.
    for column in sorted(growing, key=lambda column: column.most or width):
        shares = sum(each.grow for each in growing if each not in room)
        share = max(column.width, left * column.grow // shares)
        room[column] = min(share, left, column.most or left)
        left -= room[column]
    return [room.get(column, column.width) for column in columns]


def fit(text: str, width: int, column: Column) -> str:
    """`text` in exactly `width` cells, with an ellipsis where something is missing."""
    length = cell_len(text)
    if length <= width:
        gap = " " * (width - length)
        return gap + text if column.align == "right" else text + gap
    if width <= 1:
        return "…"[:width]
    if column.keep_end:
        return _left(text, 0, width)
    if column.keep_extension and width >= 8:
        # The extension and what stands before it: numbers often do.
        dot = text.rfind(".")
        end = len(text) - dot + 3 if 0 < len(text) - dot <= 6 and dot > 0 else 3
        tail = min(max(end, width // 3), width - 4)
        return _left(text, width - 1 - tail, width)
    return set_cell_size(text, width - 1) + "…"


def _left(text: str, head: int, width: int) -> str:
    """`head` cells of the beginning, an ellipsis, and of the end what has room in `width`."""
    first, tail, room = set_cell_size(text, head), text, width - 1 - head
    while cell_len(tail) > room:
        tail = tail[max(1, (cell_len(tail) - room) // 2) :]
    return first + "…" + tail + " " * (room - cell_len(tail))
