"""What the triage screen stands on, without a screen."""

from __future__ import annotations

import errno
import io
import math
import os
import random
import selectors
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tui_fakes import PIPELINE, POINT, TEN, MadeUpPlan, recorded, result

from scanner.bundle import EMBEDDED, read_bundle
from scanner.errors import ImgscanError, UsageError
from scanner.journal import Journal, pipeline_of
from scanner.limits import Limits
from scanner.options.journal import JournalOptions
from scanner.options.recorded import recorded_walk
from scanner.options.triage import TriageOptions
from scanner.options.walk import WalkOptions
from scanner.plan import Request
from scanner.rules import WalkRules
from scanner.text import counted, percent
from scanner.tui import desktop, escape, transfer
from scanner.tui.cells import Column, fit, widths
from scanner.tui.crash import CrashLog
from scanner.tui.filters import Filter, complete, parse
from scanner.tui.items import Item
from scanner.tui.plain import run_plain
from scanner.tui.reading import Subject
from scanner.tui.rows import FILE_COLUMNS, bar, file_cells, size_text
from scanner.tui.selection import Selection
from scanner.tui.start import start
from scanner.tui.transfer import TransferLog
from scanner.tui.triage import Triage
from scanner.types import FileFacts, ImageRef
from scanner.verdict import OperatingPoint

# Filter


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        ("", Filter()),
        ("red tree", Filter(texts=("red", "tree"))),
        ('"red tree" x', Filter(texts=("red tree", "x"))),
        ("is:fake", Filter(verdict="fake")),
        ("verdict:unsure", Filter(verdict="unsure")),
        ("p:0.4..0.6", Filter(p_min=0.4, p_max=0.6)),
        ("p:90%..", Filter(p_min=0.9)),
        ("p:..5%", Filter(p_max=0.05)),
        ("conf:>0.9", Filter(conf_min=0.9)),
        ("confidence:50%..60%", Filter(conf_min=0.5, conf_max=0.6)),
        ("tag:hands t:odd", Filter(tags=("hands", "odd"))),
        ("p:<=0.2", Filter(p_max=0.2)),
        ('folder:"/a b/c" r:none', Filter(folder="/a b/c", review="none")),
        ("reason:trunc", Filter(reason="truncated")),
        ("conf:>90", Filter(conf_min=0.9)),
        ("p:40..60", Filter(p_min=0.4, p_max=0.6)),
        ("conf:>1", Filter(conf_min=1.0)),
        ("C:\\x 12:30", Filter(texts=("C:\\x", "12:30"))),
        ("http://a C:/b", Filter(texts=("http://a", "C:/b"))),
        ('"note:this"', Filter(texts=("note:this",))),
        ("folder:", Filter()),
    ],
)
def test_what_is_typed_becomes_a_filter(typed, wanted) -> None:
    assert parse(typed) == wanted


@pytest.mark.parametrize(
    "typed",
    [
        "verdict:maybe",
        "p:abc",
        "conf:..",
        "p:120%..",
        "conf:>101",
        "review:x",
        "colour:red",
        "p:0.5..90",
        "conf:0.2..3",
    ],
)
def test_a_filter_that_is_wrong_says_what_can_be_typed(typed) -> None:
    with pytest.raises(UsageError, match=typed.split(":")[0]) as raised:
        parse(typed)
    assert len(str(raised.value)) <= 76


def test_completion_knows_keys_values_and_folders() -> None:
    assert complete("x ver") == "x verdict:"
    assert complete("review:un") == "review:unsure"
    assert complete("folder:/a", ["/abc", "/b"]) == "folder:/abc"
    assert complete("x tag:h", tags=["odd", "hands", "hair"]) == "x tag:hands"
    assert complete("nothing") is None
    assert complete("") is None


# The list


def triage_of(journal: Journal, scan_id: int = 1) -> Triage:
    names = PIPELINE.model_name, PIPELINE.model_digest
    triage = Triage(journal, Subject(scan_id, *names, POINT), "ann")
    triage.load()
    return triage


