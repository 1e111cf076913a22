"""What the triage screen asks of the journal: a scan's columns, and decisions on many at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from scanner.journal import Asked, Journal, Pipeline, Query
from scanner.types import Failed, FileFacts, ImageRef, Verdict
from scanner.verdict import OperatingPoint, judge

PIPELINE = Pipeline("fake", "0123456789ab", "aaaaaaaaaaaa", "bbbbbbbbbbbb")
POINT = OperatingPoint("youden", 0.5)


@pytest.fixture
def journal(tmp_path):
    with Journal(tmp_path / "journal.sqlite") as opened:
        yield opened


def result(path: str, p_fake: float | None, content: int, size: int = 7) -> Verdict | Failed:
    ref = ImageRef(Path(path))
    facts = FileFacts(40, 32, "PNG", size, f"{content:064x}")
    if p_fake is None:
        return Failed(ref, "truncated", "cut off", facts)
    return judge(ref, facts, p_fake, POINT)


def recorded(journal: Journal, *results: Verdict | Failed) -> int:
    recorder = journal.record(PIPELINE, [Path("/p")], POINT)
    for each in results:
        recorder.add(each)
    recorder.finish()
    assert recorder.files == len(results)
    return recorder.id


def asked(content: int, decision: str = "fake") -> Asked:
    return Asked(ImageRef(Path(f"/p/{content}")), f"{content:064x}", decision)  # type: ignore[arg-type]


def decisions(journal: Journal, *contents: int) -> list[str | None]:
    found = [journal.reviews.current(f"{content:064x}") for content in contents]
    return [None if each is None else each.decision for each in found]


def test_columns_come_in_the_order_of_the_scan_from_any_file_on(journal) -> None:
    scan = recorded(
        journal, result("/p/b/1", 0.9, 1, 10), result("/p/a/2", None, 2, 20), result("/p/b/3", 0, 3)
    )
    journal.reviews.set(ImageRef(Path("/x")), f"{3:064x}", "real", reviewer="ann")
    rows = journal.pages.columns(scan)
    assert [row[1:] for row in rows] == [(0.9, 10, None), (None, 20, None), (0.0, 7, 3)]
    assert rows[0][0] == rows[2][0] != rows[1][0]
    assert journal.pages.columns(scan, after=1) == rows[2:]
    assert journal.pages.columns(scan, after=0, limit=1) == rows[1:2]
    paths = journal.pages.folder_paths([row[0] for row in rows])
    assert [paths[row[0]].name for row in rows] == ["b", "a", "b"]
    assert journal.pages.reviewed(scan) == [(2, 3)]


def test_numbers_tell_which_files_match_and_in_which_order_their_names_are(journal) -> None:
    scan = recorded(
        journal, result("/p/zebra", 0.9, 1), result("/p/ant", 0.1, 2), result("/p/zoo", 0.2, 3)
    )
    assert journal.pages.numbers(scan, Query(text="z")) == [0, 2]
    assert journal.pages.numbers(scan, Query(text="z"), after=0) == [2]
    assert journal.pages.numbers_by_name(scan) == [1, 0, 2]
    assert [row.seq for row in journal.pages.rows(scan, [2, 0])] == [2, 0]


def test_the_holders_of_a_content_are_all_files_with_it(journal) -> None:
    scan = recorded(journal, result("/p/1", 0.9, 7), result("/p/2", 0.1, 8), result("/p/3", 0.9, 7))
    assert journal.pages.holders(scan, f"{7:064x}") == [0, 2]


def test_what_was_decided_together_is_undone_and_redone_together(journal) -> None:
    reviews = journal.reviews
    reviews.set(ImageRef(Path("/p/1")), f"{1:064x}", "real", reviewer="ann")
    reviews.set_all([asked(2), asked(3)], reviewer="ann")
    assert decisions(journal, 1, 2, 3) == ["real", "fake", "fake"]
    assert {review.sha256[-1] for review in reviews.undo_all("ann")} == {"2", "3"}
    assert decisions(journal, 1, 2, 3) == ["real", None, None]
    assert len(reviews.undo_all("ann")) == 1
    assert reviews.undo_all("ann") == []
    assert len(reviews.redo_all("ann")) == 1
    assert decisions(journal, 1, 2, 3) == ["real", None, None]
    assert len(reviews.redo_all("ann")) == 2
    assert decisions(journal, 1, 2, 3) == ["real", "fake", "fake"]
    assert reviews.redo_all("ann") == []


def test_two_batches_of_the_same_moment_are_undone_one_by_one(journal, monkeypatch) -> None:
    monkeypatch.setattr("scanner.journal.reviews.now", lambda: "2026-01-01T00:00:00.000+00:00")
    journal.reviews.set_all([asked(1), asked(2)], reviewer="ann")
    journal.reviews.set_all([asked(3)], reviewer="ann")
    assert len(journal.reviews.undo_all("ann")) == 1
    assert decisions(journal, 1, 2, 3) == ["fake", "fake", None]


def test_one_bad_decision_in_a_batch_leaves_none(journal) -> None:
    with pytest.raises(ValueError, match="a decision is one of"):
        journal.reviews.set_all([asked(1), asked(2, "maybe")], reviewer="ann")
    assert decisions(journal, 1, 2) == [None, None]
