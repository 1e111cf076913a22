"""Options of the triage screen."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

from scanner.errors import UsageError


@dataclass(frozen=True, slots=True)
class TriageOptions:
    """`tui`: decide on the results, on a screen, or with `plain` line by line, as `reviewer`.

    `reviewer` "" stands for the user's name on this machine.
    """

    tui: bool = False
    plain: bool = False
    reviewer: str = ""


def triage_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options; `command` gets them as `triage`, a `TriageOptions`."""

    @functools.wraps(command)
    def with_triage(*args: Any, tui: bool, plain: bool, reviewer: str | None, **others: Any) -> Any:
        if plain and not tui:
            raise UsageError("--plain is a way of --tui; give both")
        if reviewer is not None and not reviewer.strip():
            raise UsageError("--reviewer is empty; give a name")
        return command(*args, triage=TriageOptions(tui, plain, reviewer or ""), **others)

    for option in reversed(_OPTIONS):
        with_triage = option(with_triage)
    return with_triage


_OPTIONS = [
    click.option(
        "--tui",
        is_flag=True,
        help="Decide on the results on a screen, while they come; without a PATH, on the "
        "journal's last scan.",
    ),
    click.option("--plain", is_flag=True, help="With --tui: line by line, for screen readers."),
    click.option("--reviewer", metavar="NAME", help="Who decides.  [default: the user's name]"),
]
