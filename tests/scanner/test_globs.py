"""Patterns mean what they mean to git, and none of them takes for ever."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pathspec import GitIgnoreSpec

from scanner.ignore import Patterns

# Of these alone pathspec makes something else than git: "/*" behind "*", "[!a]" for a slash.
_TOKENS = st.sampled_from(["a", "b", "c", "*a", "a*", "**/", "/**", "/", "?", "[ab]", "\\a", "b*c"])
_LINE = st.lists(_TOKENS, min_size=1, max_size=6).map("".join)
_PATH = st.lists(st.text("abc", min_size=1, max_size=3), min_size=1, max_size=5).map("/".join)


@settings(deadline=None, max_examples=1500)
@given(_LINE, _PATH, st.sampled_from(["", "/"]))
@example("a/**/b/**/c", "a/b/c/b/x/c", "")
@example("**/a/b", "a/a/a/b", "")
def test_a_pattern_matches_what_another_implementation_says(line: str, path: str, end: str) -> None:
    try:
        patterns = Patterns([line])
    except ValueError:
        return
    assert (
        patterns.decide(path + end)
        == GitIgnoreSpec.from_lines([line]).check_file(path + end).include
    )


@pytest.mark.parametrize(
    ("lines", "path", "decision"),
    [
        (["*", "!a"], "a", False),
        (["!a", "*"], "a", True),
        (["b/", "!b/c"], "b/c", False),
        (["!a"], "b", None),
        (["!**", "*"], "b/d/", True),
        (["[!a]b"], "a/cb", True),
        (["x[!a]b"], "x/b", None),  # a bracket is never a slash
        (["[a]]"], "a]", True),
        (["[]a]"], "]", True),
        (["[^^]"], "^", None),
        (["[[]x", "#c", "\\#c"], "#c", True),
        (["a\\ "], "a ", True),
        (["a*b"], "a\nb", True),
    ],
)
def test_the_odd_corners_of_patterns(lines: list[str], path: str, decision: bool | None) -> None:
    assert Patterns(lines).decide(path) is decision


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ("*a" * 8 + "b", "a" * 200),
        ("*a" * 400 + "b", "a" * 255),
        ("*a*a*a*a/" * 9 + "b", "/".join(["a" * 200] * 12)),
        ("**/a/" * 100 + "b", "/".join("a" * 2000)),
        ("**/*a*a/" * 100 + "b", "/".join(["aaaa"] * 800)),
    ],
)
def test_no_pattern_takes_for_ever(line: str, path: str) -> None:
    """In a process of its own, which can be ended: nothing interrupts a regular expression."""
    code = "import sys; from scanner.ignore import Patterns; _, line, path = sys.argv\n"
    code += "print(Patterns([line]).decide(path))"
    done = subprocess.run(
        [sys.executable, "-c", code, line, path], capture_output=True, text=True, timeout=10
    )
    assert done.stdout.strip() == "None", done.stderr
