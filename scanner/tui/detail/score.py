"""P(fake) as a bar with a mark at each operating point, readable without colour."""

from __future__ import annotations

from collections.abc import Mapping

from textual.content import Content

from scanner.domain import no_score
from scanner.text import percent
from scanner.tui.detail.facts import NOTES
from scanner.tui.items import Item
from scanner.verdict import OperatingPoint, verdict_of

_LEAST_CELLS = 20
_ROOM_FOR_BOTH = 44
# Colours of the app's theme, as the list has them.
_CALLED = {
    "fake": "bold $verdict-fake",
    "real": "bold $verdict-real",
    "unsure": "bold $verdict-unsure",
}
_Part = str | tuple[str, str]


def score_text(
    item: Item,
    thresholds: Mapping[str, float],
    width: int,
    unsure: tuple[float, float] | None = None,
) -> Content:
    """Lines of `width` cells for an item with a score.

    `thresholds` maps operating points to values in 0..1, all of the model that gave the score;
    the item's own point is there anyway. Inside `unsure` the model's advice is no verdict. Of
    what no model here can judge there is the reason alone.
    """
    assert item.p_fake is not None
    if why := no_score(item.facts, item.verdict):
        verdict = item.verdict or ""
        reasons = "".join(f"{NOTES[note]}\n" for note in why)
        return Content.assemble(
            (verdict, _CALLED.get(verdict, "")), ("  no score to go by\n", "bold"), reasons
        )
    points = dict(sorted({**thresholds, item.operating_point: item.threshold}.items(), key=_value))
    # Beside it where there is room.
    between = "  " if width >= _ROOM_FOR_BOTH else "\n"
    cells = max(_LEAST_CELLS, min(width - 4, 60))
    parts: list[_Part] = [
        (item.verdict or "", _CALLED.get(item.verdict or "", "")),
        (f"  confidence {percent(item.confidence or 0)}", "bold"),
        f"{between}P(fake) {percent(item.p_fake)}\n",
        *_bar(item.p_fake, cells),
        ("  " + _marks(list(points.values()), cells) + "\n", "dim"),
    ]
    for number, (name, value) in enumerate(points.items(), start=1):
        here = name == item.operating_point
        called = (
            item.verdict if here else verdict_of(item.p_fake, OperatingPoint(name, value, unsure))
        )
        used = "  in use" if here else ""
        parts.append((f"{number} {name} {percent(value)}: {called}{used}\n", _dim(not here)))
    if unsure is not None:
        low, high = unsure
        inside = low <= item.p_fake < high
        advice = f"{percent(low)} to {percent(high)}: too often wrong for a verdict"
        style = "$verdict-unsure" if inside else "dim"
        parts.append((f"{advice}{', as here' if inside else ''}\n", style))
    return Content.assemble(*parts)


def _dim(yes: bool) -> str:
    return "dim" if yes else ""


def _bar(p_fake: float, cells: int) -> list[_Part]:
    place = _cell(p_fake, cells)
    return [
        "0 ",
        ("━" * place, "$verdict-fake"),
        ("◆", "bold"),
        ("─" * (cells - 1 - place), "dim"),
        " 1\n",
    ]


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
