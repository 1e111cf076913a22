from __future__ import annotations

from pathlib import Path

import pytest

from scanner.console import show_summary
from scanner.tally import Tally
from scanner.types import Failed, ImageRef
from scanner.verdict import OperatingPoint

EVIL = "\x1b[2J\u202e\x07"


def test_nothing_in_the_summary_is_obeyed_by_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whoever made the model or named the files."""
    tally = Tally(keep_suspects=1, keep_failures=1)
    tally.add(Failed(ImageRef(Path(f"a{EVIL}")), "empty", f"b{EVIL}"))
    show_summary(
        tally,
        seconds=1.0,
        device=f"c{EVIL}",
        model=f"d{EVIL}",
        point=OperatingPoint(f"e{EVIL}", 0.5),
        left_out="",
        report=Path(f"f{EVIL}"),
        interrupted=True,
    )
    shown = capsys.readouterr().out
    assert all(shown.count(rf"{name}\x1b[2J\u202e\x07") == 1 for name in "abcdef")
    assert all(line.isprintable() for line in shown.splitlines())
