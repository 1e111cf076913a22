"""One connection to the journal's file, and SQLite's errors as one line with the remedy."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from scanner.errors import ImgscanError
from scanner.journal import schema

# Longer than any transaction of another scan takes; also on a slow disk.
BUSY_SECONDS = 30.0


class JournalError(ImgscanError):
    """The journal cannot be used. The message names the file and the remedy."""


class Database:
    """A connection that threads share in turn. `path` is made if it is not there.

    Raises JournalError, here and in every method.
    """

    def __init__(self, path: Path, *, busy_seconds: float = BUSY_SECONDS) -> None:
        self.path = path
        self._lock = threading.RLock()
        with explained(path):
            self._connection = sqlite3.connect(
                path, timeout=busy_seconds, isolation_level=None, check_same_thread=False
            )
        try:
            with explained(path):
                self._prepare(busy_seconds)
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self, busy_seconds: float) -> None:
        # Before anything is written: the name may be that of another program's database. In one
        # transaction, or a process that makes the tables meanwhile is taken for such a program.
        self._connection.execute("BEGIN")
        try:
            schema.check(self._connection)
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        if self._write_ahead(busy_seconds) != "wal":
            raise JournalError(_no_locking(self.path))
        # What is committed outlives this process however it ends; fsync at each commit would
        # add only that it outlives the power, and costs more than a small batch of scores.
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.execute("PRAGMA cache_size = -16384")  # KiB
        self._connection.execute("PRAGMA wal_autocheckpoint = 4000")  # pages of 4 KiB
        with self.transaction():
            schema.migrate(self._connection)

    def _write_ahead(self, busy_seconds: float) -> str:
        """Turn to WAL mode; the mode that it is in then."""
        end = time.monotonic() + busy_seconds
        while True:
            try:
                return str(self._connection.execute("PRAGMA journal_mode = WAL").fetchone()[0])
            except sqlite3.OperationalError as error:
                # For this lock, which processes that open a new journal at once compete for,
                # SQLite does not always wait by itself.
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                    raise
            time.sleep(0.01)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A write transaction: all of it, or on an exception none of it."""
        with self._lock, explained(self.path):
            # IMMEDIATE: a transaction that begins by reading could find at its first write that
            # another process was quicker, and for that there is no waiting.
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # some errors have rolled back by themselves
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The connection, for queries."""
        with self._lock, explained(self.path):
            yield self._connection

    def rows(self, sql: str, parameters: Sequence[object] = ()) -> list[Any]:
        """All rows of a query."""
        with self._lock, explained(self.path):
            return self._connection.execute(sql, parameters).fetchall()

    def close(self) -> None:
        """Close the file; what was committed stays."""
        with self._lock, explained(self.path):
            self._connection.close()


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """SQLite's errors as JournalError."""
    try:
        yield
    except schema.ForeignError:
        raise JournalError(
            f"{path}: belongs to another program; give a --journal of its own"
        ) from None
    except schema.NewerError as error:
        raise JournalError(
            f"{path}: a newer imgscan wrote this journal (schema {error.args[0]}, this one knows "
            f"{schema.VERSION}); use that version, or give another --journal"
        ) from None
    except sqlite3.Error as error:
        raise JournalError(_message(path, error)) from error


def _message(path: Path, error: sqlite3.Error) -> str:
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith(
        ("SQLITE_IOERR_LOCK", "SQLITE_IOERR_SHM", "SQLITE_PROTOCOL", "SQLITE_NOLFS")
    ):
        return _no_locking(path)
    for kinds, what, remedy in (
        (
            ("SQLITE_NOTADB", "SQLITE_CORRUPT", "SQLITE_FORMAT"),
            "is damaged, or no journal",
            "move it away or give another --journal (the files are then scanned anew), "
            "or scan with --no-journal",
        ),
        (
            ("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH"),
            "cannot be written",
            "give a --journal in a folder that can be written, or --no-journal",
        ),
        (
            ("SQLITE_FULL",),
            "the disk is full",
            "free some space, give a --journal on another disk, or --no-journal",
        ),
        (
            ("SQLITE_BUSY", "SQLITE_LOCKED"),
            "another program keeps it locked",
            "end that one, or give another --journal",
        ),
        (
            ("SQLITE_IOERR",),
            "the disk gave an error",
            "give a --journal on another disk, or --no-journal",
        ),
    ):
        if name.startswith(kinds):
            return f"{path}: {what}; {remedy}"
    return f"{path}: {error}; give another --journal, or --no-journal"


def _no_locking(path: Path) -> str:
    return (
        f"{path}: its file system has no locking that SQLite can use (a network drive?); "
        "give a --journal on a local disk, or --no-journal"
    )
