"""States the triage screen can come into: scans that break, odd files, small terminals, crashes."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest
from tui_fakes import TEN, MadeUpPlan, names, recorded, result, screen_of, text_of, toasts, until
from tui_fakes import triage as opened

from scanner.errors import ImgscanError
from scanner.tui.app import TriageApp, run_app
from scanner.tui.crash import CrashLog
from scanner.tui.screens import ConfirmScreen, following
from scanner.tui.screens.triage import TriageScreen
from scanner.types import Failed, Verdict
from scanner.verdict import OperatingPoint, judge

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
SCREENS = Path(__file__).parent / "tui_screens"


def layouts_of(screen: TriageScreen, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Grows by one each time that the screen is laid out from now on."""
    laid_out: list[object] = []
    layout = screen._refresh_layout

    def noted(*args: Any, **kwargs: Any) -> None:
        laid_out.append(args)
        layout(*args, **kwargs)

    monkeypatch.setattr(screen, "_refresh_layout", noted)
    return laid_out


@pytest.mark.asyncio
async def test_a_scan_that_fails_midway_keeps_its_list_and_says_what_to_do(
    tmp_path, monkeypatch
) -> None:
    # On a busy machine the toast has gone before it is looked for.
    monkeypatch.setattr("scanner.tui.screens.following._ERROR_SECONDS", 600.0)
    plan = MadeUpPlan(TEN[:6], ImgscanError("the disk is full; free some space"))
    async with opened(tmp_path / "j.sqlite", plan, listed=6) as (pilot, screen):
        await until(pilot, lambda: "the disk is full; free some space" in toasts(pilot.app))
        assert len(names(screen)) == 6
        assert "Broke off after 6 · R goes on" in text_of(pilot.app)
        await pilot.press("f")
        assert screen.triage.listing.reviewed() == 1


@pytest.mark.asyncio
async def test_a_defect_in_the_scan_leaves_the_screen_and_a_log(tmp_path) -> None:
    plan = MadeUpPlan(TEN[:3], ZeroDivisionError("never"))
    async with opened(tmp_path / "j.sqlite", plan, listed=3) as (pilot, _):
        await until(pilot, lambda: "please report" in toasts(pilot.app))
        assert "Traceback" not in text_of(pilot.app)
        (log,) = tmp_path.glob("tui-*.log")
        assert "ZeroDivisionError: never" in log.read_text()


@pytest.mark.asyncio
async def test_the_list_fills_while_the_scan_runs_and_the_scan_pauses_and_cancels(
    tmp_path, monkeypatch
) -> None:
    # What was said a moment ago stands where the scan's line does.
    monkeypatch.setattr("scanner.tui.screens.following._FLASH_SECONDS", 0.01)
    gates = {name: threading.Event() for name in ("dog.png", "gnu.png", "ibis.png")}
    plan = MadeUpPlan(gates=gates)
    async with opened(tmp_path / "j.sqlite", plan, listed=None) as (pilot, screen):
        run = screen.scan_run
        await until(pilot, lambda: run.progress.scanned == 3)  # and waits for the dog
        gates["dog.png"].set()
        await until(pilot, lambda: run.progress.scanned == 6)  # and waits for the gnu
        await until(pilot, lambda: screen.triage.listing.total >= 1)
        await pilot.press("p")
        await until(pilot, lambda: run.paused)
        gates["gnu.png"].set()
        await until(pilot, lambda: screen._progress.state == "paused")
        await until(pilot, lambda: screen.triage.listing.total == 7)
        await until(pilot, lambda: "Paused 7/10" in text_of(pilot.app))
        await pilot.press("f")
        await until(pilot, lambda: screen.triage.listing.reviewed() == 1)
        await pilot.press("p")
        await until(pilot, lambda: run.progress.scanned == 8)  # and waits for the ibis
        await until(pilot, lambda: screen._progress.state == "scanning")
        before = screen.triage.subject.scan_id
        await pilot.press("R")  # refused: one is running
        assert screen_of(pilot.app).triage.subject.scan_id == before
        await pilot.press("X")
        await until(pilot, lambda: isinstance(pilot.app.screen, ConfirmScreen))
        await pilot.press("y")
        await until(pilot, lambda: run._stop.is_set())
        gates["ibis.png"].set()
        await until(pilot, lambda: screen._progress.state == "cancelled")
        await until(pilot, lambda: screen.triage.listing.total == 8)
        assert screen.triage.listing.reviewed() == 1


