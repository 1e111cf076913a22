"""Questions: yes or no, a line of text, a note with tags."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Label, Static

from scanner.errors import ImgscanError, UsageError
from scanner.text import printable

_ESCAPE = Binding("escape", "dismiss(None)", "Cancel")


class ConfirmScreen(ModalScreen[bool | None]):
    """A question whose safe answer is the one that Enter gives."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "dismiss(True)", "Yes"),
        Binding("n", "dismiss(False)", "No"),
        _ESCAPE,
    ]

    def __init__(self, question: str, yes: str, details: str = "") -> None:
        super().__init__()
        self._question, self._yes, self._details = question, yes, details

    def compose(self) -> ComposeResult:
        """The question, what it is about, and two buttons."""
        with Vertical(classes="dialog"):
            yield Label(Text(self._question), classes="title")
            if self._details:
                yield Static(Text(self._details))
            with Horizontal(classes="buttons"):
                yield Button(Text("No (n)"), id="no")
                yield Button(Text(f"{self._yes} (y)"), id="yes", variant="warning")

    def on_mount(self) -> None:
        """Enter does nothing that cannot be taken back."""
        self.query_one("#no").focus()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """The mouse's answer, or Enter's."""
        self.dismiss(event.button.id == "yes")


class AskScreen(ModalScreen[str | None]):
    """One line of text; None for none.

    `check` raises ImgscanError for what cannot be taken: that is shown, and the text stays to be
    mended. What it returns, if it is not "", is a question to be answered with yes before.
    """

    BINDINGS: ClassVar[list[BindingType]] = [_ESCAPE]

    def __init__(
        self, title: str, value: str, hint: str, check: Callable[[str], str], *, enter: str
    ) -> None:
        super().__init__()
        self._title, self._value, self._hint = title, value, hint
        self._check, self._enter = check, enter

    def compose(self) -> ComposeResult:
        """The question and the line."""
        with Vertical(classes="dialog"):
            yield Label(Text(self._title), classes="title")
            yield Input(self._value, select_on_focus=False, id="answer")
            yield Static(id="problem", classes="problem")
            yield Static(Text(self._hint), classes="hint")
            yield Static(Text(f"Enter {self._enter} · Esc cancels"), classes="hint keys")

    def on_mount(self) -> None:
        """Nothing is wrong yet."""
        self._say("")

    def _say(self, problem: str) -> None:
        line = self.query_one("#problem", Static)
        line.display = bool(problem)
        line.update(Text(printable(problem)))

    @on(Input.Changed)
    def _mended(self) -> None:
        self._say("")

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        text = event.value.strip()
        try:
            if not text:
                raise UsageError("type a name, or press Esc")
            question = self._check(text)
        except ImgscanError as error:
            self._say(str(error))
            return
        if not question:
            self.dismiss(text)
            return

        def answered(yes: bool | None) -> None:
            if yes:
                self.dismiss(text)

        self.app.push_screen(ConfirmScreen(question, "Replace"), answered)


class NoteScreen(ModalScreen[tuple[str | None, tuple[str, ...]] | None]):
    """A note and tags; for several pictures with different notes, each can keep its own."""

    BINDINGS: ClassVar[list[BindingType]] = [_ESCAPE, Binding("ctrl+s", "save", "Save")]

    def __init__(self, title: str, note: str | None, tags: tuple[str, ...]) -> None:
        super().__init__()
        self._title, self._note, self._tags = title, note, tags

    def compose(self) -> ComposeResult:
        """Two lines."""
        keeps = "each keeps its own note unless you type one" if self._note is None else ""
        with Vertical(classes="dialog"):
            yield Label(Text(self._title), classes="title")
            yield Label("Note")
            yield Input(self._note or "", placeholder=keeps, select_on_focus=False, id="note")
            yield Label("Tags, separated by blanks")
            yield Input(" ".join(self._tags), select_on_focus=False, id="tags")
            yield Static(Text("Enter saves · Tab: next line · Esc cancels"), classes="hint")

    def on_input_submitted(self) -> None:
        """Enter, in either line."""
        self.action_save()

    def action_save(self) -> None:
        """Hand both to whoever asked."""
        note: str | None = self.query_one("#note", Input).value.strip()
        if self._note is None and not note:
            note = None
        # In the order typed, each once.
        tags = tuple(dict.fromkeys(self.query_one("#tags", Input).value.split()))
        self.dismiss((note, tags))
