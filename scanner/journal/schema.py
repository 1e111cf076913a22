"""The tables, and the steps that lead an older journal to them.

A step, once published, is never edited: what changes is a new step. `user_version` in the
file's header says how many were taken, `application_id` that the file is a journal.
"""

from __future__ import annotations

import sqlite3

APPLICATION_ID = 0x494D5343  # "IMSC"

# Paths are bytes (os.fsencode), in two parts: folders are few and long, names many and short.
# A name never holds "/"; that of an archive's member is "archive.zip/member".
_VERSION_1 = (
    """CREATE TABLE folders (
        id INTEGER PRIMARY KEY,
        path BLOB NOT NULL UNIQUE             -- absolute, links resolved
    )""",
    """CREATE TABLE pipelines (                -- all that a result depends on besides the file
        id INTEGER PRIMARY KEY,
        model_digest TEXT NOT NULL,
        model_name TEXT NOT NULL,
        preprocess_digest TEXT NOT NULL,
        decoder_digest TEXT NOT NULL,
        UNIQUE (model_digest, model_name, preprocess_digest, decoder_digest)
    )""",
    # Without a rowid, rows lie in the order in which a walk asks for them: neighbours in a
    # folder are neighbours on the disk, and one search finds name and result.
    """CREATE TABLE results (
        pipeline_id INTEGER NOT NULL REFERENCES pipelines (id),
        folder_id INTEGER NOT NULL REFERENCES folders (id),
        name BLOB NOT NULL,
        size INTEGER,                         -- of the file; of a member's archive
        mtime_ns INTEGER,
        settled INTEGER NOT NULL,             -- 0: size and mtime_ns do not prove it unchanged
        sha256 BLOB,                          -- of the content; of a member's own
        bytes INTEGER,                        -- of a member only
        p_fake REAL,                          -- calibrated; NULL if `reason` says why not
        reason TEXT,
        detail TEXT,
        width INTEGER,
        height INTEGER,
        format TEXT,
        notes TEXT,                           -- separated by blanks
        PRIMARY KEY (pipeline_id, folder_id, name)
    ) WITHOUT ROWID""",
    """CREATE INDEX results_by_content ON results (sha256, pipeline_id)
        WHERE sha256 IS NOT NULL""",
    """CREATE TABLE scans (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        started TEXT NOT NULL,                -- times are UTC, ISO 8601
        updated TEXT NOT NULL,
        finished TEXT,                        -- NULL: running, or broken off
        roots TEXT NOT NULL,                  -- a JSON array
        pipeline_id INTEGER NOT NULL REFERENCES pipelines (id),
        operating_point TEXT NOT NULL,
        threshold REAL NOT NULL,
        listed INTEGER NOT NULL DEFAULT 1,    -- 0: a later scan's list took the place of this one's
        files INTEGER NOT NULL DEFAULT 0,
        suspects INTEGER NOT NULL DEFAULT 0,
        failed INTEGER NOT NULL DEFAULT 0,
        known INTEGER NOT NULL DEFAULT 0      -- files recalled and not opened
    )""",
    # What a scan said of each file, complete: later scans change `results`, not this.
    """CREATE TABLE scan_files (
        scan_id INTEGER NOT NULL REFERENCES scans (id),
        seq INTEGER NOT NULL,                 -- the order of the scan, from 0
        folder_id INTEGER NOT NULL REFERENCES folders (id),
        name BLOB NOT NULL,
        p_fake REAL,
        reason TEXT,
        detail TEXT,
        bytes INTEGER,
        mtime_ns INTEGER,
        sha256 BLOB,
        width INTEGER,
        height INTEGER,
        format TEXT,
        notes TEXT,
        review INTEGER,                       -- rank of the present decision; NULL: none
        PRIMARY KEY (scan_id, seq)
    ) WITHOUT ROWID""",
    # One for each order of the list; each ends in `seq`, so that no order has ties.
    "CREATE INDEX scan_files_by_p_fake ON scan_files (scan_id, p_fake, seq)",
    "CREATE INDEX scan_files_by_name ON scan_files (scan_id, name, seq)",
    "CREATE INDEX scan_files_by_folder ON scan_files (scan_id, folder_id, seq, p_fake)",
    "CREATE INDEX scan_files_by_size ON scan_files (scan_id, bytes, seq)",
    "CREATE INDEX scan_files_by_review ON scan_files (scan_id, review, seq)",
    "CREATE INDEX scan_files_by_content ON scan_files (sha256) WHERE sha256 IS NOT NULL",
    # Never changed, only added to. `set` rows hold a decision; `undo` and `redo` rows point at
    # one. The last row of a reviewer says what that reviewer would undo and redo next.
    """CREATE TABLE review_events (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        kind TEXT NOT NULL CHECK (kind IN ('set', 'undo', 'redo')),
        reviewer TEXT NOT NULL,
        time TEXT NOT NULL,
        target INTEGER REFERENCES review_events (id),     -- of undo and redo
        undo_top INTEGER REFERENCES review_events (id),   -- the `set` to undo next
        undo_below INTEGER REFERENCES review_events (id), -- of set: the one to undo after it
        redo_top INTEGER REFERENCES review_events (id),   -- the `undo` to take back next
        redo_below INTEGER REFERENCES review_events (id), -- of undo: the one to take back after it
        sha256 BLOB NOT NULL,
        path BLOB NOT NULL,                   -- where the picture lay, links resolved
        decision TEXT CHECK (decision IN ('real', 'fake', 'unsure', 'skip')),
        note TEXT NOT NULL DEFAULT '',
        tags TEXT NOT NULL DEFAULT '[]',      -- a JSON array
        model_digest TEXT NOT NULL DEFAULT ''
    )""",
    "CREATE INDEX review_events_by_content ON review_events (sha256, id)",
    "CREATE INDEX review_events_by_reviewer ON review_events (reviewer, id)",
    "CREATE INDEX review_events_by_target ON review_events (target, id) WHERE target IS NOT NULL",
    # The `set` that holds for each content now. It follows from the events, and is kept up with
    # them so that lists can be joined to it.
    """CREATE TABLE review_heads (
        sha256 BLOB PRIMARY KEY,
        event_id INTEGER NOT NULL REFERENCES review_events (id)
    ) WITHOUT ROWID""",
)