@pytest.mark.asyncio
async def test_counts_that_follow_a_scan_do_not_lay_the_screen_out_anew(
    tmp_path, monkeypatch
) -> None:
    """What is listed, scanned and left has another length with each hundred files."""
    monkeypatch.setattr("scanner.tui.scanning._WRITE_SECONDS", 0.0)
    monkeypatch.setattr("scanner.tui.scanning._TELL_SECONDS", 0.0)
    given = [result(f"/pictures/{n:04}.png", n / 3000) for n in range(1300)]
    gates = {f"{n:04}.png": threading.Event() for n in (100, 200, 1200)}
    plan = MadeUpPlan(given, gates=gates)
    async with opened(tmp_path / "j.sqlite", plan, listed=None, size=(120, 24)) as (pilot, screen):
        await until(pilot, lambda: "100 listed" in text_of(pilot.app))
        await pilot.press("down", "f")
        await until(pilot, lambda: "1 decided" in text_of(pilot.app))
        laid_out = layouts_of(screen, monkeypatch)
        gates["0100.png"].set()
        await until(pilot, lambda: "200 listed" in text_of(pilot.app))
        await pilot.press("f", "u")
        assert not laid_out
        gates["0200.png"].set()
        await until(pilot, lambda: "1,200 listed" in text_of(pilot.app))
        assert len(laid_out) <= 2  # for lines that are longer than any before them
        gates["1200.png"].set()
        await until(pilot, lambda: not screen.running)


@pytest.mark.asyncio
async def test_the_cursor_stays_on_its_file_while_others_come_above(tmp_path) -> None:
    gate = threading.Event()
    given = [result(f"/pictures/{n}.png", n / 100) for n in range(60)]
    plan = MadeUpPlan(given, gates={"30.png": gate})
    async with opened(tmp_path / "j.sqlite", plan, listed=None) as (pilot, screen):
        await until(pilot, lambda: screen.triage.listing.total >= 1)
        gate.wait(0)
        await pilot.press("down", "up", "down")
        before = None if screen.item is None else screen.item.ref
        gate.set()
        await until(pilot, lambda: screen.triage.listing.total == 60)
        await pilot.pause()
        if before is not None and screen.files.cursor:
            assert screen.item is not None
            assert screen.item.ref == before


@pytest.mark.asyncio
async def test_what_comes_while_the_list_is_being_read_is_listed_though_no_news_follow(
    tmp_path, monkeypatch
) -> None:
    gate, ended = threading.Event(), threading.Event()
    real, reads = following.fetch, 0

    def fetch(*args: Any) -> Any:
        nonlocal reads
        reads += 1
        added = real(*args)
        if reads == 1:  # of an empty list; then all comes, and the scan is over
            gate.set()
            assert ended.wait(60)
        return added

    monkeypatch.setattr(following, "fetch", fetch)
    plan = MadeUpPlan(TEN, gates={TEN[0].ref.path.name: gate})
    async with opened(tmp_path / "j.sqlite", plan, listed=None) as (pilot, screen):
        await until(pilot, lambda: not screen.running)
        ended.set()
        await until(pilot, lambda: screen.triage.listing.total == len(TEN))


@pytest.mark.asyncio
async def test_an_empty_folder_says_that_there_are_no_pictures(tmp_path) -> None:
    async with opened(tmp_path / "j.sqlite", MadeUpPlan([]), listed=0) as (pilot, _):
        await until(pilot, lambda: "There are no pictures in what was given" in toasts(pilot.app))
        await pilot.press(*"frusnNdvogcCMLwl", "space", "ctrl+a", "enter", "ctrl+z", "g", "f", "g")
        await pilot.press("e", "down", "1", "3", "end")
        assert pilot.app.is_running


