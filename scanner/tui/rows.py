"""What stands in the tables' columns: files, and folders with the density of suspects."""

from __future__ import annotations

from scanner.domain import no_score
from scanner.text import percent, printable
from scanner.tui.cells import Cell, Column
from scanner.tui.items import Item
from scanner.tui.listing import Group

BAR = 6
# Eighths of a cell, so that a short bar still tells 94 % from 99 %.
_EIGHTHS = " ▏▎▍▌▋▊▉█"

FILE_COLUMNS = (
    Column(" ", 2),
    Column("Confidence", BAR + 8, key="p"),
    Column("Verdict", 8, key="verdict"),
    Column("Name", 20, grow=3, keep_extension=True, key="name"),
    Column("Folder", 8, grow=1, most=36, keep_end=True, drop=2, key="folder"),
    Column("Size", 8, align="right", drop=1, key="size"),
    Column("Review", 8, key="review"),
)
GROUP_COLUMNS = (
    Column(" ", 2),
    Column("Density", BAR + 8),
    Column("Suspects", 9, align="right"),
    Column("Files", 9, align="right"),
    Column("Reviewed", 9, align="right"),
    Column("Folder", 12, grow=1, keep_end=True),
)
_KINDS = {"fake": "fake", "real": "real", "unsure": "unsure", "failed": "failed"}


def file_cells(item: Item | None, selected: bool) -> tuple[Cell, ...]:
    """A file's row; of one that the journal has no more, an empty one."""
    if item is None:
        return (Cell("  "), *(Cell("") for _ in FILE_COLUMNS[1:]))
    mark = Cell(" ●" if selected else "  ", "mark")
    return (
        mark,
        _score(item),
        Cell(item.verdict or "failed", _KINDS.get(item.verdict or "failed", "")),
        Cell(printable(name_of(item))),
        Cell(printable(str(item.ref.path.parent)), "dim"),
        Cell(size_text(item.facts.bytes), "dim"),
        Cell(review_text(item), _KINDS.get(item.review or "", "")),
    )


def group_cells(group: Group | None) -> tuple[Cell, ...]:
    """A folder's row."""
    if group is None:
        return (Cell("  "), *(Cell("") for _ in GROUP_COLUMNS[1:]))
    kind = "fake" if group.suspects else "dim"
    return (
        Cell("  "),
        Cell(f"{bar(group.density)} {percent(group.density):>7}", kind),
        Cell(f"{group.suspects:,}", kind),
        Cell(f"{group.files:,}"),
        Cell(f"{group.reviewed:,}"),
        Cell(printable(str(group.path))),
    )


def name_of(item: Item) -> str:
    """The file's name; of an archive's member, the archive's and its own."""
    name = item.ref.path.name
    return name if item.ref.member is None else f"{name}!/{item.ref.member}"


def review_text(item: Item) -> str:
    """The decision, with a mark if there is more to it."""
    if item.review is None:
        return ""
    return item.review + (" +" if item.note or item.tags else "")


def bar(share: float) -> str:
    """0 to 1 as a bar of `BAR` cells."""
    eighths = round(share * BAR * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_EIGHTHS[rest] if rest else "")).ljust(BAR)


def size_text(count: int | None) -> str:
    """Bytes for people, in units of 1024."""
    if count is None:
        return ""
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1023.5:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def _score(item: Item) -> Cell:
    if item.confidence is None:
        return Cell(item.reason or "", "failed")
    kind = _KINDS.get(item.verdict or "", "")
    if no_score(item.facts, item.verdict):
        return Cell(f"{'--':>{BAR + 8}}", kind)
    return Cell(f"{bar(item.confidence)} {percent(item.confidence):>7}", kind)
