"""Questions: yes or no, a line of text, a note with tags.

Yes or no and the note are asked often. The app has one screen of each, by name, which stays
mounted: to make it anew would take most of the time of opening it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from rich.text import Text
from textual import on
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
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

    _asked: tuple[str, str, str] = ("", "", "")

    def ask(self, question: str, yes: str, details: str = "") -> ConfirmScreen:
        """Show this when it is pushed next; `yes` is the button's word."""
        self._asked = (question, yes, details)
        if self.is_mounted:
            self._fill()
        return self

    def compose(self) -> ComposeResult:
        """The question, what it is about, and two buttons."""
        with Vertical(classes="dialog"):
            yield Label(id="question", classes="title")
            yield Static(id="details")
            with Horizontal(classes="buttons"):
                yield Button(Text("No (n)"), id="no")
                yield Button(id="yes", variant="warning")

    def on_mount(self) -> None:
        """As it was asked."""
        self._fill()

    def _fill(self) -> None:
        question, yes, details = self._asked
        self.query_one("#question", Label).update(Text(question))
        self.query_one("#details", Static).update(Text(details))
        self.query_one("#details").display = bool(details)
        self.query_one("#yes", Button).label = Content(f"{yes} (y)")
        # Enter does nothing that cannot be taken back.
        self.set_focus(self.query_one("#no"))

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

    _said: str | None = None

    def _say(self, problem: str) -> None:
        if problem == self._said:  # else each key would lay the screen out anew
            return
        self._said = problem
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

        self.app.push_screen(confirm(self.app).ask(question, "Replace"), answered)


class NoteScreen(ModalScreen[tuple[str | None, tuple[str, ...]] | None]):
    """A note and tags; for several pictures with different notes, each can keep its own."""

    BINDINGS: ClassVar[list[BindingType]] = [_ESCAPE, Binding("ctrl+s", "save", "Save")]

    _title = ""
    _note: str | None = None
    _tags: tuple[str, ...] = ()

    def ask(self, title: str, note: str | None, tags: tuple[str, ...]) -> NoteScreen:
        """Show this when it is pushed next; a `note` of None stands for different ones."""
        self._title, self._note, self._tags = title, note, tags
        if self.is_mounted:
            self._fill()
        return self

    def compose(self) -> ComposeResult:
        """Two lines."""
        with Vertical(classes="dialog"):
            yield Label(id="about", classes="title")
            yield Label("Note")
            yield Input(select_on_focus=False, id="note")
            yield Label("Tags, separated by blanks")
            yield Input(select_on_focus=False, id="tags")
            yield Static(Text("Enter saves · Tab: next line · Esc cancels"), classes="hint")

    def on_mount(self) -> None:
        """As it was asked."""
        self._fill()

    def _fill(self) -> None:
        self.query_one("#about", Label).update(Text(self._title))
        note, tags = self.query_one("#note", Input), self.query_one("#tags", Input)
        keeps = "each keeps its own note unless you type one" if self._note is None else ""
        note.placeholder = keeps
        for line, text in ((note, self._note or ""), (tags, " ".join(self._tags))):
            if line.value != text:  # each lays the dialog out anew
                line.value = text
            line.cursor_position = len(text)
        self.set_focus(note)

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


def confirm(app: App[Any]) -> ConfirmScreen:
    """The app's one screen for a question."""
    return app.get_screen("confirm", ConfirmScreen)
