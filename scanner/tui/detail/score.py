"""P(fake) as a bar with a mark at each operating point, readable without colour."""

from __future__ import annotations

from collections.abc import Mapping

from rich.text import Text

from scanner.text import percent
from scanner.tui.items import Item
from scanner.verdict import OperatingPoint, verdict_of

_LEAST_CELLS = 20
_ROOM_FOR_BOTH = 44
_CALLED = {"fake": "bold orange1", "real": "bold dodger_blue1", "unsure": "bold yellow"}


def score_text(
    item: Item,
    thresholds: Mapping[str, float],
    width: int,
    unsure: tuple[float, float] | None = None,
) -> Text:
    """Lines of `width` cells for an item with a score.

    `thresholds` maps operating points to values in 0..1, all of the model that gave the score;
    the item's own point is there anyway. Inside `unsure` the model's advice is no verdict.
    """
    assert item.p_fake is not None
    points = dict(sorted({**thresholds, item.operating_point: item.threshold}.items(), key=_value))
    text = Text(no_wrap=False)
    text.append(item.verdict or "", _CALLED.get(item.verdict or "", ""))
    text.append(f"  confidence {percent(item.confidence or 0)}", "bold")
    # Beside it where there is room.
    text.append("  " if width >= _ROOM_FOR_BOTH else "\n")
    text.append(f"P(fake) {percent(item.p_fake)}\n")
    cells = max(_LEAST_CELLS, min(width - 4, 60))
    text.append_text(_bar(item.p_fake, cells))
    text.append("  " + _marks(list(points.values()), cells) + "\n", "dim")
    for number, (name, value) in enumerate(points.items(), start=1):
        here = name == item.operating_point
        called = (
            item.verdict if here else verdict_of(item.p_fake, OperatingPoint(name, value, unsure))
        )
        used = "  in use" if here else ""
        text.append(f"{number} {name} {percent(value)}: {called}{used}\n", "" if used else "dim")
    if unsure is not None:
        low, high = unsure
        inside = low <= item.p_fake < high
        advice = f"{percent(low)} to {percent(high)}: too often wrong for a verdict"
        text.append(f"{advice}{', as here' if inside else ''}\n", "yellow" if inside else "dim")
    return text


def _bar(p_fake: float, cells: int) -> Text:
    place = _cell(p_fake, cells)
    bar = Text("0 ")
    bar.append("━" * place, "orange1")
    bar.append("◆", "bold")
    bar.append("─" * (cells - 1 - place), "dim")
    return bar.append(" 1\n")


def _marks(values: list[float], cells: int) -> str:
    """The number of each point under its place; the later one where two fall together."""
    row = [" "] * cells
    for number, value in enumerate(values, start=1):
        at = _cell(value, cells)
        while at < cells - 1 and row[at] != " ":
            at += 1
        row[at] = str(number % 10)
    return "".join(row).rstrip()


def _cell(value: float, cells: int) -> int:
    return min(cells - 1, max(0, round(value * (cells - 1))))


def _value(entry: tuple[str, float]) -> float:
    return entry[1]
