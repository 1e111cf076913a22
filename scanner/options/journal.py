"""Options of the journal: where it is, whether there is one, and whether it is believed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from scanner.errors import UsageError


@dataclass(frozen=True, slots=True)
class JournalOptions:
    """The journal at `path` (None: at the default place), or not `use` any.

    With `rescan`, what it remembers is not believed, but renewed.
    """

    path: Path | None = None
    use: bool = True
    rescan: bool = False


def journal_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options; `command` gets them as `remember`, a `JournalOptions`."""

    @functools.wraps(command)
    def with_journal(
        *args: Any, journal: str | None, no_journal: bool, rescan: bool, **others: Any
    ) -> Any:
        if journal == "":
            raise UsageError("--journal is empty; give the name of a file")
        if journal is not None and no_journal:
            raise UsageError("--journal and --no-journal exclude each other; give one of them")
        if rescan and no_journal:
            raise UsageError("--rescan renews the journal; with --no-journal there is none")
        path = None if journal is None else Path(journal)
        return command(*args, remember=JournalOptions(path, not no_journal, rescan), **others)

    for option in reversed(_OPTIONS):
        with_journal = option(with_journal)
    return with_journal


_OPTIONS = [
    click.option(
        "--journal",
        metavar="FILE",
        help="Remember results there.  [default: journal.sqlite in the user's data folder]",
    ),
    click.option("--no-journal", is_flag=True, help="Remember nothing, and recall nothing."),
    click.option(
        "--rescan", is_flag=True, help="Scan also what is remembered, and remember it anew."
    ),
]