BAND = OperatingPoint("youden", 0.6, (0.55, 0.72))


def judged_with_unsure() -> list[Verdict | Failed]:
    return [
        each if isinstance(each, Failed) else judge(each.ref, each.facts, each.p_fake, BAND)
        for each in TEN
    ]


@pytest.mark.asyncio
async def test_counts_and_decisions_do_not_lay_the_screen_out_anew(tmp_path, monkeypatch) -> None:
    async with opened(recorded(tmp_path / "j.sqlite"), size=(120, 24)) as (pilot, screen):
        await pilot.press("f", "space", "ctrl+a", "escape")  # the longest line that counts
        await pilot.pause(0.2)
        laid_out = layouts_of(screen, monkeypatch)
        await pilot.press("f", "r", "space", "space", "ctrl+a", "escape", "ctrl+z")
        await pilot.pause(0.1)
        assert not laid_out
        await pilot.press("g")
        await until(pilot, lambda: bool(laid_out))


@pytest.mark.asyncio
async def test_unsure_is_listed_filtered_and_counted_as_the_verdict_that_it_is(tmp_path) -> None:
    plan = MadeUpPlan(judged_with_unsure(), point=BAND)
    async with opened(tmp_path / "j.sqlite", plan, size=(120, 24)) as (pilot, screen):
        shown = text_of(pilot.app)
        assert "fake from P(fake) 72.00%, unsure from 55.00% (youden)" in shown
        assert "3 suspect · 3 unsure · 1 failed" in shown
        assert "70.00% unsure" in shown
        await pilot.press("slash", *"verdict:unsure", "enter")
        await until(pilot, lambda: names(screen) == ["jay", "cat", "fox"])
    journal = tmp_path / "j.sqlite"
    async with opened(journal, size=(120, 24)) as (pilot, _):
        assert "Earlier scan · 3 suspect · 3 unsure · 1 failed" in text_of(pilot.app)


@pytest.mark.asyncio
async def test_a_folder_of_only_bad_files_shows_each_reason(tmp_path) -> None:
    bad: list[Failed] = [result(f"/pictures/{n}.png", None) for n in range(3)]  # type: ignore[misc]
    async with opened(tmp_path / "j.sqlite", MadeUpPlan(bad), listed=3) as (pilot, screen):
        shown = text_of(pilot.app)
        assert shown.count("truncated") == 3
        assert "3 failed" in shown
        await pilot.press("d")
        assert "All that is listed is decided" in toasts(pilot.app)
        await pilot.press("g")
        assert screen.groups[0].density == 0.0


@pytest.mark.asyncio
async def test_names_show_literally_whatever_is_in_them(tmp_path) -> None:
    evil = [
        result("/pictures/[bold red]x[b].png", 0.9),
        result("/pictures/\x1b[31mred\x07.png", 0.8),
        result("/pictures/\u202egpj.exe\u2066.png", 0.7),
        result(Path(os.fsdecode(b"/pictures/\xff\xfe.png")), 0.65),
        result("/pictures/日本語🎈.png", 0.62),
    ]
    async with opened(tmp_path / "j.sqlite", MadeUpPlan(evil), listed=5) as (pilot, _):
        shown = text_of(pilot.app)
        assert "[bold red]x[b].png" in shown
        assert "\\x1b[31mred\\x07.png" in shown
        assert "\\u202egpj.exe\\u2066.png" in shown
        assert "\\xff\\xfe.png" in shown
        assert "日本語🎈.png" in shown
        assert not any(mark in shown for mark in "\x1b\x07\u202e\u2066")
        await pilot.press("f", "f", "f", "f", "f", "g", "c", "g", "e")
        await pilot.press("escape", "down", "down", "c", "end", "c")