def test_the_list_filters_and_sorts_as_a_plain_loop_would(tmp_path) -> None:
    dice = random.Random(1)
    results = [
        result(
            f"/pictures/{dice.choice('abc')}/{dice.choice(['tree', 'Red', 'sky'])}-{n}.png",
            None if n % 7 == 0 else round(dice.random(), 2),
            size=dice.randrange(100),
        )
        for n in range(200)
    ]
    with Journal(recorded(tmp_path / "j.sqlite", results)) as journal:
        triage = triage_of(journal)
        for typed, holds in [
            ("tree", lambda r: "tree" in str(r.ref.path)),
            ("RED /b/", lambda r: "red" in str(r.ref.path).lower() and "/b/" in str(r.ref.path)),
            ("verdict:fake", lambda r: getattr(r, "p_fake", -1) >= 0.6),
            ("verdict:real p:>0.3", lambda r: 0.3 <= getattr(r, "p_fake", -1) < 0.6),
            ("verdict:failed", lambda r: not hasattr(r, "p_fake")),
            ("conf:..70%", lambda r: getattr(r, "confidence", 1) <= 0.7),
            ("conf:>0.9 verdict:real", lambda r: getattr(r, "p_fake", 1) <= 0.1),
            ("folder:/pictures/a", lambda r: r.ref.path.parent.name == "a"),
            ("reason:truncated sky", lambda r: not hasattr(r, "p_fake") and "sky" in r.ref.name),
        ]:
            triage.show(parse(typed))
            triage.sort("scan", False)
            assert list(triage.listing.order) == [n for n, r in enumerate(results) if holds(r)]
        triage.show(Filter())
        for key, of in [
            ("p", lambda r: getattr(r, "p_fake", math.inf)),
            ("size", lambda r: r.facts.bytes),
            ("name", lambda r: os.fsencode(r.ref.path.name)),
            ("folder", lambda r: os.fsencode(r.ref.path.parent)),
            ("doubt", lambda r: abs(getattr(r, "p_fake", math.inf) - 0.6)),
        ]:
            triage.sort(key, False)
            by = sorted(range(200), key=lambda n: of(results[n]))
            assert list(triage.listing.order) == by, key


def test_review_wrong_lists_where_a_person_differs_from_the_model(tmp_path) -> None:
    with Journal(recorded(tmp_path / "j.sqlite")) as journal:
        triage = triage_of(journal)
        triage.decide([4], "real")  # eel, 0.99
        triage.decide([0], "fake")  # ant, 0.95
        triage.decide([1], "fake")  # bee, 0.10
        triage.decide([3], "fake")  # dog, no score
        triage.show(parse("review:wrong"))
        assert sorted(triage.listing.order) == [1, 4]


def test_files_that_come_while_a_filter_is_on_are_filtered_too(tmp_path) -> None:
    with Journal(tmp_path / "j.sqlite") as journal:
        recorder = journal.record(PIPELINE, [Path("/pictures")], POINT)
        for each in TEN[:5]:
            recorder.add(each)
        recorder.write()
        triage = triage_of(journal, recorder.id)
        triage.show(parse("/b/"))
        assert len(triage.listing) == 1
        for each in TEN[5:]:
            recorder.add(each)
        recorder.write()
        triage.load()
        assert (len(triage.listing), triage.listing.total) == (6, 10)


def test_tags_are_filtered_as_they_come_and_go(tmp_path) -> None:
    with Journal(recorded(tmp_path / "j.sqlite")) as journal:
        triage = triage_of(journal)
        triage.annotate([0, 4], None, ("hands", 'it\'s "odd"'))
        triage.annotate([5], None, ("Hands",))
        assert journal.pages.tags() == ["hands", 'it\'s "odd"', "Hands"]
        triage.show(parse("tag:HANDS"))
        assert sorted(triage.listing.order) == [0, 4, 5]
        triage.decide([4], "fake")  # keeps them
        assert sorted(triage.listing.order) == [0, 4, 5]
        triage.annotate([0], None, ())
        triage.annotate([1], None, ("hands",))
        assert sorted(triage.listing.order) == [1, 4, 5]
        triage.undo()
        triage.undo()
        triage.show(parse("t:hands /b/"))
        assert sorted(triage.listing.order) == [4, 5]
        triage.show(parse("tag:han"))
        assert not len(triage.listing)


