"""Every key of the triage screen, pressed as a person would, on a list of ten files."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from textual.events import Key
from textual.widgets import Input
from textual.widgets._toast import Toast
from tui_fakes import (
    PIPELINE,
    POINT,
    TEN,
    decision,
    names,
    recorded,
    result,
    screen_of,
    text_of,
    toasts,
    triage,
    until,
)

from scanner.journal import Journal
from scanner.tui import keys
from scanner.tui.app import TriageApp
from scanner.tui.screens import AskScreen, ChooseScreen, ConfirmScreen, HelpScreen, NoteScreen

BY_P = ["eel", "ant", "hen", "jay", "cat", "fox", "gnu", "bee", "ibis", "dog"]


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return recorded(tmp_path / "case.sqlite")


@pytest.mark.asyncio
async def test_the_surest_suspects_come_first_and_failed_files_last(journal) -> None:
    async with triage(journal) as (_, screen):
        assert names(screen) == BY_P
        assert under(screen) == "eel"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("key", "wanted"), [("f", "fake"), ("r", "real"), ("u", "unsure"), ("s", "skip")]
)
async def test_a_decision_is_in_the_journal_and_the_cursor_goes_on(journal, key, wanted) -> None:
    async with triage(journal) as (pilot, screen):
        await pilot.press(key)
        assert decision(screen, "eel") == wanted
        assert under(screen) == "ant"
        review = screen.reader.reviews.current(TEN[4].facts.sha256 or "")
        assert review is not None
        assert (review.reviewer, review.model_digest) == ("ann", "0123456789ab")
        assert "1 decided" in text_of(pilot.app)


@pytest.mark.asyncio
async def test_keys_typed_ahead_decide_on_the_file_they_were_typed_for(journal) -> None:
    """All are there before the screen has drawn anything: as on a machine that is busy."""
    async with triage(journal) as (pilot, screen):
        for key, character in (("f", "f"), ("r", "r"), ("down", None), ("u", "u")):
            pilot.app.post_message(Key(key, character))
        await pilot.pause()
        await until(pilot, lambda: "unsure" in [decision(screen, name) for name in BY_P])
        assert [decision(screen, name) for name in BY_P[:5]] == [
            "fake", "real", None, "unsure", None,
        ]  # fmt: skip


@pytest.mark.asyncio
async def test_undo_goes_back_to_where_it_was_decided_and_redo_decides_again(journal) -> None:
    async with triage(journal) as (pilot, screen):
        await pilot.press("f", "r")
        await pilot.press("ctrl+z")
        assert (decision(screen, "eel"), decision(screen, "ant")) == ("fake", None)
        assert under(screen) == "ant"
        await pilot.press("backspace")
        assert decision(screen, "eel") is None
        await pilot.press("backspace")
        assert "There is nothing to undo" in toasts(pilot.app)
        await pilot.press("ctrl+y", "y")
        assert (decision(screen, "eel"), decision(screen, "ant")) == ("fake", "real")
        await pilot.press("y")
        assert "There is nothing to redo" in toasts(pilot.app)


@pytest.mark.asyncio
async def test_undo_reaches_into_an_earlier_session(journal) -> None:
    async with triage(journal) as (pilot, _):
        await pilot.press("f")
    async with triage(journal) as (pilot, screen):
        assert decision(screen, "eel") == "fake"
        await pilot.press("ctrl+z")
        assert decision(screen, "eel") is None


@pytest.mark.asyncio
async def test_a_selection_is_decided_and_undone_together(journal) -> None:
    async with triage(journal) as (pilot, screen):
        await pilot.press("space", "down", "space", "r")
        assert [decision(screen, name) for name in ("eel", "ant", "hen")] == ["real", None, "real"]
        assert not screen.selected
        await pilot.press("ctrl+z")
        assert [decision(screen, name) for name in ("eel", "hen")] == [None, None]


@pytest.mark.asyncio
async def test_a_range_and_all_that_is_listed_can_be_selected(journal) -> None:
    async with triage(journal) as (pilot, screen):
        await pilot.press("space", "down", "down", "v")
        assert len(screen.selected) == 4
        await pilot.press("ctrl+a")
        assert len(screen.selected) == 10
        await pilot.press("ctrl+a")
        assert not screen.selected
        await pilot.press("space", "escape")
        assert not screen.selected


@pytest.mark.asyncio
async def test_what_is_selected_but_not_listed_is_not_decided(journal) -> None:
    async with triage(journal) as (pilot, screen):
        await pilot.press("space", "space")  # eel, ant
        await show(pilot, screen, "ant")
        await pilot.press("f")
        assert (decision(screen, "ant"), decision(screen, "eel")) == ("fake", None)


@pytest.mark.asyncio
async def test_a_note_and_tags_are_kept_by_later_decisions(journal) -> None:
    async with triage(journal) as (pilot, screen):
        await pilot.press("e")
        assert isinstance(pilot.app.screen, NoteScreen)
        await pilot.press(*"six fingers", "tab", *"hands odd hands", "enter")
        assert decision(screen, "eel") == "skip"
        await pilot.press("f")
        item = screen.triage.item(0)
        assert item is not None
        assert (item.review, item.note, item.tags) == ("fake", "six fingers", ("hands", "odd"))
        await pilot.press("home", "e", "escape")
        assert screen.triage.item(0) == item


@pytest.mark.asyncio
async def test_a_note_that_is_opened_again_shows_nothing_of_the_one_before(journal) -> None:
    async with triage(journal) as (pilot, screen):
        await pilot.press("e", *"given up", "tab", *"hands", "escape", "down", "e", *"x", "enter")
        items = {item.ref.path.stem: item for item in screen.triage.items(range(10))}
        assert (items["eel"].review, items["eel"].note) == (None, "")
        assert (items["ant"].note, items["ant"].tags) == ("x", ())
        await pilot.press("e", *"yz", "tab", *"t", "enter", "home", "e")
        item = screen.triage.items([items["ant"].seq])[0]
        assert (item.note, item.tags) == ("xyz", ("t",))
        box = pilot.app.screen.query_one("#note", Input)
        assert (box.value, box.has_focus) == ("", True)


@pytest.mark.asyncio
async def test_enter_is_the_safe_answer_whatever_a_question_before_was_left_at(journal) -> None:
    async with triage(journal) as (pilot, screen):
        await pilot.press("f", "home", "ctrl+a", "r", "tab", "escape", "r", "enter")
        assert not isinstance(pilot.app.screen, ConfirmScreen)
        assert decision(screen, "ant") is None
        await pilot.press("r", "tab", "enter")
        assert decision(screen, "ant") == "real"


@pytest.mark.asyncio
async def test_tags_for_a_selection_leave_each_note_as_it_is(journal) -> None:
    async with triage(journal) as (pilot, screen):
        await pilot.press("e", *"mine", "enter", "space", "space", "e", "tab", *"batch", "enter")
        items = {item.ref.path.stem: item for item in screen.triage.items(range(10))}
        assert (items["eel"].note, items["eel"].tags) == ("mine", ("batch",))
        assert (items["ant"].note, items["ant"].tags) == ("", ("batch",))


@pytest.mark.asyncio
async def test_next_and_previous_pass_over_what_is_decided(journal) -> None:
    async with triage(journal) as (pilot, screen):
        await pilot.press("f", "f", "home", "n")
        assert under(screen) == "hen"
        await pilot.press("N")
        assert under(screen) == "dog"  # goes round
        await pilot.press("n")
        assert under(screen) == "hen"


@pytest.mark.asyncio
async def test_the_most_doubtful_is_the_undecided_one_nearest_to_the_threshold(journal) -> None:
    async with triage(journal) as (pilot, screen):
        await pilot.press("d")
        assert under(screen) == "cat"
        await pilot.press("u", "d")
        assert under(screen) == "fox"


@pytest.mark.asyncio
async def test_when_all_is_decided_next_says_so(journal) -> None:
    async with triage(journal) as (pilot, _):
        await pilot.press("ctrl+a", "s", "n")
        assert "All that is listed is decided" in toasts(pilot.app)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("key", "first", "reversed_first"),
    [
        ("1", "ibis", "eel"),
        ("2", "ant", "dog"),
        ("3", "ant", "jay"),
        ("4", "ant", "eel"),
        ("5", "hen", "ibis"),
        ("6", "ant", "fox"),
        ("7", "cat", "dog"),
        ("0", "ant", "jay"),
    ],
)
async def test_each_column_sorts_and_sorts_the_other_way_round(
    journal, key, first, reversed_first
) -> None:
    async with triage(journal) as (pilot, screen):
        if key == "6":
            await show(pilot, screen, "fox")
            await pilot.press("f")
            await show(pilot, screen, "")
        await pilot.press(key)
        assert names(screen)[0] == first
        await pilot.press(key)
        firsts = names(screen)
        assert firsts[0] == reversed_first or (key == "7" and firsts[-1] == "dog")


@pytest.mark.asyncio
async def test_the_filter_is_applied_while_it_is_typed(journal) -> None:
    async with triage(journal) as (pilot, screen):
        await pilot.press("slash", *"p:50%..70%")
        await until(pilot, lambda: names(screen) == ["jay", "cat", "fox"])
        await pilot.press("enter", "f")
        assert decision(screen, "jay") == "fake"
        await pilot.press("escape")
        assert len(screen.triage.listing) == 10


@pytest.mark.asyncio
async def test_what_is_typed_right_after_the_slash_decides_nothing(journal) -> None:
    """Textual gives keys of one burst to where they were typed: here they are lost, at worst."""
    async with triage(journal) as (pilot, screen):
        for key in ("/", "s", "u", "r"):
            pilot.app.post_message(Key("slash" if key == "/" else key, key))
        bar = screen.query_one("#filter", Input)
        await until(pilot, lambda: screen.focused is bar)
        await pilot.pause(0.1)
        assert screen.triage.listing.reviewed() == 0
        await pilot.press(*"fox")
        await until(pilot, lambda: names(screen) == ["fox"])


@pytest.mark.asyncio
async def test_enter_on_a_wrong_filter_stays_in_the_bar_and_says_why(journal) -> None:
    """In the list, what is typed to mend it would decide on pictures."""
    async with triage(journal) as (pilot, screen):
        await pilot.press("/", *"p:abc", "enter", "r")
        assert screen.query_one("#filter", Input).value == "p:abcr"
        assert "write p:" in str(toasts(pilot.app))
        assert screen.triage.listing.reviewed() == 0


@pytest.mark.asyncio
async def test_a_wrong_filter_says_what_can_be_typed_and_hides_nothing(journal) -> None:
    async with triage(journal) as (pilot, screen):
        await show(pilot, screen, "verdict:maybe")
        assert "verdict: one of fake, real, unsure, failed" in text_of(pilot.app)
        assert len(screen.triage.listing) == 10


@pytest.mark.asyncio
async def test_the_filter_completes_at_the_right_arrow(journal) -> None:
    async with triage(journal) as (pilot, screen):
        await pilot.press("slash", *"verdict:fa")
        bar = screen.query_one("#filter", Input)
        await until(pilot, lambda: bool(bar._suggestion))
        await pilot.press("right")
        assert bar.value == "verdict:fake"


@pytest.mark.asyncio
async def test_deciding_under_a_filter_shows_the_next_that_passes(journal) -> None:
    async with triage(journal) as (pilot, screen):
        await show(pilot, screen, "review:none")
        await pilot.press("f", "f")
        assert names(screen)[0] == under(screen) == "hen"
        assert len(screen.triage.listing) == 8


@pytest.mark.asyncio
async def test_folders_show_their_density_and_open_on_enter(journal) -> None:
    async with triage(journal) as (pilot, screen):
        await pilot.press("end", "up", "up", "g")
        assert [(g.path.name, g.suspects, g.files) for g in screen.groups] == [
            ("b", 3, 6),
            ("a", 2, 4),
        ]
        assert screen.groups[1].density == pytest.approx(2 / 3)
        await pilot.press("ctrl+a", "space", "v")  # nothing, for it would not be seen
        assert not screen.selected
        assert "Enter opens a folder" in toasts(pilot.app)
        await pilot.press("down", "enter")
        await until(pilot, lambda: names(screen) == ["ant", "cat", "bee", "dog"])
        assert screen.files.cursor == 0
        await pilot.press("escape")
        assert screen.grouped
        await pilot.press("escape")
        assert not screen.grouped
        assert len(screen.triage.listing) == 10


@pytest.mark.asyncio
async def test_the_row_under_the_cursor_is_seen_wherever_the_cursor_goes(tmp_path) -> None:
    many = [result(f"/pictures/{n}.png", 1 - n / 400) for n in range(400)]
    async with triage(recorded(tmp_path / "case.sqlite", many), listed=400) as (pilot, screen):
        for key in ("pagedown", "pagedown", "end", "pageup", "g", "g", "home", "d", "n"):
            await pilot.press(key)
            await pilot.pause()
            if not screen.grouped:
                item = screen.triage.item(screen.files.cursor)
                assert item is not None
                shown = [line for line in text_of(pilot.app).splitlines() if "▶" in line]
                assert len(shown) == 1, key
                assert f" {item.ref.path.name} " in shown[0], key


@pytest.mark.asyncio
async def test_the_scroll_bar_is_there_when_there_is_more_than_can_be_seen(tmp_path) -> None:
    many = [result(f"/pictures/{n // 9}/{n}.png", 1 - n / 400) for n in range(400)]
    async with triage(recorded(tmp_path / "case.sqlite", many), listed=400) as (pilot, screen):
        files, groups = screen.files, screen.groups_table
        for key in ("down", "g", "g", "g"):
            await pilot.press(key)
            await pilot.pause()
            shown = groups if screen.grouped else files
            assert shown.show_vertical_scrollbar, key
            assert shown.vertical_scrollbar.window_virtual_size == shown.count + 1
        await pilot.press("g", "slash", *"/pictures/7/", "enter")
        await until(pilot, lambda: files.count == 9)
        await pilot.pause()
        assert not files.show_vertical_scrollbar
        await pilot.press("escape")
        await until(pilot, lambda: files.count == 400)
        await pilot.pause()
        assert files.show_vertical_scrollbar
        assert files.max_scroll_y == 401 - files.size.height


@pytest.mark.asyncio
async def test_folders_are_drawn_at_one_go(tmp_path, monkeypatch) -> None:
    """A second time would come a frame later, and take as long again."""
    many = [result(f"/pictures/{n // 9}/{n}.png", 1 - n / 400) for n in range(400)]
    async with triage(recorded(tmp_path / "case.sqlite", many), listed=400) as (pilot, screen):
        await pilot.press("g", "g")  # the first time makes the scroll bar
        await pilot.pause(0.2)
        drawn: list[object] = []
        draw = screen._compositor_refresh

        def noted() -> None:
            if screen._compositor._dirty_regions:
                drawn.append(set(screen._compositor._dirty_regions))
            draw()

        monkeypatch.setattr(screen, "_compositor_refresh", noted)
        for _ in range(2):
            drawn.clear()
            await pilot.press("g")
            await pilot.pause(0.2)
            assert len(drawn) == 1, drawn


@pytest.mark.asyncio
async def test_the_order_of_many_names_is_read_beside_the_keys(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("scanner.tui.screens.listed._NAMES_AT_ONCE", 5)
    async with triage(recorded(tmp_path / "case.sqlite"), listed=10) as (pilot, screen):
        # Before anybody asks.
        await until(pilot, lambda: screen.triage.names_known)
        # As in a scan that goes on.
        screen.triage.listing.set_names([])
        assert not screen.triage.names_known
        await pilot.press("3")
        await until(pilot, lambda: screen.triage.listing.sort == "name")
        assert names(screen) == sorted(BY_P)
        assert screen.files.cursor == 0


@pytest.mark.asyncio
async def test_a_whole_folder_is_decided_after_a_question_and_undone_at_once(tmp_path) -> None:
    many = [result(f"/pictures/a/{n}.png", n / 50) for n in range(30)]
    journal = recorded(tmp_path / "case.sqlite", many)
    async with triage(journal, listed=30) as (pilot, screen):
        await pilot.press("g", "f")
        assert isinstance(pilot.app.screen, ConfirmScreen)
        await pilot.press("enter")  # the safe answer
        assert screen.triage.listing.reviewed() == 0
        await pilot.press("f", "y")
        assert screen.triage.listing.reviewed() == 30
        await pilot.press("ctrl+z")
        assert screen.triage.listing.reviewed() == 0


@pytest.mark.asyncio
async def test_what_would_be_decided_anew_is_counted_and_asked_about(journal) -> None:
    async with triage(journal) as (pilot, screen):
        await pilot.press("f", "r", "f", "home")  # eel, ant, hen
        await pilot.press("space", "space", "space", "space", "f")
        assert isinstance(pilot.app.screen, ConfirmScreen)
        assert "Decide 4 files: fake?" in text_of(pilot.app)
        assert "1 of them is decided otherwise already" in text_of(pilot.app)
        await pilot.press("n")
        assert (decision(screen, "ant"), decision(screen, "jay")) == ("real", None)
        await pilot.press("f", "y")
        assert (decision(screen, "ant"), decision(screen, "jay")) == ("fake", "fake")
        await pilot.press("g", "r")  # folder b, of six files
        assert "3 of them are decided otherwise already" in text_of(pilot.app)
        await pilot.press("y", "ctrl+z")
        assert "Undone: 6 decisions" in toasts(pilot.app)


@pytest.mark.asyncio
async def test_one_decision_is_told_in_the_singular(tmp_path) -> None:
    journal = recorded(tmp_path / "case.sqlite", [result("/pictures/a.png", 0.9)])
    async with triage(journal, listed=1) as (pilot, _):
        await pilot.press("g", "f")
        await pilot.press("g", "e", *"x", "enter", "w")
        assert "Save 1 listed file as" in text_of(pilot.app)


@pytest.mark.asyncio
async def test_what_a_filter_leaves_out_is_counted(journal) -> None:
    async with triage(journal, size=(80, 24)) as (pilot, screen):
        assert " 10 listed · 0 decided" in text_of(pilot.app)
        await show(pilot, screen, "verdict:fake")
        assert " 5 of 10 listed · 0 decided" in text_of(pilot.app)


@pytest.mark.asyncio
async def test_tags_in_use_complete_the_filter(journal) -> None:
    async with triage(journal) as (pilot, screen):
        await pilot.press("e", "tab", *"hands", "enter", "slash", *"tag:h")
        bar = screen.query_one("#filter", Input)
        await until(pilot, lambda: bool(bar._suggestion))
        await pilot.press("right", "enter")
        await until(pilot, lambda: names(screen) == ["eel"])


@pytest.mark.asyncio
async def test_hundreds_at_once_are_written_by_a_thread_and_undone_together(tmp_path) -> None:
    many = [result(f"/pictures/a/{n}.png", 0.9) for n in range(300)]
    journal = recorded(tmp_path / "case.sqlite", many)
    async with triage(journal, listed=300) as (pilot, screen):
        await pilot.press("ctrl+a", "f")
        await until(pilot, lambda: screen.triage.listing.reviewed() == 300)
        await pilot.press("ctrl+z")
        await until(pilot, lambda: screen.triage.listing.reviewed() == 0)
        await pilot.press("ctrl+y")
        await until(pilot, lambda: screen.triage.listing.reviewed() == 300)


@pytest.mark.asyncio
async def test_equal_files_are_decided_together(tmp_path) -> None:
    twins = [result(f"/pictures/{name}.png", 0.9, content=7) for name in ("one", "two")]
    journal = recorded(tmp_path / "case.sqlite", twins)
    async with triage(journal, listed=2) as (pilot, screen):
        await pilot.press("f")
        assert (decision(screen, "one"), decision(screen, "two")) == ("fake", "fake")
        assert screen.triage.listing.reviewed() == 2


@pytest.mark.asyncio
async def test_a_file_that_was_never_read_cannot_be_decided(tmp_path) -> None:
    from scanner.types import Failed, ImageRef

    unread = Failed(ImageRef(Path("/pictures/x.png")), "permission", "Permission denied")
    journal = recorded(tmp_path / "case.sqlite", [unread])
    async with triage(journal, listed=1) as (pilot, screen):
        await pilot.press("f")
        assert "was never read" in toasts(pilot.app)
        assert screen.triage.listing.reviewed() == 0


@pytest.mark.asyncio
async def test_keys_that_move(journal) -> None:
    async with triage(journal, size=(80, 10)) as (pilot, screen):
        for pressed, name in [
            ("down", "ant"), ("j", "hen"), ("up", "ant"), ("k", "eel"), ("k", "eel"),
            ("end", "dog"), ("down", "dog"), ("home", "eel"), ("G", "dog"), ("pageup", "fox"),
            ("pagedown", "dog"),
        ]:  # fmt: skip
            await pilot.press(pressed)
            assert under(screen) == name, pressed


@pytest.mark.asyncio
async def test_the_mouse_moves_the_cursor_and_sorts_by_titles(journal) -> None:
    async with triage(journal) as (pilot, screen):
        await pilot.click("#files", offset=(20, 3))
        assert under(screen) == "hen"
        await pilot.click("#files", offset=(30, 0))  # Name
        assert names(screen)[0] == "ant"


@pytest.mark.asyncio
async def test_the_keys_in_the_last_line_can_be_clicked(journal) -> None:
    async with triage(journal, size=(80, 24)) as (pilot, screen):
        line = text_of(pilot.app).splitlines()[-1]
        await pilot.click(offset=(line.index("f fake"), 23))
        assert decision(screen, "eel") == "fake"
        await pilot.click(offset=(line.index("undo"), 23))
        assert decision(screen, "eel") is None
        await pilot.click(offset=(line.index("folders"), 23))
        assert screen.grouped


@pytest.mark.asyncio
async def test_help_lists_every_key(journal) -> None:
    async with triage(journal, size=(80, 24)) as (pilot, _):
        for key in ("question_mark", "f1"):
            await pilot.press(key)
            assert isinstance(pilot.app.screen, HelpScreen)
            await pilot.press("escape")
    from scanner.tui.screens.help import help_text

    for _, members in keys.GROUPS:
        for member in members:
            assert member.what in help_text().plain


@pytest.mark.asyncio
async def test_the_palette_has_every_command(journal) -> None:
    async with triage(journal) as (pilot, screen):
        titles = {command.title for command in pilot.app.get_system_commands(screen)}
        for _, members in keys.GROUPS:
            for member in members:
                assert member.action.startswith("app.") or member.what in titles
        await pilot.press("ctrl+p", *"most doubtful", "enter")
        await until(pilot, lambda: under(screen) == "cat")


@pytest.mark.asyncio
async def test_the_path_is_copied_as_it_is(journal) -> None:
    async with triage(journal) as (pilot, _):
        await pilot.press("c")
        assert pilot.app.clipboard == "/pictures/b/eel.png"
        await pilot.press("g", "c")
        assert pilot.app.clipboard == "/pictures/b"


@pytest.mark.asyncio
async def test_the_theme_turns_dark_and_light(journal) -> None:
    async with triage(journal) as (pilot, _):
        dark = pilot.app.current_theme.dark
        await pilot.press("D")
        assert pilot.app.current_theme.dark is not dark
        await pilot.press("D")
        assert pilot.app.current_theme.dark is dark


@pytest.mark.asyncio
async def test_quit_leaves(journal) -> None:
    async with triage(journal) as (pilot, _):
        await pilot.press("q")
        assert pilot.app._exit


@pytest.mark.asyncio
async def test_every_action_that_a_key_names_exists(journal) -> None:
    async with triage(journal) as (_, screen):
        for _, members in keys.GROUPS:
            for member in members:
                if not member.action.startswith("app."):
                    assert hasattr(screen, "action_" + member.action.partition("(")[0])


@pytest.mark.asyncio
async def test_moves_are_asked_about_and_listed_for_undoing(tmp_path) -> None:
    file = tmp_path / "pictures" / "x.png"
    file.parent.mkdir()
    file.write_bytes(b"picture")
    journal = recorded(tmp_path / "case.sqlite", [result(file, 0.9)])
    async with triage(journal, listed=1) as (pilot, screen):
        await pilot.press("M")
        assert isinstance(pilot.app.screen, AskScreen)
        await pilot.press(*str(tmp_path / "fakes"), "enter")
        assert isinstance(pilot.app.screen, ConfirmScreen)
        assert file.exists()
        await pilot.press("y")
        moved = tmp_path / "fakes" / "x.png"
        await until(pilot, lambda: screen.item is not None and screen.item.ref.path == moved)
        assert moved.read_bytes() == b"picture"
        assert not file.exists()
        await pilot.press("L")
        assert isinstance(pilot.app.screen, ChooseScreen)
        await pilot.press("enter")
        await until(pilot, file.exists)
        await until(pilot, lambda: screen.item is not None and screen.item.ref.path == file)


@pytest.mark.asyncio
async def test_a_report_of_the_list_has_the_reviews(journal, tmp_path) -> None:
    async with triage(journal) as (pilot, screen):
        await pilot.press("f")
        await show(pilot, screen, "verdict:fake")
        out = tmp_path / "out.csv"
        await pilot.press("w")
        pilot.app.screen.query_one("#answer", Input).value = str(out)
        await pilot.press("enter")
        await until(pilot, out.exists)
        rows = list(csv.DictReader(out.open(newline="")))
        assert [Path(row["path"]).stem for row in rows] == BY_P[:5]
        assert {row["verdict"] for row in rows} == {"fake"}
        assert [row["review"] for row in rows] == ["fake", "", "", "", ""]
        await pilot.press("w")
        pilot.app.screen.query_one("#answer", Input).value = str(out)
        await pilot.press("enter")
        assert isinstance(pilot.app.screen, ConfirmScreen)
        await pilot.press("n")
        assert pilot.app.screen.query_one("#answer", Input).value == str(out)
        pilot.app.screen.query_one("#answer", Input).value = str(tmp_path / "out.doc")
        await pilot.press("enter")
        assert "the extension names the format" in text_of(pilot.app)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("key", "typed", "problem"),
    [
        ("w", "TMP/out.doc", "the extension names the format"),
        ("w", "TMP/none/out.csv", "there is no such folder"),
        ("w", "TMP/folder.csv", "is a folder"),
        ("l", "TMP/reviewed.csv", "put it into /pictures"),
        ("M", "TMP/case.sqlite", "is a file and no folder"),
        ("C", "TMP/case.sqlite/x", "is a file and no folder"),
        ("w", "", "type a name"),
    ],
)
async def test_a_dialog_keeps_a_bad_name_and_says_what_is_wrong(
    journal, tmp_path, key, typed, problem
) -> None:
    (tmp_path / "folder.csv").mkdir()
    typed = typed.replace("TMP", str(tmp_path))
    async with triage(journal, size=(80, 24)) as (pilot, _):
        await pilot.press(key)
        box = pilot.app.screen.query_one("#answer", Input)
        box.value = typed
        await pilot.press("enter")
        assert isinstance(pilot.app.screen, AskScreen)
        words = " ".join(text_of(pilot.app).replace("│", " ").split())
        assert problem in words
        assert "Esc cancels" in words
        assert box.value == typed
        await pilot.press("x")  # mending it takes the words away
        assert problem not in " ".join(text_of(pilot.app).replace("│", " ").split())
        await pilot.press("escape")
        assert not isinstance(pilot.app.screen, AskScreen)


@pytest.mark.asyncio
async def test_ctrl_c_says_what_to_press(journal) -> None:
    async with triage(journal) as (pilot, _):
        await pilot.press("ctrl+c")
        assert "To quit press q" in toasts(pilot.app)


@pytest.mark.asyncio
async def test_what_was_decided_in_this_sitting_is_told_at_its_end(journal) -> None:
    async with triage(journal) as (pilot, _):
        await pilot.press("f", "f")
    async with triage(journal) as (pilot, screen):
        app = screen.app
        assert app.farewell().startswith("decided on 0 pictures; go on with: imgscan --tui ")
        await pilot.press("f", "r", "u", "s", "f", "ctrl+z")
        assert app.farewell() == (
            "decided on 4 pictures: 1 fake, 1 unsure, 1 real, 1 skip; "
            f"go on with: imgscan --tui --journal {journal}"
        )


@pytest.mark.asyncio
@pytest.mark.parametrize("size", [(80, 24), (160, 40)])
async def test_toasts_leave_the_panel_and_the_keys_free(journal, size) -> None:
    async with triage(journal, size=size, notifications=True) as (pilot, screen):
        screen.tell(
            "what is wrong, in a line that is as long as such lines are; do this", error=True
        )
        await until(pilot, lambda: len(screen.query(Toast)) == 1)
        await pilot.pause(0.1)
        toast = screen.query_one(Toast).region
        assert toast.right <= 0.62 * size[0]
        assert toast.bottom <= size[1] - 2
        assert "do this" in text_of(pilot.app)


@pytest.mark.asyncio
async def test_scanning_again_shows_the_new_list_and_keeps_the_decisions(journal) -> None:
    async with triage(journal, again=True) as (pilot, _):
        await pilot.press("f", "R")
        app = pilot.app
        await until(pilot, lambda: screen_of(app).triage.subject.scan_id == 2)
        await until(pilot, lambda: screen_of(app).triage.listing.total == 10)
        assert decision(screen_of(app), "eel") == "fake"
        assert screen_of(app).triage.listing.reviewed() == 1


@pytest.mark.asyncio
async def test_of_several_scans_one_is_chosen_the_newest_first(journal) -> None:
    with Journal(journal) as opened:
        later = opened.record(PIPELINE, [Path("/elsewhere"), Path("/[b]third")], POINT)
        for each in TEN[:3]:
            later.add(each)
        later.write()  # broke off
    app = TriageApp(journal, None, reviewer="ann", replan=None)
    try:
        async with app.run_test(size=(100, 24)) as pilot:
            await pilot.pause()
            assert isinstance(app.screen, ChooseScreen)
            seen = text_of(app)
            first, second = seen.index("/elsewhere, /[b]third"), seen.index("/pictures")
            assert first < second
            assert "3 files, 2 suspect, 0 failed, 0 reviewed, broke off · fake" in seen
            assert "10 files, 5 suspect, 1 failed, 0 reviewed · fake" in seen
            assert "Esc quits" in seen
            await pilot.press("down", "enter")
            await until(pilot, lambda: screen_of(app).triage.listing.total == 10)
            await pilot.press("f", "S")
            assert "10 files, 5 suspect, 1 failed, 1 reviewed" in text_of(app)
            await pilot.press("escape")
            assert screen_of(app).triage.subject.scan_id == 1
            await pilot.press("S", "enter")
            await until(pilot, lambda: screen_of(app).triage.listing.total == 3)
            assert len(app.screen_stack) == 2
            await pilot.press("S", "down", "enter")
            await until(pilot, lambda: screen_of(app).triage.subject.scan_id == 1)
    finally:
        app.leave()


@pytest.mark.asyncio
async def test_no_answer_to_which_scan_quits(journal) -> None:
    with Journal(journal) as opened:
        opened.record(PIPELINE, [Path("/elsewhere")], POINT).write()
    app = TriageApp(journal, None, reviewer="ann", replan=None)
    try:
        async with app.run_test() as pilot:
            await pilot.press("escape")
            assert app._exit
    finally:
        app.leave()


@pytest.mark.asyncio
async def test_scanning_again_what_has_gone_says_so(journal) -> None:
    async with triage(journal) as (pilot, _):
        await pilot.press("R")
        assert "the folder has gone; give another" in toasts(pilot.app)
        await pilot.press("p", "X")
        assert "No scan is running" in toasts(pilot.app)


def under(screen) -> str:
    assert screen.item is not None
    return screen.item.ref.path.stem


async def show(pilot, screen, wanted: str) -> None:
    """Filter by what is typed."""
    before = screen.triage.listing.filter
    screen.query_one("#filter", Input).value = wanted
    await pilot.press("slash", "enter")
    from scanner.errors import ImgscanError
    from scanner.tui.filters import parse

    try:
        parsed = parse(wanted)
    except ImgscanError:
        parsed = before
    await until(pilot, lambda: screen.triage.listing.filter == parsed)
    await pilot.pause()


def test_reviews_outlive_the_app(journal) -> None:
    with Journal(journal) as opened:
        assert opened.scans()[0].files == 10
