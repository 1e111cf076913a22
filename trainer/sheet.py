"""The sheet of misclassified pictures: original over reconstruction, with what went wrong."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

from scanner.text import printable
from trainer.mistakes import RGB, Error

_TILE, _GAP, _COLUMNS, _LINE = 168, 10, 6, 17
_INK, _PALE, _WRONG = (34, 34, 34), (110, 110, 110), (176, 42, 55)


def sheet(errors: Sequence[Error]) -> bytes | None:
    """A PNG of the errors in their order, row by row; None if there are none.

    Each shows what the model saw, below it the reconstruction (where the run has a decoder),
    then actual and predicted class, the verdict's confidence, the source and the file's name.
    """
    if not errors:
        return None
    decoded = any(error.reconstruction is not None for error in errors)
    pictures = 2 if decoded else 1
    height = pictures * (_TILE + 2) + 4 * _LINE + 2 * _GAP
    columns = min(_COLUMNS, len(errors))
    rows = -(-len(errors) // columns)
    canvas = Image.new(
        "RGB", (columns * (_TILE + _GAP) + _GAP, rows * height + _GAP), (255, 255, 255)
    )
    bold, plain = _font(bold=True), _font(bold=False)
    draw = ImageDraw.Draw(canvas)
    for index, error in enumerate(errors):
        left = _GAP + (index % columns) * (_TILE + _GAP)
        top = _GAP + (index // columns) * height
        for picture in (error.original, error.reconstruction):
            if picture is not None:
                canvas.paste(_tile(picture), (left, top))
            elif decoded:
                draw.rectangle((left, top, left + _TILE, top + _TILE), outline=_PALE)
            else:
                continue
            top += _TILE + 2
        lines = (
            (f"actual {error.actual}", bold, _INK),
            (f"predicted {error.predicted}, {error.confidence:.1%}", bold, _WRONG),
            (error.sample.source, plain, _PALE),
            (error.sample.key.rpartition("/")[2], plain, _PALE),
        )
        for text, font, colour in lines:
            draw.text((left, top + 1), fitting(text, font, _TILE), colour, font)
            top += _LINE
    buffer = io.BytesIO()
    canvas.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def fitting(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """`text`, shortened in the middle until it is at most `width` pixels wide."""
    text = printable(text)
    shown = text
    while font.getlength(shown) > width and len(text) > 2:
        middle = len(text) // 2
        text = text[:middle] + text[middle + 1 :]
        shown = text[: len(text) // 2] + "…" + text[len(text) // 2 :]
    return shown


def _font(*, bold: bool) -> ImageFont.FreeTypeFont:
    """matplotlib's own DejaVu: the same everywhere, with more scripts than Pillow's default."""
    properties = font_manager.FontProperties(
        family="DejaVu Sans", weight="bold" if bold else "normal"
    )
    return ImageFont.truetype(font_manager.findfont(properties), 12)


def _tile(picture: RGB) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(picture)).resize(
        (_TILE, _TILE), Image.Resampling.LANCZOS
    )
