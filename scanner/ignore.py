"""Patterns over paths, with the meaning that git gives those of a .gitignore."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scanner.errors import UsageError
from scanner.opening import failed_to_open, open_regular
from scanner.types import Failed, ImageRef

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

IGNORE_FILE = ".imgscanignore"
# Far above what a person writes; every path is held against every pattern.
_MAX_BYTES = 2**20
_MAX_PATTERNS = 1_000
# A pattern becomes a regular expression that backtracks at each: six of them take seconds for a
# name of a hundred characters, and a folder may be anybody's.
_MAX_STARS = 3


class Patterns:
    """gitignore patterns: the last that matches decides, `!` in front reverses, `/` anchors.

    Matching is by code points and tells upper from lower case, on every system. Raises ValueError
    for what is no pattern.
    """

    def __init__(self, lines: Sequence[str]) -> None:
        from pathspec import GitIgnoreSpec

        for line in lines:
            _refuse_slow(line)
        try:
            self._spec: GitIgnoreSpec = GitIgnoreSpec.from_lines([_flat(line) for line in lines])
        except re.error as error:  # of a bracket expression; pathspec raises ValueError else
            raise ValueError(str(error)) from None

    def decide(self, path: str) -> bool | None:
        """Whether the patterns match `path` (parts joined by "/", folders end in "/").

        None if no pattern says anything of it; False if a reversed one does.
        """
        return self._spec.check_file(_flat(path)).include

    @property
    def empty(self) -> bool:
        """Whether there is nothing but comments and blank lines."""
        return all(pattern.include is None for pattern in self._spec.patterns)


def _refuse_slow(line: str) -> None:
    if line.startswith("#"):
        return
    segments = line.split("/")
    most = max(len(re.findall(r"\*+", segment)) for segment in segments)
    across = sum("**" in segment for segment in segments)
    if max(most, across) > _MAX_STARS:
        raise ValueError(f"more than {_MAX_STARS} stars in one part of it, or of **")


def _flat(text: str) -> str:
    # The library's regular expressions take a line feed for the end of a path. A path may hold
    # one; it cannot hold a NUL.
    return text.replace("\n", "\0")


def option_patterns(option: str, patterns: Sequence[str]) -> Patterns | None:
    """Those given by an option; None for none. Raises UsageError, which names the option."""
    for pattern in patterns:
        try:
            nothing = Patterns([pattern]).empty
        except ValueError:
            nothing = True
        if nothing:
            raise UsageError(
                f"{option} {pattern!r}: not a pattern, or more than {_MAX_STARS} stars in "
                "one part of it; write it as in a .gitignore"
            )
    return Patterns(patterns) if patterns else None


def read_ignore_file(path: Path) -> tuple[Patterns | None, list[Failed]]:
    """A folder's ignore file, None if it has none, and a row if it cannot be followed."""
    try:
        fd, size = open_regular(path)
        with os.fdopen(fd, "rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        # With a name that is too long to open, there is none that could have been meant.
        if error.errno in (errno.ENOENT, errno.ENAMETOOLONG):
            return None, []
        return None, [failed_to_open(path, error)]
    if len(data) > _MAX_BYTES:
        detail = f"{size:,} bytes are more than the limit of {_MAX_BYTES:,} for patterns"
        return None, [Failed(ImageRef(path), "too_large", detail)]
    # As the names in the folder are: bytes that are not text match themselves.
    lines = os.fsdecode(data.removeprefix(b"\xef\xbb\xbf")).replace("\r\n", "\n").split("\n")
    failed: list[Failed] = []
    good: list[str] = []
    for number, line in enumerate(lines, 1):
        if len(good) == _MAX_PATTERNS:
            detail = (
                f"more than {_MAX_PATTERNS:,} patterns: those from line {number} on are not used"
            )
            failed.append(Failed(ImageRef(path), "too_large", detail))
            break
        try:
            if not Patterns([line]).empty:
                good.append(line)
        except ValueError:
            detail = (
                f"line {number} is not a pattern, or has more than {_MAX_STARS} stars in one part; "
                "write it as in a .gitignore"
            )
            failed.append(Failed(ImageRef(path), "unreadable", detail))
    return (Patterns(good) if good else None), failed[:1]
