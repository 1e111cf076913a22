"""One line of a .gitignore as a regular expression whose cost cannot explode.

Patterns may come from whoever made the folder that is scanned. Written the plain way, as `[^/]*`
for each star, `*a*a*a*a*b` takes longer on a name of 200 letters than anyone waits. Here each star
but the last stops for good where what follows it first fits (atomic groups), which is all that a
glob needs: a match takes at most (length of the pattern) * (length of the path) steps.
"""

from __future__ import annotations

import re
from typing import NamedTuple

MAX_PATTERN_CHARS = 1024
# Of a part of a path: there what was matched must end.
_END = r"(?=/|\Z)"


class Glob(NamedTuple):
    """A pattern: with `include` False it takes back what others before it matched.

    The group `folder` of a match is set where the pattern stopped at a folder over the path.
    """

    regex: re.Pattern[str]
    include: bool


def compile_glob(line: str) -> Glob | None:
    """The pattern that `line` is, None for a comment or a blank line. Raises ValueError."""
    text = line if line.endswith("\\ ") else line.rstrip()
    if not text or text.startswith("#"):
        return None
    if len(text) > MAX_PATTERN_CHARS:
        raise ValueError(f"a pattern of more than {MAX_PATTERN_CHARS:,} characters")
    include = not text.startswith("!")
    parts = (text if include else text[1:]).split("/")
    folders_only = not parts[-1]
    if folders_only:
        parts.pop()
    if parts and not parts[0]:
        parts.pop(0)  # anchored
    elif len(parts) == 1:
        parts.insert(0, "**")
    if not parts or "" in parts:
        raise ValueError("no name between slashes")
    try:
        return Glob(re.compile(_regex(parts, folders_only=folders_only), re.DOTALL), include)
    except re.error as error:  # of a bracket expression
        raise ValueError(str(error)) from None


def _regex(parts: list[str], *, folders_only: bool) -> str:
    chunks: list[list[str]] = [[]]  # what lies between any number of folders, `**`
    for part in parts:
        if part == "**":
            if chunks[-1] or len(chunks) == 1:
                chunks.append([])
        else:
            chunks[-1].append(_part(part))
    all_below = len(chunks) > 1 and not chunks[-1]
    if all_below:
        chunks.pop()
    *before, last = ["/".join(chunk) for chunk in chunks]
    if not before and not last:  # `**` alone
        return ".+(?P<folder>/)" if folders_only else ""
    found = ""
    for number, chunk in enumerate(before):
        if number:
            found += f"(?>(?:[^/]+/)*?{chunk}/)"
        elif chunk:
            found += f"{chunk}/"
    # The deepest fit, so that a match of the whole path is preferred to that of a folder.
    found += f"(?:.*/)?{last}" if before else last
    if folders_only:
        return found + "(?P<folder>/)"
    return found + ("/" if all_below else r"(?:\Z|(?P<folder>/))")


def _part(glob: str) -> str:
    """Of what lies between two slashes; all of it, and never nothing."""
    runs = [""]  # between the stars
    at = 0
    while at < len(glob):
        char = glob[at]
        at += 1
        if char == "*":
            if runs[-1] or len(runs) == 1:
                runs.append("")
        elif char == "?":
            runs[-1] += "[^/]"
        elif char == "\\":
            if at == len(glob):
                raise ValueError("a backslash at the end")
            runs[-1] += re.escape(glob[at])
            at += 1
        elif char == "[":
            # One "]" directly behind the beginning stands for itself.
            first = at + (glob[at : at + 1] in ("!", "^"))
            end = glob.find("]", first + 1)
            if end < 0:
                raise ValueError("a bracket that is not closed")
            inside = re.sub(r"[\\\[\]&~|^]", r"\\\g<0>", glob[first:end])
            runs[-1] += f"(?!/)[{'^' if first > at else ''}{inside}]"
            at = end + 1
        else:
            runs[-1] += re.escape(char)
    if len(runs) == 1:
        return runs[0] + _END
    first_run, *middle, last_run = runs
    if not first_run and not middle and not last_run:
        return "[^/]+"
    stars = "".join(f"(?>[^/]*?{run})" for run in middle)
    return f"(?>{first_run}{stars}[^/]*{last_run}{_END})"
