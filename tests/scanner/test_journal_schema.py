"""Journals of every earlier version are taken over with all that is in them."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from scanner.journal import Journal, JournalError, Pipeline, Query, Sort, schema
from scanner.types import FileFacts, ImageRef, Scored

PIPELINE = Pipeline("fake", "0123456789ab", "aaaaaaaaaaaa", "bbbbbbbbbbbb")
SHA = "ab" * 32
LONG_AGO_NS = 1_600_000_000_123_456_789


def made_by_version(version: int, path: Path, folder: Path) -> None:
    """A journal as that version left it: a result, a scan of it and an undone review."""
    connection = sqlite3.connect(path)
    for step in schema.STEPS[:version]:
        for statement in step:
            connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {version}")
    sha = bytes.fromhex(SHA)
    place = os.fsencode(os.path.realpath(folder))
    for statement, values in (
        ("INSERT INTO folders VALUES (7, ?)", (place,)),
        (
            "INSERT INTO pipelines VALUES "
            "(3, '0123456789ab', 'fake', 'aaaaaaaaaaaa', 'bbbbbbbbbbbb')",
            (),
        ),
        (
            "INSERT INTO results (pipeline_id, folder_id, name, size, mtime_ns, settled, sha256, "
            "bytes, p_fake, reason, detail, width, height, format, notes) VALUES (3, 7, ?, "
            "7, ?, 1, ?, NULL, 0.75, NULL, NULL, 40, 32, "
            "'PNG', 'truncated')",
            (b"a.png", LONG_AGO_NS, sha),
        ),
        (
            "INSERT INTO scans (id, started, updated, finished, roots, pipeline_id, "
            "operating_point, threshold, listed, files, suspects, failed, known) VALUES "
            "(5, '2026-01-01T00:00:00.000+00:00', '2026-01-01T00:00:01.000+00:00', NULL, "
            "'[\"/p\"]', 3, 'youden', 0.5, 1, 1, 1, 0, 0)",
            (),
        ),
        (
            "INSERT INTO scan_files VALUES (5, 0, 7, ?, 0.75, NULL, NULL, 7, ?, ?, 40, 32, "
            "'PNG', 'truncated', 1)",
            (b"a.png", LONG_AGO_NS, sha),
        ),
        (
            "INSERT INTO review_events (id, kind, reviewer, time, undo_top, sha256, path, "
            "decision, note) VALUES (1, 'set', 'ann', '2026-01-01T00:00:02.000+00:00', 1, ?, ?, "
            "'fake', 'hands')",
            (sha, place + b"/a.png"),
        ),
        ("INSERT INTO review_heads VALUES (?, 1)", (sha,)),
    ):
        connection.execute(statement, values)
    connection.commit()
    connection.close()


@pytest.mark.parametrize("version", range(1, schema.VERSION + 1))
def test_a_journal_of_every_earlier_version_is_taken_over_whole(tmp_path, version) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    ref = ImageRef(folder / "a.png")
    ref.path.write_bytes(b"picture")
    os.utime(ref.path, ns=(LONG_AGO_NS, LONG_AGO_NS))
    made_by_version(version, tmp_path / "j.sqlite", folder)

    facts = FileFacts(40, 32, "PNG", 7, SHA, LONG_AGO_NS, ("truncated",))
    with Journal(tmp_path / "j.sqlite") as journal:
        assert journal.memory(PIPELINE).recall([ref]) == [Scored(ref, 0.75, facts)]
        assert journal.memory(PIPELINE).contents.find(SHA, "PNG").p_fake == 0.75
        (info,) = journal.scans()
        assert (info.id, info.files, info.finished) == (5, 1, None)
        (row,) = journal.pages.page(5, Query(verdict="fake"), Sort("p_fake", True))
        assert (row.ref.path.name, row.facts, row.review.note) == ("a.png", facts, "hands")
        assert journal.reviews.undo("ann").decision == "fake"
        assert journal.pages.count(5, Query(review="unreviewed")) == 1
        journal.memory(PIPELINE).keep([Scored(ref, 0.5, facts)])
    with Journal(tmp_path / "again.sqlite"):
        pass
    assert tables(tmp_path / "j.sqlite") == tables(tmp_path / "again.sqlite")


def tables(path: Path) -> tuple[int, set[tuple[str, ...]]]:
    connection = sqlite3.connect(path)
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    found = set(connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master"))
    connection.close()
    return version, found


def test_a_migration_that_fails_leaves_the_journal_at_its_version(tmp_path, monkeypatch) -> None:
    path = tmp_path / "j.sqlite"
    made_by_version(1, path, tmp_path)
    before = tables(path)
    broken = (*schema.STEPS, ("CREATE TABLE more (x)", "INSERT INTO missing VALUES (1)"))
    monkeypatch.setattr(schema, "STEPS", broken)
    monkeypatch.setattr(schema, "VERSION", len(broken))
    with pytest.raises(JournalError, match="missing"):
        Journal(path)
    assert tables(path) == before
    monkeypatch.undo()
    Journal(path).close()
    assert tables(path)[0] == schema.VERSION
