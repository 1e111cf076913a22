"""Patterns over paths, with the meaning that git gives those of a .gitignore."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

from scanner.errors import UsageError
from scanner.globs import compile_glob
from scanner.opening import failed_to_open, open_regular
from scanner.types import Failed, ImageRef

IGNORE_FILE = ".imgscanignore"
# Far above what a person writes; every path is held against every pattern.
_MAX_BYTES = 2**20
MAX_PATTERNS = 1000


class Patterns:
    """gitignore patterns: the last that matches decides, `!` in front reverses, `/` anchors.

    Matching is by code points and tells upper from lower case, on every system. Raises ValueError
    for what is no pattern.
    """

    def __init__(self, lines: Sequence[str]) -> None:
        self._globs = [glob for line in lines if (glob := compile_glob(line)) is not None]

    def decide(self, path: str) -> bool | None:
        """Whether the patterns match `path` (parts joined by "/", folders end in "/").

        None if no pattern says anything of it; False if a reversed one does.
        """
        of_folder = None
        for glob in reversed(self._globs):
            match = glob.regex.match(path)
            if match is None:
                continue
            # What is said of the path itself is worth more than what is said of a folder over it.
            if match.lastgroup is None or match.end() == len(path):
                return glob.include
            if of_folder is None:
                of_folder = glob.include
        return of_folder

    def __len__(self) -> int:
        """How many there are, besides comments and blank lines."""
        return len(self._globs)


def option_patterns(option: str, patterns: Sequence[str]) -> Patterns | None:
    """Those given by an option; None for none. Raises UsageError, which names the option."""
    if len(patterns) > MAX_PATTERNS:
        raise UsageError(
            f"{option}: {len(patterns):,} patterns; at most {MAX_PATTERNS:,} are taken"
        )
    for pattern in patterns:
        wrong = ""
        try:
            nothing = not len(Patterns([pattern]))
        except ValueError as error:
            nothing, wrong = True, f" ({error})"
        if nothing:
            shown = repr(pattern if len(pattern) <= 80 else pattern[:80] + "...")
            raise UsageError(f"{option} {shown}: not a pattern{wrong}; write it as in a .gitignore")
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
    good: list[str] = []
    failed: list[str] = []
    for number, line in enumerate(lines, 1):
        try:
            if not len(Patterns([line])):
                continue
        except ValueError:
            failed.append(f"line {number} is not a pattern")
            continue
        if len(good) < MAX_PATTERNS:
            good.append(line)
        else:
            failed.append(f"line {number} is above the limit of {MAX_PATTERNS:,} patterns")
    rows = []
    if failed:
        others = f", and {len(failed) - 1:,} more are left out" if len(failed) > 1 else ""
        detail = f"{failed[0]}{others}; write it as in a .gitignore"
        rows = [Failed(ImageRef(path), "unreadable", detail)]
    return (Patterns(good) if good else None), rows
