"""A picture in the terminal: its graphics where it has them, else half blocks, shades or words."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Literal

from PIL import Image
from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Container
from textual.widgets import Static

# At the top, for its import asks the terminal what it can do, which a running app would answer.
from textual_image import renderable, widget

from scanner.tui.detail.viewport import fitted

# graphics: Kitty's or Sixel, by device pixel; blocks: two coloured pixels a cell; shades: a grey
# character a cell; none: no picture, its description alone.
Mode = Literal["graphics", "blocks", "shades", "none"]


def mode_of_terminal(environ: Mapping[str, str] = os.environ) -> Mode:
    """What can be shown here, as the terminal said when this module was imported."""
    if environ.get("TERM") == "dumb":
        return "none"
    if issubclass(widget.Image, widget.SixelImage):
        return "graphics"
    if renderable.Image is renderable.TGPImage:
        return "graphics"
    blocks = renderable.Image is renderable.HalfcellImage
    # Without colour half blocks are all alike.
    return "blocks" if blocks and "NO_COLOR" not in environ else "shades"


class PictureView(Container):
    """Shows one picture, as large as the box allows, or a text in its place."""

    DEFAULT_CSS = """
    PictureView { align: center middle; overflow: hidden; }
    PictureView > Static { width: 100%; height: auto; text-align: center; }
    """

    def __init__(self, mode: Mode, **options: Any) -> None:
        super().__init__(**options)
        self._mode = mode
        self._source: object = None
        self._image: Image.Image | None = None
        self._words = Static("", markup=False)
        self._widget: Any = None if mode == "none" else _widget(mode)

    def compose(self) -> ComposeResult:
        """See Textual."""
        yield self._words
        if self._widget is not None:
            self._widget.display = False
            yield self._widget

    @property
    def mode(self) -> Mode:
        """How pictures are shown."""
        return self._mode

    @property
    def cell(self) -> tuple[int, int]:
        """A cell's width and height in device pixels, those that a picture's are shown as."""
        if self._mode != "graphics":
            return (1, 2)
        width, height = widget.get_cell_size()  # type: ignore[attr-defined]
        return width, height

    @property
    def room(self) -> tuple[int, int]:
        """Device pixels in the box, width and height, 1 or more."""
        cell = self.cell
        return max(1, self.size.width * cell[0]), max(1, self.size.height * cell[1])

    def show_picture(self, source: object, draw: Callable[[], Image.Image], words: str) -> None:
        """Paint what `draw` makes; `words` stand for it where no picture can be.

        `source` is what it is drawn from: as long as that is shown, nothing is drawn again, so
        that a change of the words beside it does not send the picture to the terminal anew.
        """
        if self._widget is None:
            self.show_text(Text(words))
            return
        if self._image is not None and source is self._source:
            return
        self._source, self._image = source, draw()
        self._widget.image = self._image
        self._words.display = False
        self._widget.display = True
        self._fit()

    def show_text(self, text: Text) -> None:
        """No picture, but `text`."""
        self._source = self._image = None
        self._words.update(text)
        self._words.display = True
        if self._widget is not None:
            self._widget.display = False
            self._widget.image = None

    def on_resize(self) -> None:
        """The picture keeps its shape."""
        self._fit()

    def _fit(self) -> None:
        if self._image is None or not self.size.width or not self.size.height:
            return
        box = (self.size.width, self.size.height)
        columns, rows = fitted(self._image.size, box, self.cell)
        self._widget.styles.width, self._widget.styles.height = columns, rows


def _widget(mode: Mode) -> Any:
    if mode == "graphics":
        return widget.Image()
    return widget.HalfcellImage() if mode == "blocks" else widget.UnicodeImage()
