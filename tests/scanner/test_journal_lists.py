"""Reviews, and the lists that scans leave behind to be looked at again."""

from __future__ import annotations

import os
import random
import sqlite3
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from scanner.journal import Journal, Pipeline, Query, Sort
from scanner.journal.pages import Row
from scanner.journal.reviews import RANKS
from scanner.types import Failed, FileFacts, ImageRef, Verdict
from scanner.verdict import OperatingPoint, judge, verdict_of

PIPELINE = Pipeline("fake", "0123456789ab", "aaaaaaaaaaaa", "bbbbbbbbbbbb")
POINT = OperatingPoint("youden", 0.5)
SHA = "ab" * 32
REF = ImageRef(Path("/pictures/a.png"))


@pytest.fixture
def journal(tmp_path):
    with Journal(tmp_path / "journal.sqlite") as opened:
        yield opened


def result(n: int, path: str, p_fake: float | None, size: int = 7) -> Verdict | Failed:
    ref = ImageRef(Path(path))
    facts = FileFacts(40, 32, "PNG", size, f"{n:064x}", 1_600_000_000_000_000_000, ("truncated",))
    if p_fake is None:
        return Failed(ref, "truncated", f"detail {n}", facts)
    return judge(ref, facts, p_fake, POINT)


def recorded(
    journal: Journal, results, *, roots=(Path("/p"),), finish: bool = True, selection=""
) -> int:
    recorder = journal.record(PIPELINE, roots, POINT, selection)
    for one in results:
        recorder.add(one)
    if finish:
        recorder.finish(known=2)
        recorder.tidy()
    else:
        recorder.write()
    return recorder.id


# Reviews


def test_a_decision_comes_back_with_who_when_where_and_on_which_model(journal) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    made = journal.reviews.set(
        REF,
        SHA,
        "fake",
        reviewer="ann",
        note="six fingers\n=1+1",
        tags=("hands", "höhe"),
        model_digest="0123456789ab",
    )
    assert journal.reviews.current(SHA) == journal.review_of(SHA) == made
    assert (made.sha256, made.decision, made.note, made.tags, made.reviewer, made.model_digest) == (
        *(SHA, "fake", "six fingers\n=1+1", ("hands", "höhe"), "ann", "0123456789ab"),
    )
    assert made.path == os.path.realpath("/pictures/a.png")
    when = datetime.fromisoformat(made.time)
    assert when.utcoffset() == timedelta(0)
    assert before < when < datetime.now(UTC) + timedelta(seconds=1)
    assert journal.reviews.current("cd" * 32) is None


def test_reviews_outlive_the_journal_being_closed(tmp_path) -> None:
    with Journal(tmp_path / "j") as journal:
        made = journal.reviews.set(ImageRef(Path("/a.zip"), "b/c.png"), SHA, "real", reviewer="a")
    assert made.path == "/a.zip!/b/c.png"
    with Journal(tmp_path / "j") as journal:
        assert journal.reviews.current(SHA) == made


def test_undo_and_redo_go_back_and_forth_through_ones_own_decisions(journal) -> None:
    reviews = journal.reviews
    first = reviews.set(REF, SHA, "fake", reviewer="ann")
    other = reviews.set(REF, "cd" * 32, "skip", reviewer="ann")
    second = reviews.set(REF, SHA, "real", reviewer="ann", note="after all")
    assert reviews.redo("ann") is None
    assert reviews.undo("ann") == second
    assert reviews.current(SHA) == first
    assert reviews.undo("ann") == other
    assert reviews.current("cd" * 32) is None
    assert reviews.undo("ann") == first
    assert reviews.current(SHA) is None
    assert reviews.undo("ann") is None
    assert [reviews.redo("ann") for _ in range(4)] == [first, other, second, None]
    assert reviews.current(SHA) == second
    assert reviews.undo("ann") == second


def test_a_new_decision_ends_what_could_be_redone_and_not_what_could_be_undone(journal) -> None:
    reviews = journal.reviews
    first = reviews.set(REF, SHA, "fake", reviewer="ann")
    reviews.set(REF, SHA, "real", reviewer="ann")
    reviews.undo("ann")
    third = reviews.set(REF, SHA, "unsure", reviewer="ann")
    assert reviews.redo("ann") is None
    assert [reviews.undo("ann"), reviews.undo("ann"), reviews.undo("ann")] == [third, first, None]


