"""The book of a cache of decoded pictures: which file has which content, and what is kept.

One SQLite file beside the entries. It decides nothing that the entries do not say themselves:
lost or damaged, it is made anew from them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from scanner.errors import UsageError

FileKey = tuple[str, int, int, int]  # path, offset in it (-1: all of it), bytes, mtime in ns

_SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
    path TEXT, start INTEGER, bytes INTEGER, mtime INTEGER, sha256 TEXT,
    PRIMARY KEY (path, start)
);
CREATE TABLE IF NOT EXISTS entries (name TEXT PRIMARY KEY, bytes INTEGER, used REAL);
CREATE INDEX IF NOT EXISTS by_use ON entries (used);
CREATE TABLE IF NOT EXISTS total (bytes INTEGER);
INSERT INTO total SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM total);
CREATE TRIGGER IF NOT EXISTS came AFTER INSERT ON entries
    BEGIN UPDATE total SET bytes = bytes + NEW.bytes; END;
CREATE TRIGGER IF NOT EXISTS went AFTER DELETE ON entries
    BEGIN UPDATE total SET bytes = bytes - OLD.bytes; END;
"""


class Index:
    """Open only inside `opened()`; one thread at a time; several processes may.

    `bytes` are those of files; `used` is in seconds since 1970.
    """

    def __init__(self, folder: Path, connection: sqlite3.Connection) -> None:
        self.folder, self._db = folder, connection

    def digest(self, key: FileKey) -> str | None:
        """SHA-256 of a file that has not changed since it was read, else None."""
        row = self._db.execute(
            "SELECT sha256 FROM files WHERE path = ? AND start = ? AND bytes = ? AND mtime = ?",
            _plain(key),
        ).fetchone()
        return None if row is None else str(row[0])

    def remember(self, digests: Iterable[tuple[FileKey, str]]) -> None:
        """The content of files, SHA-256 in hexadecimal, for the next time."""
        with self._db:
            self._db.executemany(
                "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)",
                [(*_plain(key), sha256) for key, sha256 in digests],
            )

    def mark_used(self, names: Iterable[str], now: float) -> None:
        """That entries are in use `now`; those that the book does not know are entered."""
        with self._db:
            for name in names:
                known = self._db.execute("UPDATE entries SET used = ? WHERE name = ?", (now, name))
                if not known.rowcount:
                    size = (self.folder / name).stat().st_size
                    self._db.execute("INSERT INTO entries VALUES (?, ?, ?)", (name, size, now))

    def make_room(self, name: str, size: int, *, limit: int, unused_since: float) -> bool:
        """Enter an entry of `size` bytes if all of them together then stay within `limit`.

        Entries last used before `unused_since` give way to it, the oldest first. False: there
        is no room, and nothing was entered.
        """
        with self._db:
            self._db.execute("DELETE FROM entries WHERE name = ?", (name,))
            spare = limit - self.bytes() - size
            going = []
            if spare < 0:
                for other, other_size in self._db.execute(
                    "SELECT name, bytes FROM entries WHERE used < ? ORDER BY used",
                    (unused_since,),
                ):
                    going.append(other)
                    spare += other_size
                    if spare >= 0:
                        break
            if spare < 0:
                return False
            for other in going:
                (self.folder / other).unlink(missing_ok=True)
                self._db.execute("DELETE FROM entries WHERE name = ?", (other,))
            self._db.execute("INSERT INTO entries VALUES (?, ?, ?)", (name, size, unused_since))
        return True

    def forget(self, name: str) -> None:
        """Take back what `make_room` entered."""
        with self._db:
            self._db.execute("DELETE FROM entries WHERE name = ?", (name,))

    def bytes(self) -> int:
        """What all entries take together."""
        return int(self._db.execute("SELECT bytes FROM total").fetchone()[0])


@contextmanager
def opened(folder: Path, suffix: str) -> Iterator[Index]:
    """The book of `folder`, whose entries are the files below it that end in `suffix`."""
    path = folder / "index.sqlite"
    try:
        connection, fresh = _connect(path)
    except sqlite3.DatabaseError:
        # Nothing is lost with it but the time to read each file once more.
        path.unlink(missing_ok=True)
        try:
            connection, fresh = _connect(path)
        except sqlite3.DatabaseError as error:
            raise UsageError(
                f"{path}: {error}; name another folder with --cache, or give --cache-limit 0"
            ) from None
    index = Index(folder, connection)
    try:
        if fresh:
            found = sorted(folder.rglob(f"*{suffix}"))
            index.mark_used([p.relative_to(folder).as_posix() for p in found], 0.0)
        yield index
    finally:
        connection.close()


def _connect(path: Path) -> tuple[sqlite3.Connection, bool]:
    connection = sqlite3.connect(path, timeout=60)
    try:
        # What a power cut may take is made anew: there is nothing here to wait for a disk for.
        connection.execute("PRAGMA synchronous = OFF")
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        connection.executescript(_SCHEMA)
    except sqlite3.DatabaseError:
        connection.close()
        raise
    return connection, not tables


def _plain(key: FileKey) -> tuple[str, int, int, int]:
    """SQLite takes no lone surrogates, which paths that are no UTF-8 hold."""
    path, *rest = key
    return (path.encode("utf-8", "surrogateescape").hex(), *rest)  # type: ignore[return-value]
