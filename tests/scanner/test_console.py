from __future__ import annotations

from pathlib import Path

import pytest

from scanner.console import show_summary
from scanner.tally import Tally
from scanner.types import Failed, FileFacts, ImageRef
from scanner.verdict import OperatingPoint, judge

EVIL = "\x1b[2J\u202e\x07"


def test_nothing_in_the_summary_is_obeyed_by_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whoever made the model or named the files."""
    tally = Tally(keep_suspects=1, keep_unsure=1, keep_failures=1)
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


def _summary(point: OperatingPoint, scores: dict[str, float], known: int = 0) -> None:
    tally = Tally(keep_suspects=9, keep_unsure=2, keep_failures=1)
    for name, p_fake in scores.items():
        tally.add(judge(ImageRef(Path(name)), FileFacts(), p_fake, point))
    show_summary(
        tally, seconds=2.0, device="cpu", model="m@0", point=point, known=known, left_out="",
        report=None, interrupted=False,
    )  # fmt: skip


def test_the_summary_says_where_fake_really_begins_and_names_the_likeliest_unsure(
    capsys: pytest.CaptureFixture[str],
) -> None:
    scores = {"a": 0.95, "b": 0.31, "c": 0.7, "d": 0.6, "e": 0.1}
    _summary(OperatingPoint("youden", 0.5, (0.3, 0.8)), scores)
    lines = capsys.readouterr().out.splitlines()
    assert "Suspect  1 (P(fake) 0.8000 or more: youden, m@0)" in lines
    at = lines.index("Unsure   3 (P(fake) 0.3000 to 0.8000): look yourself")
    assert [line.strip() for line in lines[at + 1 : at + 4]] == [
        "0.7000  c", "0.6000  d", "and 1 more; --report lists them",
    ]  # fmt: skip


def test_what_no_model_can_judge_comes_last_with_its_reason_and_no_number(
    capsys: pytest.CaptureFixture[str],
) -> None:
    point = OperatingPoint("youden", 0.5, (0.3, 0.8))
    tally = Tally(keep_suspects=1, keep_unsure=3, keep_failures=1)
    for name, p_fake, notes in (
        ("blank", 0.45, ("extension_mismatch", "near_uniform")),
        ("strip", 0.45, ("small", "elongated")),
        ("doubtful", 0.31, ()),
    ):
        tally.add(judge(ImageRef(Path(name)), FileFacts(notes=notes), p_fake, point))
    show_summary(
        tally, seconds=2.0, device="cpu", model="m@0", point=point, left_out="", report=None,
        interrupted=False,
    )  # fmt: skip
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    at = lines.index("Unsure   3 (P(fake) 0.3000 to 0.8000): look yourself")
    assert lines[at + 1 : at + 4] == [
        "0.3100  doubtful", "--  blank (near_uniform)", "--  strip (small, elongated)",
    ]  # fmt: skip


def test_a_custom_threshold_has_no_band_in_the_summary(capsys: pytest.CaptureFixture[str]) -> None:
    _summary(OperatingPoint("custom", 0.5), {"a": 0.5, "b": 0.4})
    shown = capsys.readouterr().out
    assert "1 (P(fake) 0.5000 or more: custom" in shown
    assert "Unsure" not in shown


@pytest.mark.parametrize(("known", "rate"), [(0, "1.0"), (1, "0.5")])
def test_the_rate_leaves_out_what_was_remembered(
    capsys: pytest.CaptureFixture[str], known: int, rate: str
) -> None:
    _summary(OperatingPoint("custom", 0.5), {"a": 0.5, "b": 0.4}, known)
    assert f"2 in 2.0 s ({rate} a second, on cpu)" in capsys.readouterr().out


def test_a_scan_that_remembered_everything_claims_no_rate(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _summary(OperatingPoint("custom", 0.5), {"a": 0.5, "b": 0.4}, known=2)
    assert "2 in 2.0 s (none looked at anew, on cpu)" in capsys.readouterr().out