def test_a_selection_is_a_set(tmp_path) -> None:
    dice = random.Random(2)
    selection, wanted = Selection(), set()
    for _ in range(300):
        seqs = np.array(dice.sample(range(500), dice.randrange(40)), np.int64)
        match dice.randrange(4):
            case 0:
                selection.add(seqs)
                wanted |= set(map(int, seqs))
            case 1:
                selection.remove(map(int, seqs))
                wanted -= set(map(int, seqs))
            case 2:
                one = dice.randrange(600)
                selection.toggle(one)
                wanted ^= {one}
            case 3 if dice.random() < 0.1:
                selection.clear()
                wanted.clear()
        assert len(selection) == len(wanted)
        assert list(selection.among(seqs)) == [seq for seq in seqs if seq in wanted]
        assert selection.has_all(seqs) == (len(seqs) > 0 and set(seqs) <= wanted)
        assert all((seq in selection) == (seq in wanted) for seq in range(700))


def test_all_of_a_hundred_thousand_are_selected_and_cleared_within_a_key_press() -> None:
    """A set of numbers takes about as long as a key press may: twenty times as long as this."""
    order, selection = np.arange(100_000)[::-1], Selection()
    took = []
    for _ in range(5):
        start = time.process_time()
        assert not selection.has_all(order)
        selection.add(order)
        assert len(selection.among(order)) == 100_000
        selection.clear()
        took.append(time.process_time() - start)
    assert min(took) < 0.01


# Moving and copying


@pytest.fixture
def pictures(tmp_path: Path) -> list[ImageRef]:
    refs = []
    for folder in ("a", "b"):
        path = tmp_path / folder / "x.png"
        path.parent.mkdir()
        path.write_bytes(folder.encode())
        refs.append(ImageRef(path))
    return refs


@pytest.mark.parametrize("kind", ["move", "copy"])
@pytest.mark.parametrize("other_disk", [False, True])
def test_taken_names_get_numbers_and_all_is_undone(
    tmp_path, pictures, kind, other_disk, monkeypatch
) -> None:
    if other_disk:

        def refuse(*args: object, **options: object) -> None:
            raise OSError(errno.EXDEV, "Invalid cross-device link")

        monkeypatch.setattr(transfer.os, "link", refuse)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x.png").write_bytes(b"mine")
    log = TransferLog(tmp_path / "log")
    outcome = log.transfer(pictures, tmp_path / "out", kind)
    assert (outcome.done, outcome.failed) == (2, [])
    found = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert found == {"x.png": b"mine", "x (2).png": b"a", "x (3).png": b"b"}
    assert all(ref.path.exists() is (kind == "copy") for ref in pictures)
    # Another process reads the same log.
    again = TransferLog(tmp_path / "log")
    where = tmp_path / "out" / "x (2).png" if kind == "move" else pictures[0].path
    assert again.where(pictures[0].path) == where
    assert again.undo(again.operations[0]).done == 2
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["x.png"]
    assert [ref.path.read_bytes() for ref in pictures] == [b"a", b"b"]
    assert TransferLog(tmp_path / "log").operations[0].undone


def test_failures_are_listed_and_the_others_are_moved(tmp_path, pictures) -> None:
    pictures.insert(0, ImageRef(tmp_path / "gone.png"))
    pictures.insert(1, ImageRef(tmp_path / "x.zip", "inside.png"))
    outcome = TransferLog(tmp_path / "log").transfer(pictures, tmp_path / "out", "move")
    assert outcome.done == 2
    assert [path.name for path, _ in outcome.failed] == ["gone.png", "x.zip"]


def test_undoing_overwrites_and_deletes_nothing_that_is_not_its_own(tmp_path, pictures) -> None:
    log = TransferLog(tmp_path / "log")
    log.transfer(pictures[:1], tmp_path / "moved", "move")
    pictures[0].path.write_bytes(b"new")
    log.transfer(pictures[1:], tmp_path / "copied", "copy")
    (tmp_path / "copied" / "x.png").write_bytes(b"edited")
    for operation in log.operations:
        outcome = log.undo(operation)
        assert (outcome.done, len(outcome.failed)) == (0, 1)
    assert pictures[0].path.read_bytes() == b"new"
    assert (tmp_path / "moved" / "x.png").read_bytes() == b"a"
    assert (tmp_path / "copied" / "x.png").read_bytes() == b"edited"


