"""Options that say which files are scanned."""

from __future__ import annotations

import functools
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from scanner.errors import UsageError
from scanner.rules import DEFAULT_RULES, WalkRules

_SIZE = re.compile(r"(\d+(?:\.\d+)?)([KMGT]?)", re.IGNORECASE)
_AGE = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


@dataclass(frozen=True, slots=True)
class WalkOptions:
    """The rules for what is met in folders, and a list of files (None: none) to read besides.

    `newer_than` is how the rules' moment was asked for: an age is another moment each time.
    """

    rules: WalkRules = DEFAULT_RULES
    files_from: Path | None = None
    null: bool = False
    newer_than: str | None = None

    @property
    def selection(self) -> str | None:
        """The same text wherever the same files are asked for; None where nobody can say.

        Roots, which are given besides, are not in it.
        """
        asked = self
        if self.newer_than is not None:
            asked = replace(asked, rules=replace(self.rules, newer_than_ns=None))
        if self.files_from is None:
            return repr(asked)
        if not self.files_from.is_file():  # what comes through a pipe may be another list
            return None
        # The names in the list may be relative, too.
        return repr((replace(asked, files_from=self.files_from.absolute()), Path.cwd()))

    @property
    def repeatable(self) -> bool:
        """Whether the same files can be found a second time, and without reading them."""
        if self.rules.archives:
            return False
        return self.files_from is None or self.files_from.is_file()


def _size(context: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """Bytes."""
    if value is None:
        return None
    match = _SIZE.fullmatch(value)
    if match is None:
        raise click.BadParameter(f"{value!r} is no size; give bytes, or K, M or G of 1024: 200K")
    number, unit = match.groups()
    return int(float(number) * 1024 ** " KMGT".index(unit.upper() or " "))


def _moment(
    context: click.Context, param: click.Parameter, value: str | None
) -> tuple[str | None, int | None]:
    """As it was typed, and nanoseconds since 1970, UTC."""
    return value, None if value is None else moment_of(value)


def moment_of(value: str) -> int:
    """What `--newer-than` stands for now: nanoseconds since 1970, UTC."""
    age = _AGE.fullmatch(value)
    if age is not None:
        return time.time_ns() - int(float(age[1]) * _SECONDS[age[2]] * 10**9)
    try:
        # Without a zone it is the local time, as `ls` shows it.
        return int(datetime.fromisoformat(value).timestamp() * 10**6) * 1000
    except (ValueError, OverflowError):
        try:  # then it is a file, or a mistake; an empty path would be the working directory
            return os.stat(value).st_mtime_ns  # noqa: PTH116
        except (OSError, ValueError):
            raise click.BadParameter(
                f"{value!r} is neither a date (2024-01-31), nor an age (7d, 12h), nor a file"
            ) from None


def walk_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options; `command` gets them as `walk`, a `WalkOptions`."""

    @functools.wraps(command)
    def with_walk(
        *args: Any,
        files_from: str | None,
        null: bool,
        min_bytes: int | None,
        max_bytes: int | None,
        newer_than: tuple[str | None, int | None],
        **others: Any,
    ) -> Any:
        if files_from == "":
            raise UsageError("--files-from is empty; the standard input is -")
        if null and files_from is None:
            raise UsageError("--null says how names are separated in --files-from; give both")
        if min_bytes is not None and max_bytes is not None and min_bytes > max_bytes:
            raise UsageError("--min-size is above --max-size: no file can be both")
        rules = WalkRules(
            min_bytes=min_bytes,
            max_bytes=max_bytes,
            newer_than_ns=newer_than[1],
            **{name: others.pop(name) for name in _PASSED_ON},
        )
        listed = None if files_from is None else Path(files_from)
        return command(*args, walk=WalkOptions(rules, listed, null, newer_than[0]), **others)

    for option in reversed(_OPTIONS):
        with_walk = option(with_walk)
    return with_walk


_PASSED_ON = (
    "follow_symlinks",
    "one_file_system",
    "hidden",
    "ignore_files",
    "include",
    "exclude",
    "archives",
)
_OPTIONS = [
    click.option("--hidden", is_flag=True, help="Also scan hidden files and folders."),
    click.option(
        "--follow-symlinks", is_flag=True, help="Follow links; each folder is scanned once."
    ),
    click.option(
        "--one-file-system", is_flag=True, help="Leave out folders on other file systems."
    ),
    click.option(
        "--include",
        multiple=True,
        metavar="GLOB",
        help="Scan only files that match a .gitignore pattern, as *.png (repeatable).",
    ),
    click.option(
        "--exclude",
        multiple=True,
        metavar="GLOB",
        help="Leave out what matches a .gitignore pattern, as thumbs/ (repeatable).",
    ),
    click.option(
        "--no-ignore-files",
        "ignore_files",
        flag_value=False,
        default=True,
        help="Do not look for .imgscanignore in folders.",
    ),
    click.option(
        "--min-size",
        "min_bytes",
        callback=_size,
        metavar="SIZE",
        help="In bytes, or as 20K, 5M, 1G.",
    ),
    click.option(
        "--max-size",
        "max_bytes",
        callback=_size,
        metavar="SIZE",
        help="In bytes, or as 20K, 5M, 1G.",
    ),
    click.option(
        "--newer-than",
        callback=_moment,
        metavar="WHEN",
        help="Changed since a date (2024-01-31), an age (7d) or after a FILE was.",
    ),
    click.option(
        "--archives", is_flag=True, help="Also scan pictures inside zip, cbz and tar files."
    ),
    click.option(
        "--files-from",
        metavar="FILE",
        help="Scan the files listed there, one a line; - is the standard input.",
    ),
    click.option(
        "--null", "-0", is_flag=True, help="Names in --files-from end in NUL, not line feed."
    ),
]
