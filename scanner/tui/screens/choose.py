"""A list to choose from, and a text to read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Label, OptionList, Static
from textual.widgets.option_list import Option


class ChooseScreen(ModalScreen[int | None]):
    """One of `choices`, by its place."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q", "dismiss(None)", "Close")]

    def __init__(self, title: str, choices: Sequence[str], hint: str) -> None:
        super().__init__()
        self._title, self._choices, self._hint = title, choices, hint

    def compose(self) -> ComposeResult:
        """The choices, most recent first."""
        with Vertical(classes="dialog wide"):
            yield Label(Text(self._title), classes="title")
            yield OptionList(*(Option(Text(choice)) for choice in self._choices))
            yield Static(Text(self._hint), classes="hint")

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Enter or a click."""
        self.dismiss(event.option_index)


class TextScreen(ModalScreen[None]):
    """Lines that are too many for a toast."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,enter", "dismiss(None)", "Close")]

    def __init__(self, title: str, lines: Sequence[str]) -> None:
        super().__init__()
        self._title, self._lines = title, lines

    def compose(self) -> ComposeResult:
        """Title and lines."""
        with Vertical(classes="dialog wide"):
            yield Label(Text(self._title), classes="title")
            with VerticalScroll():
                yield Static(Text("\n".join(self._lines)))
            yield Static(Text("Esc: close"), classes="hint")

    def on_mount(self) -> None:
        """The arrow keys scroll."""
        self.query_one(VerticalScroll).focus()