def test_reviewers_undo_only_their_own_and_the_last_decision_holds(journal) -> None:
    reviews = journal.reviews
    anns = reviews.set(REF, SHA, "fake", reviewer="ann")
    bobs = reviews.set(REF, SHA, "real", reviewer="bob")
    assert reviews.undo("ann") == anns
    assert reviews.current(SHA) == bobs
    assert reviews.undo("bob") == bobs
    assert reviews.current(SHA) is None
    assert reviews.redo("ann") == anns
    assert reviews.current(SHA) == anns


def test_any_sequence_of_decisions_undos_and_redos_ends_where_two_stacks_would(journal) -> None:
    reviews, rng = journal.reviews, random.Random(7)
    done: list[tuple[int, str, str]] = []
    undone: list[tuple[int, str, str]] = []
    for _ in range(400):
        match rng.choice(["set", "undo", "redo", "undo", "redo"]):
            case "set":
                sha, decision = f"{rng.randrange(5):064x}", rng.choice(list(RANKS))
                made = reviews.set(REF, sha, decision, reviewer="ann")
                done.append((made.id, sha, decision))
                undone.clear()
            case "undo":
                back = reviews.undo("ann")
                assert (back and back.id) == (done[-1][0] if done else None)
                if done:
                    undone.append(done.pop())
            case "redo":
                again = reviews.redo("ann")
                assert (again and again.id) == (undone[-1][0] if undone else None)
                if undone:
                    done.append(undone.pop())
        expected = {sha: decision for _, sha, decision in sorted(done)}
        assert {review.sha256: review.decision for review in reviews.all()} == expected


def test_history_keeps_all_that_was_ever_decided(journal) -> None:
    reviews = journal.reviews
    first = reviews.set(REF, SHA, "fake", reviewer="ann", note="one")
    reviews.undo("ann")
    reviews.redo("ann")
    second = reviews.set(REF, SHA, "real", reviewer="bob")
    reviews.set(REF, "cd" * 32, "skip", reviewer="bob")
    history = reviews.history(SHA)
    assert [(event.kind, event.reviewer, event.review) for event in history] == [
        ("set", "ann", first),
        ("undo", "ann", first),
        ("redo", "ann", first),
        ("set", "bob", second),
    ]


def test_all_gives_what_holds_also_when_it_is_much(journal) -> None:
    made = [
        journal.reviews.set(REF, f"{n:064x}", "fake", reviewer=f"r{n % 3}") for n in range(1500)
    ]
    journal.reviews.undo("r0")
    assert [review.id for review in journal.reviews.all()] == [
        review.id for review in made if review is not made[1497]
    ]


def test_a_decision_that_is_none_is_refused(journal) -> None:
    with pytest.raises(ValueError, match="real, fake, unsure, skip"):
        journal.reviews.set(REF, SHA, "maybe", reviewer="ann")
    assert journal.reviews.history(SHA) == []


# The list of a scan


def test_a_scan_is_listed_in_its_order_with_all_that_was_said(journal) -> None:
    results = [
        result(0, "/p/b.png", 0.75),
        result(1, "/p/sub/a.png", 0.25),
        result(2, "/p/a.png", None),
    ]
    scan = recorded(journal, results)
    assert journal.pages.page(scan) == [
        Row(0, ImageRef(Path("/p/b.png")), 0.75, None, "", results[0].facts, None),
        Row(1, ImageRef(Path("/p/sub/a.png")), 0.25, None, "", results[1].facts, None),
        Row(2, ImageRef(Path("/p/a.png")), None, "truncated", "detail 2", results[2].facts, None),
    ]
    (info,) = journal.scans()
    assert (info.id, info.files, info.suspects, info.failed, info.known) == (scan, 3, 1, 1, 2)
    assert (info.roots, info.point) == ((Path("/p"),), POINT)
    assert (info.model_name, info.model_digest, info.listed) == ("fake", "0123456789ab", True)
    assert info.started <= info.finished


