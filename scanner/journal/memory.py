"""The journal as a scan's `Memory`: what is known of a file, by its name or by its content."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scanner.journal import cells
from scanner.journal.database import Database
from scanner.journal.held import HOLDS, Held
from scanner.journal.paths import FolderIds, split
from scanner.memory import Contents, KnownContent
from scanner.types import Failed, FileFacts, ImageRef, Scored

# The coarsest time of change that a file system in use keeps (FAT: two seconds). A file changed
# again this shortly after it was read may show the size and time that it had before.
GRANULARITY_NS = 2_000_000_000
# Names in one query, in steps, so that SQLite meets few statements and keeps them compiled.
_STEPS = (1, 8, 64, 500)
# A lookup never waits long for what decoding would answer too.
_LOOKUP_SECONDS = 2.0

_RECALL = f"""
    SELECT name, size, mtime_ns, sha256, bytes, p_fake, reason, detail, width, height, format,
        notes
    FROM results WHERE pipeline_id = ?4 AND folder_id = ?5 AND settled AND {HOLDS}
        AND name IN ({{marks}})
"""
_KEEP = """
    INSERT OR REPLACE INTO results (pipeline_id, folder_id, name, size, mtime_ns, settled,
        sha256, bytes, p_fake, reason, detail, width, height, format, notes, memory_mb,
        max_pixels, max_bytes)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_OF_CONTENT = ", ".join(f"'{reason}'" for reason in sorted(cells.OF_CONTENT))
# Of itself SQLite would go through all of the pipeline's results.
_FIND = f"""
    SELECT p_fake, reason, detail, coalesce(bytes, size), width, height, format, notes
    FROM results INDEXED BY results_by_content WHERE sha256 = ?4 AND pipeline_id = ?5
        AND (?6 IS NULL OR format = ?6)
        AND (p_fake IS NOT NULL OR reason IN ({_OF_CONTENT})) AND {HOLDS}
    ORDER BY folder_id, name LIMIT 1
"""


class JournalMemory:
    """Results of one pipeline. With `renew`, nothing is recalled, and what is kept replaces.

    `known` counts the files recalled. Raises JournalError.
    """

    def __init__(
        self, database: Database, pipeline_id: int, held: Held, *, renew: bool = False
    ) -> None:
        self.known = 0
        self._held = held
        self._database = database
        self._pipeline = pipeline_id
        self._renew = renew
        self._folders = FolderIds()
        self._lock = threading.Lock()  # of `_folders`, together with the database's own
        # Whatever is kept was read after this moment.
        self._opened_ns = time.time_ns()

    @property
    def contents(self) -> Contents | None:
        """Known contents, for worker processes."""
        if self._renew:
            return None
        return JournalContents(self._database.path, self._pipeline, self._held)

    def recall(self, refs: Sequence[ImageRef]) -> list[Scored | Failed | None]:
        """For each ref what is known, by path, size and time of change; no file is opened."""
        known: list[Scored | Failed | None] = [None] * len(refs)
        if self._renew:
            return known
        folders: dict[str, dict[bytes, list[int]]] = {}
        for index, ref in enumerate(refs):
            folder, name = split(ref)
            folders.setdefault(folder, {}).setdefault(name, []).append(index)
        with self._lock:
            for folder, names in folders.items():
                for row in self._rows(folder, list(names)):
                    for index in names[row[0]]:
                        known[index] = _if_unchanged(refs[index], row)
        self.known += sum(result is not None for result in known)
        return known

    def _rows(self, folder: str, names: list[bytes]) -> list[tuple[Any, ...]]:
        with self._database.reading() as connection:
            number = self._folders.find(connection, folder)
            if number is None:
                return []
            rows: list[tuple[Any, ...]] = []
            for start in range(0, len(names), _STEPS[-1]):
                part = names[start : start + _STEPS[-1]]
                step = next(step for step in _STEPS if step >= len(part))
                part += part[-1:] * (step - len(part))
                sql = _RECALL.format(marks=", ".join("?" * step))
                rows += connection.execute(
                    sql, (*self._held.parameters, self._pipeline, number, *part)
                )
            return rows

    def keep(self, results: Sequence[Scored | Failed]) -> None:
        """Remember `results`, in one transaction. A kill of the process then loses none."""
        archives = _Archives()
        lasting = [result for result in results if self._held.lasts(result)]
        if not lasting:
            return
        with self._lock:
            try:
                with self._database.transaction() as connection:
                    connection.executemany(
                        _KEEP, [self._row(connection, result, archives) for result in lasting]
                    )
            except BaseException:
                self._folders.committed(False)
                raise
            self._folders.committed()

    def _row(
        self, connection: sqlite3.Connection, result: Scored | Failed, archives: _Archives
    ) -> tuple[object, ...]:
        folder, name = split(result.ref)
        facts = result.facts
        size, member_bytes = facts.bytes, None
        if result.ref.member is not None:
            size, member_bytes = archives.size(result.ref.path, facts.mtime_ns), facts.bytes
        settled = (
            size is not None
            and facts.mtime_ns is not None
            and facts.mtime_ns <= self._opened_ns - GRANULARITY_NS
        )
        outcome = (
            (result.p_fake, None, None)
            if isinstance(result, Scored)
            else (None, result.reason, result.detail)
        )
        return (
            self._pipeline,
            self._folders.find_or_add(connection, folder),
            name,
            size,
            facts.mtime_ns,
            settled,
            cells.pack_sha256(facts.sha256),
            member_bytes,
            *outcome,
            facts.width,
            facts.height,
            facts.format,
            cells.pack_notes(facts.notes),
            *self._held.columns(result),
        )


