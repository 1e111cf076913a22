"""The panel beside the triage list: one picture, what the model says of it and why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.events import Resize
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static

from scanner.bundle import Bundle
from scanner.explain import CAUTION
from scanner.explain.colours import error_picture, heat_picture, side_by_side
from scanner.explain.maps import Scorer
from scanner.preprocess import PreprocessSpec
from scanner.text import printable
from scanner.tui.detail.facts import facts_text, failure_text, heat_in_words
from scanner.tui.detail.maps import Maps
from scanner.tui.detail.messages import Cropped, Decoded, MapsReady
from scanner.tui.detail.picture import Mode, PictureView, mode_of_terminal
from scanner.tui.detail.pictures import Isolated, Pictures, Runner
from scanner.tui.detail.score import score_text
from scanner.tui.detail.viewport import View
from scanner.tui.detail.worker import Crop, Loaded
from scanner.tui.items import Item
from scanner.types import Failed, FileFacts

Shown = Literal["original", "reconstruction", "error", "attention"]
_ORDER: tuple[Shown, ...] = ("original", "reconstruction", "error", "attention")
_PAN = 0.25  # of the window
# From here on the picture stands beside the text and not above it.
_BESIDE_COLUMNS = 72


class DetailPanel(Widget, can_focus=True):
    """Shows an `Item`: picture or map, score, facts, and what a person said of it.

    `bundle` is the model of the maps and marks; `detector` is asked for, in a thread, with the
    first map. Pictures are decoded in processes of their own, and what arrives is posted back.
    """

    DEFAULT_CSS = """
    DetailPanel { layout: vertical; height: 1fr; padding: 0 1; }
    DetailPanel > PictureView { width: 100%; height: 1fr; min-height: 4; }
    DetailPanel > #caption { height: auto; max-height: 4; }
    DetailPanel > #words { height: auto; max-height: 50%; width: 100%; scrollbar-gutter: stable; }
    DetailPanel.beside { layout: grid; grid-size: 2 2; grid-columns: 1fr 1fr; grid-rows: 1fr auto; }
    DetailPanel.beside > PictureView { height: 100%; }
    DetailPanel.beside > #words { row-span: 2; max-height: 100%; height: 100%; padding-left: 1; }
    DetailPanel #provenance { display: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("m", "next_map", "Map"),
        Binding("z,plus", "zoom(1)", "Nearer"),
        Binding("x,minus", "zoom(-1)", "Farther"),
        Binding("left", "pan(-1,0)", show=False),
        Binding("right", "pan(1,0)", show=False),
        Binding("up", "pan(0,-1)", show=False),
        Binding("down", "pan(0,1)", show=False),
    ]

    def __init__(
        self,
        bundle: Bundle,
        detector: Callable[[], Scorer],
        *,
        mode: Mode | None = None,
        runner: Callable[[PreprocessSpec], Runner] = Isolated,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._bundle = bundle
        self._pictures = Pictures(
            bundle.spec,
            ready=lambda ref, result: self._post(Decoded(ref, result)),
            cropped=lambda ref, result: self._post(Cropped(ref, result)),
            runner=runner,
        )
        self._maps = Maps(detector, ready=lambda ref, made: self._post(MapsReady(ref, made)))
        self._picture = PictureView(mode or mode_of_terminal())
        self._caption = Static("", id="caption", markup=False)
        self._score = Static("", id="score", markup=False)
        self._facts = Static("", id="facts", markup=False)
        self._provenance = Static("", id="provenance", markup=False)
        self._item: Item | None = None
        self._shown: Shown = "original"
        self._view = View()
        self._window = (1.0, 1.0)

    def compose(self) -> ComposeResult:
        """Picture, what it is, and the words."""
        yield self._picture
        with VerticalScroll(id="words", can_focus=False):
            yield self._score
            yield self._facts
            yield self._provenance
        yield self._caption

    def on_mount(self) -> None:
        """Paint what was asked for before there was a screen."""
        self._paint()

    def on_unmount(self) -> None:
        """End processes and threads."""
        self._pictures.close()
        self._maps.close()

    def show(self, item: Item | None, nearby: Sequence[Item] = ()) -> None:
        """Show `item`, None for nothing. `nearby` will probably be next: decoded ahead.

        Which map is shown stays; the zoom does not. Never waits.
        """
        other = item is None or self._item is None or item.ref != self._item.ref
        self._item = item
        if other:
            self._view, self._window = View(), (1.0, 1.0)
            self._maps.want(None)
            self.set_provenance(None)
        near = [other for other in nearby if other.reason is None]
        first = [] if item is None or item.reason is not None else [item]
        self._pictures.want([one.ref for one in (*first, *near)])
        self._paint()

    def set_provenance(self, text: Text | None) -> None:
        """A section below the facts; None leaves it out."""
        self._provenance.update(text or "")
        self._provenance.display = text is not None

    def action_next_map(self) -> None:
        """Original, reconstruction, error, attention, and again."""
        self._shown = _ORDER[(_ORDER.index(self._shown) + 1) % len(_ORDER)]
        self._view = View()
        self._paint()

    def action_zoom(self, steps: int) -> None:
        """Nearer (above 0) or farther; the nearer ones show the file's own pixels."""
        loaded = None if self._item is None else self._pictures.get(self._item.ref)
        if not isinstance(loaded, Loaded):
            return
        self._shown = "original"
        size = (loaded.facts.width or 1, loaded.facts.height or 1)
        self._view = self._view.zoomed(steps, size, self._picture.room)
        self._paint()

    def action_pan(self, x: int, y: int) -> None:
        """A quarter of the window to a side, while zoomed."""
        if self._view.zoom:
            self._view = self._view.panned(x * _PAN, y * _PAN, self._window)
            self._paint()

    @property
    def shown(self) -> Shown:
        """Which of the maps is chosen."""
        return self._shown

    def on_resize(self, event: Resize) -> None:
        """Wide and low: picture beside the words; else above them."""
        wide = event.size.width >= _BESIDE_COLUMNS and event.size.width > 2 * event.size.height
        self.set_class(wide, "beside")
        self.call_after_refresh(self._paint)

    @on(Decoded)
    def _on_decoded(self, message: Decoded) -> None:
        message.stop()
        if self._item is not None and message.ref == self._item.ref:
            self._paint()

    @on(Cropped)
    def _on_cropped(self, message: Cropped) -> None:
        message.stop()
        if self._item is None or message.ref != self._item.ref or not self._view.zoom:
            return
        if isinstance(message.result, Failed):
            self._view = View()
            self._paint()
            self._caption.update(Text(f"no closer: {printable(message.result.detail)}"))
        else:
            self._paint_crop(message.result)

    @on(MapsReady)
    def _on_maps(self, message: MapsReady) -> None:
        message.stop()
        if self._item is not None and message.ref == self._item.ref:
            self._paint()

    def _post(self, message: Message) -> None:
        self.post_message(message)

    def _paint(self) -> None:
        """All of it, out of what is at hand; asks for what is not."""
        if not self.is_mounted:
            return
        item = self._item
        if item is None:
            self._picture.show_text(Text("no picture is chosen", "dim"))
            for part in (self._caption, self._score, self._facts):
                part.update("")
            return
        loaded = self._pictures.get(item.ref)
        self._paint_words(item, loaded)
        if item.reason is not None:
            self._say(failure_text(item.reason, item.detail), "not scored")
        elif loaded is None:
            self._say(Text("decoding ...", "dim"), "")
        elif isinstance(loaded, Failed):
            self._say(failure_text(loaded.reason, loaded.detail), "cannot be shown now")
        elif self._shown != "original":
            self._paint_map(item, loaded)
        elif self._view.zoom:
            room = self._picture.room
            width, height = (max(1, round(side / self._view.zoom)) for side in room)
            self._pictures.want_crop(item.ref, self._view.centre, width, height, room)
            self._caption.update(Text(f"original, {self._view.ratio} ..."))
        else:
            self._paint_preview(loaded)

    def _paint_words(self, item: Item, loaded: Loaded | Failed | None) -> None:
        width = self._score.container_size.width or self.size.width
        if item.p_fake is None:
            self._score.update("")
        else:
            ours = item.model == f"{self._bundle.name}@{self._bundle.digest}"
            thresholds = self._bundle.thresholds if ours else {}
            band = self._bundle.unsure if ours else None
            self._score.update(score_text(item, thresholds, width, band))
        if isinstance(loaded, Loaded):
            self._facts.update(facts_text(item, loaded.exif, loaded.facts))
        else:
            self._facts.update(facts_text(item))

    def _paint_preview(self, loaded: Loaded) -> None:
        what = _in_words(loaded.facts)
        words = f"{what}\n(no pictures here)"
        self._picture.show_picture(loaded.rgb, lambda: Image.fromarray(loaded.rgb), words)
        self._caption.update(Text("original, all of it"))

    def _paint_crop(self, crop: Crop) -> None:
        width, height = crop.size
        left, top, wide, high = crop.box
        self._window = (wide / width, high / height)
        part = f"{wide} x {high} at {left},{top}"
        caption = f"original, {self._view.ratio}: {part} of {width} x {height}"
        by = max(1, round(self._view.zoom))
        self._picture.show_picture(crop, lambda: _enlarged(crop.rgb, by), caption)
        self._caption.update(Text(caption))

    def _paint_map(self, item: Item, loaded: Loaded) -> None:
        made = self._maps.get(item.ref)
        if made is None or (self._shown == "attention" and made.heat is None and not made.problem):
            self._maps.want(item.ref, loaded.squares, heat=self._shown == "attention")
            self._say(Text("computing ...", "dim"), f"{self._shown}: {CAUTION}")
            return
        if made.problem:
            self._say(Text(printable(made.problem)), self._shown)
        elif self._shown == "attention":
            assert made.heat is not None
            heat, words = made.heat, heat_in_words(made.heat)
            self._picture.show_picture(
                heat, lambda: side_by_side(heat_picture(loaded.squares, heat)), words
            )
            legend = f"attention{made.by}, no proof: orange to fake, blue to real"
            self._caption.update(Text(f"{legend}\n{words}"))
        elif made.remade is None:
            self._say(Text(printable(f"no {self._shown}: {made.missing}")), self._shown)
        else:
            remade = made.remade
            error = f"error {remade.mean_error:.3f} of 1 on average"
            if self._shown == "reconstruction":
                self._picture.show_picture(remade.rgb, lambda: side_by_side(remade.rgb), error)
            else:
                self._picture.show_picture(
                    remade.error, lambda: side_by_side(error_picture(remade.error)), error
                )
            self._caption.update(Text(f"{self._shown}, no proof; {error}"))
        if item.model != f"{self._bundle.name}@{self._bundle.digest}":
            self._caption.update(
                Text(printable(f"{self._shown} of {self._bundle.name}, not of {item.model}"))
            )

    def _say(self, text: Text, caption: str) -> None:
        self._picture.show_text(text)
        self._caption.update(Text(caption))


def _enlarged(rgb: npt.NDArray[np.uint8], by: int) -> Image.Image:
    """Pixels stay squares, for a look at them is what was asked for."""
    image = Image.fromarray(rgb)
    if by == 1:
        return image
    return image.resize((image.width * by, image.height * by), Image.Resampling.NEAREST)


def _in_words(facts: FileFacts) -> str:
    return f"{facts.format or 'picture'}, {facts.width} x {facts.height} pixels"