def test_a_scan_remembers_its_band_of_unsure(journal) -> None:
    point = OperatingPoint("youden", 0.5, (0.25, 0.75))
    recorder = journal.record(PIPELINE, [Path("/p")], point)
    for n, p_fake in enumerate((0.0, 0.25, 0.5, 0.75)):
        recorder.add(judge(ImageRef(Path(f"/p/{n}.png")), FileFacts(), p_fake, point))
    recorder.finish()
    (info,) = journal.scans()
    assert (info.point, info.suspects) == (point, 1)
    counts = [journal.pages.count(info.id, Query(verdict=v)) for v in ("real", "unsure", "fake")]
    assert counts == [1, 2, 1]


def test_a_scan_that_broke_off_is_listed_as_far_as_it_came(journal) -> None:
    scan = recorded(journal, [result(n, f"/p/{n}.png", 0.5) for n in range(700)], finish=False)
    (info,) = journal.scans()
    assert (info.finished, info.files) == (None, 700)
    assert journal.pages.count(scan) == 700


def test_the_list_of_a_scan_does_not_change_with_later_results(journal) -> None:
    first = recorded(journal, [result(0, "/p/a.png", 0.75)], roots=[Path("/p")])
    second = recorded(journal, [result(1, "/p/a.png", 0.25)], roots=[Path("/p/a.png")])
    assert journal.pages.page(first)[0].p_fake == 0.75
    assert journal.pages.page(second)[0].p_fake == 0.25


def test_a_scan_takes_the_place_of_finished_ones_of_the_same_only(journal, tmp_path) -> None:
    many = [result(n, f"/p/{n}.png", 0.75) for n in range(4500)]
    first = recorded(journal, many)
    broken_off = recorded(journal, many[:5], finish=False)
    long_ago = recorded(journal, many[:5], finish=False)
    elsewhere = recorded(journal, many[:5], roots=[Path("/q")])
    with sqlite3.connect(tmp_path / "journal.sqlite") as connection:
        connection.execute(
            "UPDATE scans SET updated = '2020-01-01T00:00:00.000+00:00' WHERE id = ?", (long_ago,)
        )
    connection.close()
    part = recorded(journal, many[:5], selection="--include *.jpg")
    recorded(journal, many[:5], selection=None)
    unknown = recorded(journal, many[:5], selection=None)
    last = recorded(journal, many[:7])
    listed = {info.id: info.listed for info in journal.scans()}
    assert listed == {
        last: True,
        unknown: True,
        unknown - 1: True,
        part: True,
        elsewhere: True,
        long_ago: False,
        broken_off: True,
        first: False,
    }
    counts = {scan: journal.pages.count(scan) for scan in listed}
    kept = dict.fromkeys((part, unknown, unknown - 1), 5)
    assert counts == {last: 7, elsewhere: 5, **kept, long_ago: 0, broken_off: 5, first: 0}
    assert {info.id: info.files for info in journal.scans()}[first] == 4500


def test_of_scans_of_which_nobody_can_say_what_they_were_of_the_last_few_are_kept(journal) -> None:
    for n in range(9):
        recorded(journal, [result(n, f"/p/{n}.png", 0.75)], selection=None)
    other = recorded(journal, [result(0, "/q/0.png", 0.75)], roots=[Path("/q")], selection=None)
    listed = [info.id for info in journal.scans() if info.listed]
    assert listed == [other, 9, 8, 7, 6, 5]
    assert journal._database.rows("SELECT DISTINCT scan_id FROM scan_files") == [
        (number,) for number in sorted(listed)
    ]


def test_rows_of_a_list_that_gave_way_are_deleted_by_the_next_scan_if_not_by_its_own(
    journal,
) -> None:
    def rows() -> dict[int, int]:
        return dict(
            journal._database.rows("SELECT scan_id, count(*) FROM scan_files GROUP BY scan_id")
        )

    many = [result(n, f"/p/{n}.png", 0.75) for n in range(4500)]
    first = recorded(journal, many)
    killed = journal.record(PIPELINE, [Path("/p")], POINT)
    killed.add(many[0])
    killed.finish()
    assert rows() == {first: 4500, killed.id: 1}
    assert not next(info for info in journal.scans() if info.id == first).listed
    last = recorded(journal, many[:2], roots=[Path("/elsewhere")])
    assert rows() == {killed.id: 1, last: 2}


