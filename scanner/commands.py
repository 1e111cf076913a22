"""What the first argument may name besides a path to scan. A file of such a name: `./explain`."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

import click

# Name -> module and command in it, imported only when it is asked for.
_COMMANDS = {
    "card": ("scanner.card", "card"),
    "doctor": ("scanner.doctor", "doctor"),
    "explain": ("scanner.explain.command", "explain"),
}


def named_command(args: Sequence[str]) -> click.Command | None:
    """The command that the first of `args` names; None for a scan."""
    if not args or args[0] not in _COMMANDS:
        return None
    module, attribute = _COMMANDS[args[0]]
    command = getattr(importlib.import_module(module), attribute)
    assert isinstance(command, click.Command)
    return command
