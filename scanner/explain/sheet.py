"""The maps of one picture on one sheet, with its score and what the maps are not."""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFont

from scanner.explain.colours import error_picture, heat_picture, side_by_side
from scanner.explain.maps import CAUTION, Explanation
from scanner.text import printable

_Font = ImageFont.ImageFont | ImageFont.FreeTypeFont
_SIDE, _MARGIN, _LINE = 336, 16, 22
_TITLE, _TEXT = 18, 14


def draw_sheet(name: str, explanation: Explanation, score: str) -> Image.Image:
    """Original, reconstruction, error and attention from left to right; `score` is one line."""
    found = explanation
    parts: list[tuple[str, Image.Image | str]] = [
        ("What the model sees", side_by_side(found.squares, _SIDE))
    ]
    if found.remade is None:
        parts.append(("Reconstruction and error", found.missing))
    else:
        error = side_by_side(error_picture(found.remade.error), _SIDE)
        parts.append(("Reconstruction", side_by_side(found.remade.rgb, _SIDE)))
        parts.append((f"Error, {found.remade.mean_error:.3f} of 1 on average", error))
    heat = side_by_side(heat_picture(found.squares, found.heat), _SIDE)
    parts.append(("Attention: orange to fake, blue to real", heat))

    width = parts[0][1].width if isinstance(parts[0][1], Image.Image) else _SIDE
    top = 2 * _MARGIN + 2 * _LINE
    size = (_MARGIN + len(parts) * (width + _MARGIN), top + _LINE + _SIDE + 2 * _MARGIN + _LINE)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    text, title = ImageFont.load_default(_TEXT), ImageFont.load_default(_TITLE)
    room = size[0] - 2 * _MARGIN
    draw.text((_MARGIN, _MARGIN), _fitted(draw, printable(name), title, room), "black", title)
    draw.text((_MARGIN, _MARGIN + _LINE + 4), score, "black", text)
    for index, (caption, part) in enumerate(parts):
        left = _MARGIN + index * (width + _MARGIN)
        draw.text((left, top), _fitted(draw, caption, text, width), "black", text)
        if isinstance(part, Image.Image):
            sheet.paste(part, (left, top + _LINE))
        else:
            draw.multiline_text(
                (left, top + _LINE), _wrapped(draw, part, text, width), "gray", text
            )
    note = f"The maps show {CAUTION}. Squares are what the model is given, not the whole picture."
    draw.text(
        (_MARGIN, size[1] - _MARGIN - _LINE // 2), _fitted(draw, note, text, room), "gray", text
    )
    return sheet


def _fitted(draw: ImageDraw.ImageDraw, line: str, font: _Font, room: int) -> str:
    """`line` without as much of its middle as makes it fit into `room` pixels."""
    kept = len(line)
    shown = line
    while draw.textlength(shown, font) > room and kept > 2:
        kept -= 1
        shown = line[: kept // 2] + "..." + line[len(line) - (kept - kept // 2) :]
    return shown


def _wrapped(draw: ImageDraw.ImageDraw, line: str, font: _Font, room: int) -> str:
    lines = [""]
    for word in line.split():
        longer = f"{lines[-1]} {word}".strip()
        if draw.textlength(longer, font) > room:
            lines.append(word)
        else:
            lines[-1] = longer
    return "\n".join(lines)
