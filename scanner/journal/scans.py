"""The list that a scan leaves behind: every file's result in order, to be looked at again."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scanner.journal import cells
from scanner.journal.database import Database
from scanner.journal.paths import FolderIds, split
from scanner.journal.reviews import RANKS, now
from scanner.types import Failed, Verdict
from scanner.verdict import OperatingPoint

# A batch touches pages all over the indexes: the larger, the less each row costs. What a kill
# takes of it is made up by the scan that resumes.
_BATCH = 5000
_SECONDS = 1.0
# Lists of scans of which nobody can say which files were asked for, kept for the same roots.
_UNTOLD = 5
# Rows dropped in one transaction: few enough that another scan does not wait for them.
_DROPPED = 2000

_RANK = " ".join(f"WHEN '{decision}' THEN {rank}" for decision, rank in RANKS.items())
_ADD = f"""
    INSERT INTO scan_files (scan_id, seq, folder_id, name, p_fake, reason, detail, bytes,
        mtime_ns, sha256, width, height, format, notes, review)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14,
        (SELECT CASE e.decision {_RANK} END FROM review_heads AS h
            JOIN review_events AS e ON e.id = h.event_id WHERE h.sha256 = ?10))
"""


@dataclass(frozen=True, slots=True)
class ScanInfo:
    """A scan in the journal. Times are UTC, ISO 8601; `finished` is None if it broke off.

    `listed`: its files can be paged through; otherwise a later scan of the same took their place.
    `known` files were recalled and not opened. `selection` tells which files of the roots were
    asked for, as `record()` was told.
    """

    id: int
    started: str
    finished: str | None
    roots: tuple[Path, ...]
    model_name: str
    model_digest: str
    point: OperatingPoint
    listed: bool
    files: int
    suspects: int
    failed: int
    known: int
    selection: str | None = ""


class ScanRecorder:
    """Writes a scan's list, in batches. Raises JournalError."""

    def __init__(
        self,
        database: Database,
        pipeline_id: int,
        roots: Sequence[Path],
        point: OperatingPoint,
        selection: str | None,
    ) -> None:
        self._database = database
        self._pipeline = pipeline_id
        self._roots = json.dumps([os.path.abspath(root) for root in roots])  # noqa: PTH100 - no link resolved
        self._selection = selection
        self._folders = FolderIds()
        self._waiting: list[Verdict | Failed] = []
        self._files = self._suspects = self._failed = 0
        self._written = time.monotonic()
        with database.transaction() as connection:
            (number,) = connection.execute(
                "INSERT INTO scans (started, updated, roots, pipeline_id, operating_point, "
                "threshold, unsure_low, unsure_high, selection) "
                "VALUES (?1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) RETURNING id",
                (
                    now(),
                    self._roots,
                    pipeline_id,
                    point.name,
                    point.threshold,
                    *(point.unsure or (None, None)),
                    selection,
                ),
            ).fetchone()
        self.id = int(number)

    @property
    def files(self) -> int:
        """How many are written."""
        return self._files

    def add(self, result: Verdict | Failed, known: int = 0) -> None:
        """The scan's next result; `known` files were recalled so far."""
        self._waiting.append(result)
        if len(self._waiting) >= _BATCH or time.monotonic() - self._written > _SECONDS:
            self.write(known)

    def write(self, known: int = 0) -> None:
        """Write what is waiting, so that others see it."""
        rows = self._waiting
        self._waiting = []
        try:
            with self._database.transaction() as connection:
                connection.executemany(
                    _ADD,
                    [
                        (
                            self.id,
                            self._files + place,
                            self._folders.find_or_add(connection, folder),
                            name,
                            *_columns(result),
                        )
                        for place, result in enumerate(rows)
                        for folder, name in (split(result.ref),)
                    ],
                )
                self._files += len(rows)
                self._failed += sum(isinstance(row, Failed) for row in rows)
                self._suspects += sum(
                    isinstance(row, Verdict) and row.verdict == "fake" for row in rows
                )
                connection.execute(
                    "UPDATE scans SET updated = ?, files = ?, suspects = ?, failed = ?, known = ? "
                    "WHERE id = ?",
                    (now(), self._files, self._suspects, self._failed, known, self.id),
                )
        except BaseException:
            self._folders.committed(False)
            raise
        self._folders.committed()
        self._written = time.monotonic()

    def finish(self, known: int = 0) -> None:
        """The scan ran to its end. Lists of finished scans of the same files give way to this one.

        So do those of scans that broke off, if they have not been added to for an hour: until
        then another process may be at it. With a selection of None, the last few are kept.
        `tidy()` then frees their room.
        """
        self.write(known)
        with self._database.transaction() as connection:
            connection.execute("UPDATE scans SET finished = ? WHERE id = ?", (now(), self.id))
            connection.execute(
                "UPDATE scans SET listed = 0 WHERE listed AND id < ?1 AND roots = ?2 "
                "AND (selection = ?3 AND pipeline_id = ?4 OR ?3 IS NULL AND selection IS NULL "
                "AND id NOT IN (SELECT id FROM scans WHERE listed AND roots = ?2 "
                "AND selection IS NULL ORDER BY id DESC LIMIT ?5)) AND (finished IS NOT NULL "
                "OR julianday(updated) < julianday('now', '-1 hour'))",
                (self.id, self._roots, self._selection, self._pipeline, _UNTOLD),
            )

    def tidy(self) -> None:
        """Delete the rows of lists that gave way, also what an earlier `tidy()` did not get to.

        In short transactions: no other process waits for all of it, and a kill loses nothing.
        """
        for (number,) in self._database.rows(
            "SELECT id FROM scans WHERE NOT listed "
            "AND EXISTS (SELECT 1 FROM scan_files WHERE scan_id = scans.id)"
        ):
            self._drop(number)

    def _drop(self, number: int) -> None:
        while True:
            with self._database.transaction() as connection:
                gone = connection.execute(
                    "DELETE FROM scan_files WHERE scan_id = ?1 AND seq < ?2 + "
                    "(SELECT min(seq) FROM scan_files WHERE scan_id = ?1)",
                    (number, _DROPPED),
                ).rowcount
            if gone < _DROPPED:
                return


