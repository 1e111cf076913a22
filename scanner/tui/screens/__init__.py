"""What opens over the list: help, questions, and forms of one or two lines."""

from __future__ import annotations

from scanner.tui.screens.ask import AskScreen, ConfirmScreen, NoteScreen
from scanner.tui.screens.choose import ChooseScreen, TextScreen
from scanner.tui.screens.help import HelpScreen

__all__ = [
    "AskScreen",
    "ChooseScreen",
    "ConfirmScreen",
    "HelpScreen",
    "NoteScreen",
    "TextScreen",
]