# Pages


@pytest.fixture
def listed(journal):
    """300 files in 4 folders, with ties in every column, some failed, some reviewed."""
    rng = random.Random(3)
    folders = ["/p/zoo", "/p/a", "/p/a/b", "/p/a b"]
    results = []
    for n in range(300):
        p_fake = None if n % 10 == 3 else rng.choice([0.0, 0.25, 0.5, 0.75, 1.0])
        path = f"{folders[n * 4 // 300]}/{rng.choice(['IMG', 'img', 'x'])}_{n % 40}_{n:03}.png"
        results.append(result(n, path, p_fake, rng.choice([5, 70, 900])))
    for n in range(0, 60):
        journal.reviews.set(results[n].ref, f"{n:064x}", list(RANKS)[n % 4], reviewer="ann")
    scan = recorded(journal, results)
    for n in range(60, 80):  # reviewed after the scan
        journal.reviews.set(results[n].ref, f"{n:064x}", list(RANKS)[n % 4], reviewer="ann")
    recorded(journal, [result(1000, "/p/a/other.png", 0.9)], roots=[Path("/other")])
    return scan


def _key(row: Row, column: str) -> tuple[object, ...]:
    match column:
        case "order":
            return (row.seq,)
        case "p_fake":
            return (-1.0 if row.p_fake is None else row.p_fake, row.seq)
        case "name":
            return (os.fsencode(row.ref.path.name), row.seq)
        case "folder":
            return (os.fsencode(row.ref.path.parent), row.seq)
        case "size":
            return (row.facts.bytes, row.seq)
        case "review":
            return (0 if row.review is None else RANKS[row.review.decision], row.seq)
    raise AssertionError(column)


BAND = OperatingPoint("careful", 0.5, (0.25, 0.75))


def by_band(row: Row) -> str | None:
    return None if row.p_fake is None else verdict_of(row.p_fake, BAND)


FILTERS = {
    "nothing": (Query(), lambda row: True),
    "text": (Query(text="IMG_1"), lambda row: "img_1" in str(row.ref.path).lower()),
    "text across a slash": (Query(text="a/b/x"), lambda row: "a/b/x" in str(row.ref.path)),
    "text that is a pattern": (Query(text="%"), lambda row: False),
    "text with an underscore": (
        Query(text="g_1_"),
        lambda row: "g_1_" in str(row.ref.path).lower(),
    ),
    "fake": (Query(verdict="fake"), lambda row: row.p_fake is not None and row.p_fake >= 0.5),
    "real": (Query(verdict="real"), lambda row: row.p_fake is not None and row.p_fake < 0.5),
    "failed": (Query(verdict="failed"), lambda row: row.p_fake is None),
    "unsure by a band": (Query(verdict="unsure", point=BAND), lambda row: by_band(row) == "unsure"),
    "fake by a band": (Query(verdict="fake", point=BAND), lambda row: by_band(row) == "fake"),
    "real by a band": (Query(verdict="real", point=BAND), lambda row: by_band(row) == "real"),
    "unsure without a band": (Query(verdict="unsure"), lambda row: False),
    "range": (
        Query(p_min=0.25, p_max=0.75),
        lambda row: row.p_fake is not None and 0.25 <= row.p_fake <= 0.75,
    ),
    "reason": (Query(reason="truncated"), lambda row: row.reason == "truncated"),
    "another reason": (Query(reason="empty"), lambda row: False),
    "folder and below": (
        Query(folder=Path("/p/a")),
        lambda row: row.ref.path.parent in (Path("/p/a"), Path("/p/a/b")),
    ),
    "root": (Query(folder=Path("/")), lambda row: True),
    "reviewed": (Query(review="reviewed"), lambda row: row.review is not None),
    "unreviewed": (Query(review="unreviewed"), lambda row: row.review is None),
    "unsure": (
        Query(review="unsure"),
        lambda row: row.review is not None and row.review.decision == "unsure",
    ),
    "several": (
        Query(verdict="fake", review="unreviewed", folder=Path("/p/a b"), text="img"),
        lambda row: (
            row.p_fake is not None
            and row.p_fake >= 0.5
            and row.review is None
            and row.ref.path.parent == Path("/p/a b")
            and "img" in row.ref.path.name.lower()
        ),
    ),
}