def test_a_kill_between_the_log_and_the_move_leaves_nothing_to_undo(
    tmp_path, pictures, monkeypatch
) -> None:
    def killed(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(transfer, "_move", killed)
    log = TransferLog(tmp_path / "log")
    with pytest.raises(KeyboardInterrupt):
        log.transfer(pictures, tmp_path / "out", "move")
    monkeypatch.undo()
    with (tmp_path / "log").open("a") as file:
        file.write('{"op": 1, "fro')  # and one that cut a line off
    log = TransferLog(tmp_path / "log")
    assert log.where(pictures[0].path) == pictures[0].path
    outcome = log.undo(log.operations[0])
    assert (outcome.done, outcome.failed) == (0, [])
    assert pictures[0].path.read_bytes() == b"a"


def test_a_file_moved_twice_goes_back_step_by_step(tmp_path, pictures) -> None:
    log, start = TransferLog(tmp_path / "log"), pictures[0].path
    log.transfer(pictures[:1], tmp_path / "one", "move")
    log.transfer(pictures[:1], tmp_path / "two", "move")
    assert log.where(start) == tmp_path / "two" / "x.png"
    log.undo(log.operations[1])
    assert log.where(start) == tmp_path / "one" / "x.png"
    log.undo(log.operations[0])
    assert start.read_bytes() == b"a"


# The desktop


def test_without_a_desktop_nothing_is_started_on_the_terminal(
    tmp_path, monkeypatch, pictures
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr(desktop.sys, "platform", "linux")
    with pytest.raises(ImgscanError, match="c copies the path"):
        desktop.reveal(pictures[0].path)
    with pytest.raises(ImgscanError, match="not there any more"):
        desktop.reveal(tmp_path / "gone.png")


def test_what_is_not_named_like_a_picture_is_not_opened(tmp_path) -> None:
    with Journal(recorded(tmp_path / "j.sqlite")) as journal:
        item = triage_of(journal).item(0)
    assert item is not None
    script = tmp_path / "x.desktop"
    script.touch()
    with pytest.raises(ImgscanError, match="not named like a picture"):
        desktop.open_in_viewer(item, script)


# Line by line


def plain(journal: Path, typed: str, plan: MadeUpPlan | None = None) -> list[str]:
    sink = io.StringIO()
    run_plain(
        journal,
        plan,
        reviewer="ann",
        replan=lambda info: MadeUpPlan(),
        source=io.StringIO(typed),
        sink=sink,
    )
    assert "\x1b" not in sink.getvalue()
    return sink.getvalue().splitlines()


def test_the_plain_list_is_worked_through_by_letters(tmp_path) -> None:
    journal = recorded(tmp_path / "j.sqlite")
    lines = plain(journal, "f\nr\nz\ne six fingers\nt hands\n/ verdict:real\no size\na\nd\nq\n")
    assert lines[1] == (
        "1 of 10: fake, confidence 99.00%. undecided. eel.png, 391 KiB, in /pictures/b."
    )
    assert "> eel.png: decided fake." in lines
    assert "> ant.png: decided real." in lines
    assert "> Undone: 1 decision." in lines
    assert any("Note: six fingers. Tags: hands." in line for line in lines)
    assert "> 4 of 10 files." in lines
    assert lines[-1] == "> All decisions are saved."
    with Journal(journal) as opened:
        review = opened.reviews.current(TEN[4].facts.sha256 or "")
        assert review is not None
        assert (review.decision, review.reviewer) == ("fake", "ann")


def test_every_letter_of_the_plain_help_is_obeyed(tmp_path) -> None:
    journal = recorded(tmp_path / "j.sqlite")
    typed = "h\nn\nb\nu\ns\ny\nj 3\nj x\nl\ng\ni\nc\n?\no nothing\nw\nxyz\np:\n"
    lines = plain(journal, typed + f"w {tmp_path / 'o.csv'}\nm {tmp_path / 'm.csv'}\n")
    text = "\n".join(lines)
    assert text.count("is not known") == 2  # xyz and p:
    for said in ("> 3 of 10", "6 files, 50.00%", "SHA-256:", "No scan is running", "Saved 10 rows"):
        assert said in text
    assert "Error: j needs the number" in text
    assert "none of these files was decided" in text


def test_of_several_scans_the_plain_list_asks_for_one(tmp_path) -> None:
    journal = recorded(tmp_path / "j.sqlite")
    with Journal(journal) as opened:
        other = opened.record(PIPELINE, [Path("/elsewhere")], POINT)
        other.add(TEN[0])
        other.finish()
    lines = plain(journal, "7\n2\nq\n")
    assert "/elsewhere 1 file, 1 suspect, 0 failed, 0 reviewed · fake" in lines[0]
    assert lines.count("Type a scan's number, or Enter for 1, or q.") == 1
    assert any("1 of 10: fake" in line for line in lines)
    assert any("1 of 1: fake" in line for line in plain(journal, "\nq\n"))
    assert not any("fake, conf" in line for line in plain(journal, "q\n"))


@pytest.mark.parametrize(
    "walk",
    [
        WalkOptions(),
        WalkOptions(WalkRules(hidden=True, include=("*.png", 'it\'s "x"'), min_bytes=2048)),
        WalkOptions(WalkRules(archives=True), newer_than="7d"),
    ],
)
def test_a_scan_is_repeated_with_its_own_walk_options(walk) -> None:
    again = recorded_walk(walk.selection)
    moment = again.rules.newer_than_ns
    assert (moment is None) == (walk.newer_than is None)
    if moment is not None:
        assert abs(time.time_ns() - 7 * 86_400 * 10**9 - moment) < 10**11
        again = replace(again, rules=replace(again.rules, newer_than_ns=None))
    assert again == walk
    assert again.selection == walk.selection


def test_a_list_of_files_is_read_again_where_it_was(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("list.txt").write_text("a.png\n")
    selection = WalkOptions(files_from=Path("list.txt"), null=True).selection
    again = recorded_walk(selection)
    assert (again.files_from, again.null) == (tmp_path / "list.txt", True)
    (tmp_path / "b").mkdir()
    monkeypatch.chdir(tmp_path / "b")
    with pytest.raises(UsageError, match="start in it"):
        recorded_walk(selection)


@pytest.mark.parametrize(
    "selection", ["WalkOptions(rules=print('x'))", "WalkOptions(nope=1)", "1 +", "__import__('os')"]
)
def test_options_that_are_not_known_are_refused_and_nothing_is_run(selection, capsys) -> None:
    with pytest.raises(UsageError, match="not known to this version"):
        recorded_walk(selection)
    assert not capsys.readouterr().out
    with pytest.raises(UsageError, match="through a pipe"):
        recorded_walk(None)


def test_going_on_with_an_earlier_scan_uses_what_it_was_started_with(tmp_path, monkeypatch) -> None:
    """Of all that `--tui --journal` would hand to the app, what `R` plans."""
    walk = WalkOptions(WalkRules(hidden=True, exclude=("thumbs/",)))
    accurate = read_bundle(EMBEDDED["accurate"])
    (tmp_path / "pictures").mkdir()
    with Journal(tmp_path / "j.sqlite") as journal:
        point = OperatingPoint("best_f1", 0.5)
        journal.record(
            pipeline_of(accurate), [tmp_path / "pictures"], point, walk.selection
        ).finish()
    plans = []

    def stop(path: Path, plan: object, *, replan, **rest: object) -> None:
        with Journal(path) as journal:
            plans.append(replan(journal.scans()[0]))

    monkeypatch.setattr("scanner.tui.plain.run_plain", stop)
    request = Request((), WalkOptions(WalkRules(archives=True)), Limits(1))
    start(request, TriageOptions(True, True), JournalOptions(tmp_path / "j.sqlite"), None)
    (plan,) = plans
    assert plan.request.walk == walk
    assert plan.roots == (tmp_path / "pictures",)
    assert plan.bundle.digest == accurate.digest
    assert plan.point.name == "best_f1"


def test_the_plain_list_follows_a_scan_and_escapes_names(tmp_path) -> None:
    evil = result("/pictures/\x1b[31m[b]\u202egpj.png", 0.9)
    lines = plain(tmp_path / "j.sqlite", "c\n", MadeUpPlan([evil]))
    assert "\\x1b[31m[b]\\u202egpj.png" in lines[2]
    lines = plain(tmp_path / "k.sqlite", "\nq\n", MadeUpPlan([]))
    assert "There are no pictures." in lines


# The terminal


def test_esc_is_known_for_itself_soon_after_it_was_pressed(monkeypatch) -> None:
    """Textual alone looks ten times a second whether Esc was the beginning of another key."""
    linux_driver = pytest.importorskip("textual.drivers.linux_driver", reason="POSIX")
    monkeypatch.setattr(linux_driver, "selectors", selectors)
    monkeypatch.setattr(escape.constants, "ESCAPE_DELAY", 0.02)  # as the script below proves
    escape.answer_escape_at_once()
    waited: list[float | None] = []
    answers = [[], ["a key"], [], []]

    def select(self: object, timeout: float | None = None) -> object:
        waited.append(timeout)
        return answers[len(waited) - 1]

    monkeypatch.setattr(selectors.SelectSelector, "select", select)
    selector = linux_driver.selectors.SelectSelector()
    for _ in answers:
        selector.select(0.1)
    selector.close()
    assert waited[0] == waited[1] == waited[3] == 0.1
    assert waited[2] < 0.1
    script = (
        "import sys, scanner.tui.start; assert 'textual' not in sys.modules;"
        "from textual import constants; print(constants.ESCAPE_DELAY)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "ESCDELAY"}
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True
    )
    assert float(said.stdout) <= 0.03


# Small things


def test_of_what_no_model_can_judge_the_list_shows_no_number() -> None:
    for facts, shown in ((FileFacts(notes=("near_uniform",)), "--"), (FileFacts(), "55.00%")):
        item = Item(0, ImageRef(Path("a")), facts, 0.55, "unsure", None, "", 0.5, "youden", "m@0")
        assert file_cells(item, False)[1].text.split()[-1] == shown


def test_what_is_too_long_is_cut_to_the_cell(tmp_path) -> None:
    assert fit("abcdef", 4, Column("", 4)) == "abc…"
    assert fit("abcdef", 4, Column("", 4, keep_end=True)) == "…def"
    assert fit("ab", 4, Column("", 4, align="right")) == "  ab"
    for width in range(8):
        for keep_end in (False, True):
            from rich.cells import cell_len

            assert cell_len(fit("日本語a日", width, Column("", 4, keep_end=keep_end))) == width


def test_a_name_is_cut_in_its_middle_and_keeps_its_extension() -> None:
    name = Column("", 12, keep_extension=True)
    assert fit("IMG_20240131_holiday_0042.jpeg", 16, name) == "IMG_202…042.jpeg"
    assert fit("a-name-without-an-extension", 12, name) == "a-name-…sion"
    assert fit("short.png", 12, name) == "short.png   "


@pytest.mark.parametrize("width", [60, 70, 76, 80, 120, 160, 250])
def test_the_name_gets_what_the_other_columns_leave(width) -> None:
    rooms = dict(zip([c.title for c in FILE_COLUMNS], widths(FILE_COLUMNS, width), strict=True))
    shown = [room for room in rooms.values() if room]
    assert sum(shown) + len(shown) == width
    assert rooms["Name"] >= 20
    assert rooms["Folder"] <= 36
    gone = {title for title, room in rooms.items() if not room}
    assert gone == ({"Folder", "Size"} if width == 60 else {"Size"} if width == 70 else set())
    if width >= 76:
        assert rooms["Name"] >= 2 * rooms["Folder"]
    if width >= 250:
        assert rooms["Name"] > 150


def test_numbers_for_people() -> None:
    shares = (0.0, 1e-9, 0.5, 0.99994, 0.99999, 1.0)
    shown = ["0.00%", "0.01%", "50.00%", "99.99%", "99.99%", "100.00%"]
    assert [percent(p) for p in shares] == shown
    assert [counted(n, "file") for n in (0, 1, 2000)] == ["0 files", "1 file", "2,000 files"]
    assert [size_text(n) for n in (None, 0, 1023, 1024, 10**6, 10**10)] == [
        "", "0 B", "1023 B", "1.0 KiB", "977 KiB", "9.3 GiB",
    ]  # fmt: skip
    assert [bar(share) for share in (0.0, 0.5, 1.0)] == ["      ", "███   ", "██████"]


def test_a_crash_log_says_where_and_why(tmp_path) -> None:
    log = CrashLog(tmp_path / "logs")
    assert log.write(ValueError("the reason")) == str(log.path)
    assert log.path is not None
    assert "ValueError: the reason" in log.path.read_text()
    (tmp_path / "file").touch()
    assert "none could be written" in CrashLog(tmp_path / "file").write(ValueError("x"))