# Lists are filtered while they are read in order: what most filters look at is in the index too,
# so that a filter that few files pass does not fetch each of the others' rows to find that out.
_VERSION_2 = tuple(
    statement
    for name, columns in (
        ("p_fake", "p_fake, seq, review, folder_id"),
        ("name", "name, seq, p_fake, review, folder_id"),
        ("folder", "folder_id, seq, p_fake, review"),
        ("size", "bytes, seq, p_fake, review, folder_id"),
        ("review", "review, seq, p_fake, folder_id"),
    )
    for statement in (
        f"DROP INDEX scan_files_by_{name}",
        f"CREATE INDEX scan_files_by_{name} ON scan_files (scan_id, {columns})",
    )
)

# Which of the roots' files a scan asked for, so that a scan of a part of them does not take the
# place of one of all. NULL: nobody can say, and it takes no place and leaves its own to none.
# And the band of P(fake) in which no verdict was given; NULL: there was none.
_VERSION_3 = (
    "ALTER TABLE scans ADD COLUMN selection TEXT",
    "ALTER TABLE scans ADD COLUMN unsure_low REAL",
    "ALTER TABLE scans ADD COLUMN unsure_high REAL",
)

# What a result holds under, where it hangs on a limit. A failure that more memory might have
# spared holds where there is no more of it; one for a limit on the file, under that very limit.
# Of those kept before, nobody can say.
_VERSION_4 = (
    "ALTER TABLE results ADD COLUMN memory_mb INTEGER",  # NULL: under any
    "ALTER TABLE results ADD COLUMN max_pixels INTEGER",
    "ALTER TABLE results ADD COLUMN max_bytes INTEGER",
    "DELETE FROM results WHERE reason IN ('too_large', 'truncated', 'unreadable')",
)

STEPS = (_VERSION_1, _VERSION_2, _VERSION_3, _VERSION_4)
VERSION = len(STEPS)


class ForeignError(Exception):
    """The database is not a journal."""


class NewerError(Exception):
    """The journal's version, the only argument, is above `VERSION`."""


def check(connection: sqlite3.Connection) -> int:
    """The version of the journal, 0 if it is an empty file. Changes nothing.

    To be called inside a transaction: what it reads must be of one moment.
    Raises ForeignError and NewerError.
    """
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != APPLICATION_ID and (application or version or tables):
        raise ForeignError
    if version > VERSION:
        raise NewerError(version)
    return int(version)


def migrate(connection: sqlite3.Connection) -> None:
    """Take the steps that are left, all or none. To be called inside a write transaction."""
    version = check(connection)
    for step in STEPS[version:]:
        for statement in step:
            connection.execute(statement)
    if version < VERSION:
        # Parts of the file's header, and so of the transaction; pragmas take no parameters.
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {VERSION}")