def scans(database: Database) -> list[ScanInfo]:
    """All scans, the last one first."""
    rows = database.rows(
        "SELECT s.id, started, finished, roots, model_name, model_digest, operating_point, "
        "threshold, unsure_low, unsure_high, listed, files, suspects, failed, known, selection "
        "FROM scans AS s JOIN pipelines AS p ON p.id = s.pipeline_id ORDER BY s.id DESC"
    )
    return [_info(*row) for row in rows]


def _info(number: int, started: str, finished: str | None, roots: str, *rest: Any) -> ScanInfo:
    name, digest, point, threshold, low, high, listed, *counts, selection = rest
    files, suspects, failed, known = counts
    return ScanInfo(
        id=number,
        started=started,
        finished=finished,
        roots=tuple(map(Path, json.loads(roots))),
        model_name=name,
        model_digest=digest,
        point=OperatingPoint(point, threshold, None if low is None else (low, high)),
        listed=bool(listed),
        files=files,
        suspects=suspects,
        failed=failed,
        known=known,
        selection=selection,
    )


def _columns(result: Verdict | Failed) -> tuple[object, ...]:
    facts = result.facts
    outcome = (
        (None, result.reason, result.detail)
        if isinstance(result, Failed)
        else (result.p_fake, None, None)
    )
    return (
        *outcome,
        facts.bytes,
        facts.mtime_ns,
        cells.pack_sha256(facts.sha256),
        facts.width,
        facts.height,
        facts.format,
        cells.pack_notes(facts.notes),
    )
