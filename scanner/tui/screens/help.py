"""All keys, and the filter's language, on one screen that scrolls."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Label, Static

from scanner.tui import filters
from scanner.tui.keys import GROUPS, MOVES, shown


class HelpScreen(ModalScreen[None]):
    """What the keys do."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark,f1,enter", "dismiss(None)", "Close")
    ]

    def compose(self) -> ComposeResult:
        """The keys by what they are for."""
        with Vertical(classes="dialog wide"):
            yield Label("Keys", classes="title")
            with VerticalScroll():
                yield Static(help_text())
            yield Static(classes="hint")

    def on_mount(self) -> None:
        """The arrow keys scroll."""
        keys = self.query_one(VerticalScroll)
        keys.focus()
        for changed in ("scroll_y", "max_scroll_y", "virtual_size"):
            self.watch(keys, changed, self._tell)

    def on_resize(self) -> None:
        """What fits in may be another part."""
        self.call_after_refresh(self._tell)

    def _tell(self) -> None:
        keys = self.query_one(VerticalScroll)
        more = " · more below ↓" if keys.scroll_y < keys.max_scroll_y else ""
        self.query_one(".hint", Static).update(Text(f"Esc: close · arrows: scroll{more}"))


def help_text() -> Text:
    """Groups of keys, then the filter."""
    text = Text()
    for title, keys in GROUPS:
        text.append(f"{title}\n", "bold")
        for key in keys:
            text.append(f"  {shown(key.keys):<17} {key.what}\n")
        text.append("\n")
    text.append("Move\n", "bold")
    for names, what in MOVES:
        text.append(f"  {names:<17} {what}\n")
    text.append("\nFilter (→ completes)\n", "bold")
    lines = (filters.__doc__ or "").splitlines()[2:]
    text.append("\n".join(line.removeprefix("  ") for line in lines).rstrip() + "\n")
    return text