ALL = {"nothing", "root"}
NONE = {"text that is a pattern", "another reason", "unsure without a band"}


@pytest.mark.parametrize("column", ["order", "p_fake", "name", "folder", "size", "review"])
@pytest.mark.parametrize("descending", [False, True])
def test_pages_hold_what_matches_each_once_in_every_order(
    journal, listed, column, descending
) -> None:
    everything = journal.pages.page(listed, limit=1000)
    assert len(everything) == 300
    everything.sort(key=lambda row: _key(row, column), reverse=descending)
    sort = Sort(column, descending)
    for chosen, (query, matches) in FILTERS.items():
        expected = [row for row in everything if matches(row)]
        pages = [
            journal.pages.page(listed, query, sort, offset=at, limit=37) for at in range(0, 400, 37)
        ]
        assert [row for page in pages for row in page] == expected, chosen
        assert journal.pages.count(listed, query) == len(expected)
        some = chosen not in ALL | NONE
        assert (0 < len(expected) < 300) == some, f"{chosen} chooses nothing or all"


def test_rows_show_the_review_that_holds_now(journal, listed) -> None:
    (row,) = journal.pages.page(listed, offset=200, limit=1)
    assert row.review is None
    made = journal.reviews.set(row.ref, row.facts.sha256, "unsure", reviewer="ann", note="hm")
    assert journal.pages.page(listed, offset=200, limit=1) == [replace(row, review=made)]
    assert row.seq in {r.seq for r in journal.pages.page(listed, Query(review="unsure"))}
    journal.reviews.undo("ann")
    assert journal.pages.page(listed, offset=200, limit=1) == [row]
    assert row.seq not in {r.seq for r in journal.pages.page(listed, Query(review="unsure"))}


def test_folders_tell_their_density_of_suspects_most_suspects_first(journal) -> None:
    results = [
        *(result(n, f"/p/a/{n}.png", 0.9) for n in range(3)),
        *(result(n, f"/p/b/{n}.png", 0.1 if n < 18 else 0.7) for n in range(10, 20)),
        *(result(n, f"/p/c/{n}.png", None) for n in range(30, 32)),
    ]
    scan = recorded(journal, results)
    folders = journal.pages.folders(scan)
    assert [(f.path, f.files, f.suspects, f.failed, f.density) for f in folders] == [
        (Path("/p/a"), 3, 3, 0, 1.0),
        (Path("/p/b"), 10, 2, 0, 0.2),
        (Path("/p/c"), 2, 0, 2, 0.0),
    ]
    assert [f.suspects for f in journal.pages.folders(scan, OperatingPoint("custom", 0.8))] == [
        3,
        0,
        0,
    ]
    with pytest.raises(LookupError, match="no scan 99"):
        journal.pages.folders(99)


@pytest.mark.parametrize("column", ["order", "p_fake", "name", "size", "review"])
@pytest.mark.parametrize("descending", [False, True])
def test_every_order_is_read_from_an_index_and_not_sorted(
    journal, listed, column, descending, monkeypatch
) -> None:
    plans: list[str] = []
    rows = type(journal.pages._database).rows

    def explained(database, sql, parameters=()):
        plan = rows(database, f"EXPLAIN QUERY PLAN {sql}", parameters)
        plans.extend(row[3] for row in plan)
        return rows(database, sql, parameters)

    monkeypatch.setattr(type(journal.pages._database), "rows", explained)
    journal.pages.page(listed, sort=Sort(column, descending))
    assert plans
    assert not [plan for plan in plans if "TEMP B-TREE" in plan or plan.startswith("SCAN")]


def test_a_list_can_be_read_while_another_process_writes(journal, listed) -> None:
    with journal._database.transaction() as connection:
        connection.execute("DELETE FROM scan_files")
        assert journal.pages.count(listed) == 300