@pytest.mark.asyncio
async def test_the_cursor_stays_in_sight_when_the_terminal_shrinks(tmp_path) -> None:
    many = [result(f"/pictures/{n:03}.png", 0.9) for n in range(100)]
    journal = recorded(tmp_path / "j.sqlite", many)
    async with opened(journal, size=(160, 50), listed=100) as (pilot, screen):
        for _ in range(30):
            await pilot.press("down")
        await pilot.resize_terminal(80, 12)
        await pilot.pause()
        assert "▶" in text_of(pilot.app)
        await pilot.resize_terminal(20, 5)
        await pilot.pause()
        await pilot.press("f", "question_mark", "escape")
        await pilot.resize_terminal(250, 70)
        await pilot.pause()
        assert "▶" in text_of(pilot.app)
        assert screen.files.cursor == 31


@pytest.mark.asyncio
async def test_a_narrow_terminal_shows_the_way_out_and_that_the_help_goes_on(tmp_path) -> None:
    async with opened(recorded(tmp_path / "j.sqlite"), size=(60, 24)) as (pilot, _):
        assert "q quit" in text_of(pilot.app)
        await pilot.press("question_mark")
        await until(pilot, lambda: "more below ↓" in text_of(pilot.app))
        await pilot.press("end")
        await until(pilot, lambda: "more below ↓" not in text_of(pilot.app))
        assert "arrows: scroll" in text_of(pilot.app)


@pytest.mark.asyncio
@pytest.mark.parametrize("size", [(80, 24), (120, 30)])
async def test_the_main_screens_look_as_they_did(tmp_path, size) -> None:
    """Compared as text; with UPDATE_SCREENS=1 they are written anew, to be looked at."""
    journal = recorded(tmp_path / "j.sqlite")
    async with opened(journal, size=size) as (pilot, _):
        seen = {}
        await pilot.press("f", "space", "down")
        seen["list"] = text_of(pilot.app)
        await pilot.press("escape", "g")
        seen["folders"] = text_of(pilot.app)
        await pilot.press("g", "e")
        seen["note"] = text_of(pilot.app)
        await pilot.press("escape", "question_mark")
        await until(pilot, lambda: "more below" in text_of(pilot.app))
        seen["help"] = text_of(pilot.app)
        await pilot.press("escape", "M")
        seen["move"] = text_of(pilot.app)
    for name, text in seen.items():
        text = text.replace(str(tmp_path), "TMP")
        path = SCREENS / f"{name}-{size[0]}x{size[1]}.txt"
        # The path of the journal has another length each time, and what follows it moves.
        kept = "\n".join(text.splitlines()[1:]) + "\n"
        if os.environ.get("UPDATE_SCREENS"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(kept, encoding="utf-8")
        assert kept == path.read_text(encoding="utf-8"), name


@pytest.mark.asyncio
async def test_without_colour_cursor_and_verdicts_are_still_told(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    async with opened(recorded(tmp_path / "j.sqlite")) as (pilot, _):
        assert pilot.app.no_color
        lines = text_of(pilot.app).splitlines()
        assert [line for line in lines if "▶" in line and "eel.png" in line and " fake " in line]


@pytest.mark.asyncio
async def test_a_defect_of_the_screen_ends_in_a_log_and_the_way_back(tmp_path, monkeypatch) -> None:
    journal = recorded(tmp_path / "j.sqlite")
    app = TriageApp(journal, None, reviewer="ann", crash=CrashLog(tmp_path))

    async def press_help() -> None:
        async with app.run_test() as pilot:
            await pilot.pause()
            monkeypatch.setattr(screen_of(app), "action_help", lambda: 1 / 0)
            await pilot.press("question_mark")

    with pytest.raises(ZeroDivisionError):
        await press_help()
    (log,) = tmp_path.glob("tui-*.log")
    assert "ZeroDivisionError" in log.read_text()
    monkeypatch.setattr(app, "run", lambda: None)
    with pytest.raises(ImgscanError) as told:
        run_app(app)
    assert str(log) in str(told.value)
    assert f"imgscan --tui --journal {journal}" in str(told.value)