def _if_unchanged(ref: ImageRef, row: tuple[Any, ...]) -> Scored | Failed | None:
    _, size, mtime_ns, sha256, member_bytes, p_fake, reason, detail, *rest = row
    try:
        now = os.stat(ref.path)  # noqa: PTH116 - a quarter of the time that Path.stat() takes
    except (OSError, ValueError):
        return None
    if now.st_size != size or now.st_mtime_ns != mtime_ns or not stat.S_ISREG(now.st_mode):
        return None
    width, height, kind, notes = rest
    if ref.member is not None:
        size = member_bytes
    facts = cells.unpack_facts(width, height, kind, size, sha256, mtime_ns, notes)
    if reason is None:
        assert isinstance(p_fake, float)
        return Scored(ref, p_fake, facts)
    return Failed(ref, cells.unpack_reason(str(reason)), str(detail), facts)


class _Archives:
    """Sizes of the archives in one batch: the facts of a member tell only its own."""

    def __init__(self) -> None:
        self._infos: dict[Path, tuple[int, int] | None] = {}

    def size(self, path: Path, mtime_ns: int | None) -> int | None:
        """Size in bytes of the archive, if it is still the one that changed at `mtime_ns`."""
        if path not in self._infos:
            try:
                info = path.stat()
                self._infos[path] = info.st_size, info.st_mtime_ns
            except OSError:
                self._infos[path] = None
        found = self._infos[path]
        return found[0] if found is not None and found[1] == mtime_ns else None


@dataclass
class JournalContents:
    """Known contents by hash, read in whatever process asks.

    A journal that is busy, damaged or gone has no answers: the worker then decodes.
    """

    path: Path
    pipeline_id: int
    held: Held
    _connection: sqlite3.Connection | None = field(default=None, init=False, repr=False)
    _process: int = field(default=0, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def __reduce__(self) -> tuple[type[JournalContents], tuple[Path, int, Held]]:
        return JournalContents, (self.path, self.pipeline_id, self.held)

    def find(self, sha256: str, kind: str | None) -> KnownContent | None:
        """What is known of a file with this hash that is read as the format `kind`."""
        found = (*self.held.parameters, bytes.fromhex(sha256), self.pipeline_id, kind)
        with self._lock:
            try:
                row = self._open().execute(_FIND, found).fetchone()
            except sqlite3.Error:
                self._connection = None  # it may be back the next time
                return None
        if row is None:
            return None
        p_fake, reason, detail, size, width, height, kind, notes = row
        facts = FileFacts(
            width=width,
            height=height,
            format=kind,
            bytes=size,
            sha256=sha256,
            notes=cells.unpack_notes(notes, of_name=False),
        )
        return KnownContent(
            p_fake, None if reason is None else cells.unpack_reason(reason), detail or "", facts
        )

    def _open(self) -> sqlite3.Connection:
        # A connection must not be carried over a fork: the lock is the parent's.
        if self._connection is None or self._process != os.getpid():
            self._connection = sqlite3.connect(
                f"{self.path.absolute().as_uri()}?mode=ro",
                uri=True,
                timeout=_LOOKUP_SECONDS,
                isolation_level=None,
                check_same_thread=False,
            )
            self._process = os.getpid()
        return self._connection
