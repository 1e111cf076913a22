"""A scan's list in pages: any order, filtered, each page quick however long the list is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from scanner.journal import cells, reviews
from scanner.journal.database import Database
from scanner.journal.paths import join, real_folder
from scanner.journal.reviews import RANKS, Decision, Review
from scanner.types import FileFacts, ImageRef, Reason, VerdictName
from scanner.verdict import OperatingPoint

SortColumn = Literal["order", "p_fake", "name", "folder", "size", "review"]
ReviewState = Literal["reviewed", "unreviewed"] | Decision

# Column and index of each order; `folder` is put together from the folders' own order.
_ORDERS: dict[SortColumn, tuple[str, str | None]] = {
    "order": ("seq", None),
    "p_fake": ("p_fake", "scan_files_by_p_fake"),
    "name": ("name", "scan_files_by_name"),
    "size": ("bytes", "scan_files_by_size"),
    "review": ("review", "scan_files_by_review"),
}


# Parameters in one query; SQLite takes more, in every version in use.
_NUMBERS = 500


@dataclass(frozen=True, slots=True)
class Query:
    """Which of a scan's files; what is None does not matter.

    `text` is looked for in the path, without regard to the case of A-Z. `verdict` is what
    `scanner.verdict.judge()` gives by `point`, or by the scan's own if that is None. `folder`
    stands for all that is below it too. `p_min` and `p_max` are both included. `tag` is one of
    those of the review, without regard to the case of A-Z.
    """

    text: str | None = None
    verdict: VerdictName | Literal["failed"] | None = None
    point: OperatingPoint | None = None
    p_min: float | None = None
    p_max: float | None = None
    reason: Reason | None = None
    folder: Path | None = None
    review: ReviewState | None = None
    tag: str | None = None


@dataclass(frozen=True, slots=True)
class Sort:
    """An order. Descending is exactly the reverse of ascending.

    In ascending order, failed files come before the lowest `p_fake`, files without a review
    before reviewed ones (fake, unsure, real, skip), and equal ones in the order of the scan.
    """

    column: SortColumn = "order"
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A file of a scan. `p_fake` in [0, 1], or None, and then `reason` says why.

    `ref` has an absolute path. `review` is the one that holds now, whenever the scan was.
    """

    seq: int
    ref: ImageRef
    p_fake: float | None
    reason: Reason | None
    detail: str
    facts: FileFacts
    review: Review | None


@dataclass(frozen=True, slots=True)
class FolderCount:
    """A folder's own files in a scan, without those of the folders below it."""

    path: Path
    files: int
    suspects: int
    failed: int

    @property
    def density(self) -> float:
        """Suspects among the files that have a score, 0 to 1."""
        return self.suspects / max(1, self.files - self.failed)


class Pages:
    """The files of scans, in pages. Raises JournalError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def page(
        self,
        scan_id: int,
        query: Query = Query(),
        sort: Sort = Sort(),
        *,
        offset: int = 0,
        limit: int = 100,
    ) -> list[Row]:
        """At most `limit` of the files that match, from the `offset`-th on."""
        if sort.column == "folder":
            numbers = self._by_folder(scan_id, query, sort, offset, limit)
        else:
            column, index = _ORDERS[sort.column]
            where, values = self._where(scan_id, query)
            # By itself SQLite, which knows nothing of the numbers, may filter by one index and
            # look up each row to sort it. What indexes do not hold is looked up in the order of
            # the table, and sorted then.
            if query.text or query.reason or index is None:
                index = None
            forced = "NOT INDEXED" if index is None else f"INDEXED BY {index}"
            numbers = [
                row[0]
                for row in self._database.rows(
                    f"SELECT seq FROM scan_files AS s {forced} WHERE {where} "
                    f"ORDER BY {_order(column, sort.descending)} LIMIT ? OFFSET ?",
                    (*values, limit, offset),
                )
            ]
        return self.rows(scan_id, numbers)

    def count(self, scan_id: int, query: Query = Query()) -> int:
        """How many files match."""
        where, values = self._where(scan_id, query)
        rows = self._database.rows(f"SELECT count(*) FROM scan_files AS s WHERE {where}", values)
        return int(rows[0][0])

    def folders(self, scan_id: int, point: OperatingPoint | None = None) -> list[FolderCount]:
        """The scan's folders, most suspects first; by `point`, or by the scan's own."""
        rows = self._database.rows(
            "SELECT f.path, c.files, c.suspects, c.failed FROM (SELECT folder_id, "
            "count(*) AS files, coalesce(sum(p_fake >= ?), 0) AS suspects, "
            "sum(p_fake IS NULL) AS failed FROM scan_files INDEXED BY scan_files_by_folder "
            "WHERE scan_id = ? GROUP BY folder_id) AS c JOIN folders AS f ON f.id = c.folder_id "
            "ORDER BY c.suspects DESC, f.path",
            (self._bounds(scan_id, point)[1], scan_id),
        )
        return [FolderCount(Path(os.fsdecode(path)), *counts) for path, *counts in rows]

    def _by_folder(
        self, scan_id: int, query: Query, sort: Sort, offset: int, limit: int
    ) -> list[int]:
        """The folders that the page lies in, found by their counts; then their files."""
        where, values = self._where(scan_id, query)
        index = "INDEXED BY scan_files_by_folder"
        direction = "DESC" if sort.descending else "ASC"
        counts = self._database.rows(
            f"SELECT c.folder_id, c.files FROM (SELECT s.folder_id, count(*) AS files "
            f"FROM scan_files AS s {index} WHERE {where} GROUP BY s.folder_id) AS c "
            f"JOIN folders AS f ON f.id = c.folder_id ORDER BY f.path {direction}",
            values,
        )
        numbers: list[int] = []
        for folder_id, files in counts:
            if offset >= files:
                offset -= files
                continue
            if len(numbers) >= limit:
                break
            numbers += [
                row[0]
                for row in self._database.rows(
                    f"SELECT seq FROM scan_files AS s {index} WHERE {where} AND s.folder_id = ? "
                    f"ORDER BY seq {direction} LIMIT ? OFFSET ?",
                    (*values, folder_id, limit - len(numbers), offset),
                )
            ]
            offset = 0
        return numbers

    def rows(self, scan_id: int, numbers: Sequence[int]) -> list[Row]:
        """The files with these `seq`, in this order."""
        marks = ", ".join("?" * len(numbers))
        rows = self._database.rows(
            "SELECT s.seq, f.path, s.name, s.p_fake, s.reason, s.detail, s.width, s.height, "
            "s.format, s.bytes, s.sha256, s.mtime_ns, s.notes, "
            "e.id, e.sha256, e.path, e.decision, e.note, e.tags, e.reviewer, e.time, "
            "e.model_digest FROM scan_files AS s JOIN folders AS f ON f.id = s.folder_id "
            "LEFT JOIN review_heads AS h ON h.sha256 = s.sha256 "
            "LEFT JOIN review_events AS e ON e.id = h.event_id "
            f"WHERE s.scan_id = ? AND s.seq IN ({marks})",
            (scan_id, *numbers),
        )
        by_number = {row[0]: _row(row) for row in rows}
        # A list that a later scan took the place of meanwhile has lost some.
        return [by_number[number] for number in numbers if number in by_number]

    def numbers(
        self,
        scan_id: int,
        query: Query = Query(),
        *,
        after: int = -1,
        among: Sequence[int] | None = None,
    ) -> list[int]:
        """`seq` of the files that match and come after `after`, in the order of the scan.

        `among`: at most 500 files, of which alone is asked.
        """
        where, values = self._where(scan_id, query)
        if among is not None:
            where += f" AND s.seq IN ({', '.join('?' * len(among))})"
            values += among
        rows = self._database.rows(
            f"SELECT seq FROM scan_files AS s WHERE {where} AND seq > ? ORDER BY seq",
            (*values, after),
        )
        return [row[0] for row in rows]

    def numbers_by_name(self, scan_id: int) -> list[int]:
        """`seq` of all files, in the order of their names."""
        rows = self._database.rows(
            "SELECT seq FROM scan_files INDEXED BY scan_files_by_name WHERE scan_id = ? "
            "ORDER BY name, seq",
            (scan_id,),
        )
        return [row[0] for row in rows]

    def columns(
        self, scan_id: int, *, after: int = -1, limit: int = -1
    ) -> list[tuple[int, float | None, int | None, int | None]]:
        """Folder's number, `p_fake`, bytes and rank of the review of each file after `after`.

        `seq` counts the files of a scan without a gap, so that the place in the list tells it.
        """
        return self._database.rows(
            "SELECT folder_id, p_fake, bytes, review FROM scan_files "
            "WHERE scan_id = ? AND seq > ? ORDER BY seq LIMIT ?",
            (scan_id, after, limit),
        )

    def reviewed(self, scan_id: int) -> list[tuple[int, int]]:
        """`seq` and rank of every file with a review."""
        return self._database.rows(
            "SELECT seq, review FROM scan_files INDEXED BY scan_files_by_review "
            "WHERE scan_id = ? AND review IS NOT NULL",
            (scan_id,),
        )

    def tags(self) -> list[str]:
        """The tags of all reviews that hold, wherever the pictures are, the commonest first."""
        rows = self._database.rows(
            "SELECT t.value FROM review_heads AS h JOIN review_events AS e ON e.id = h.event_id "
            "JOIN json_each(e.tags) AS t WHERE e.tags <> '[]' "
            "GROUP BY t.value ORDER BY count(*) DESC, t.value"
        )
        return [row[0] for row in rows]

    def count_reviewed(self, scan_id: int) -> int:
        """How many of the scan's files have a review."""
        rows = self._database.rows(
            "SELECT count(*) FROM scan_files INDEXED BY scan_files_by_review "
            "WHERE scan_id = ? AND review IS NOT NULL",
            (scan_id,),
        )
        return int(rows[0][0])

    def holders(self, scan_id: int, sha256: str) -> list[int]:
        """`seq` of the files with this content."""
        rows = self._database.rows(
            "SELECT seq FROM scan_files INDEXED BY scan_files_by_content "
            "WHERE sha256 = ? AND scan_id = ?",
            (cells.pack_sha256(sha256), scan_id),
        )
        return [row[0] for row in rows]

    def folder_paths(self, numbers: Sequence[int]) -> dict[int, Path]:
        """The folders with these numbers."""
        found: dict[int, Path] = {}
        for start in range(0, len(numbers), _NUMBERS):
            part = list(numbers[start : start + _NUMBERS])
            marks = ", ".join("?" * len(part))
            rows = self._database.rows(f"SELECT id, path FROM folders WHERE id IN ({marks})", part)
            found.update((number, Path(os.fsdecode(path))) for number, path in rows)
        return found

    def _bounds(self, scan_id: int, point: OperatingPoint | None) -> tuple[float, float]:
        """P(fake) below which the verdict is real, and from which on it is fake."""
        if point is None:
            rows = self._database.rows(
                "SELECT threshold, unsure_low, unsure_high FROM scans WHERE id = ?", (scan_id,)
            )
            if not rows:
                raise LookupError(f"the journal has no scan {scan_id}")
            threshold, low, high = rows[0]
        else:
            threshold, (low, high) = point.threshold, point.unsure or (None, None)
        if low is None:
            return threshold, threshold
        return min(threshold, low), max(threshold, high)

    def _where(self, scan_id: int, query: Query) -> tuple[str, list[Any]]:
        """The filter as SQL over `scan_files AS s`, and its parameters."""
        terms, values = ["s.scan_id = ?"], [scan_id]

        def add(term: str, *parameters: Any) -> None:
            terms.append(term)
            values.extend(parameters)

        match query.verdict:
            case "failed":
                add("s.p_fake IS NULL")
            case "fake":
                add("s.p_fake >= ?", self._bounds(scan_id, query.point)[1])
            case "real":
                add("s.p_fake < ?", self._bounds(scan_id, query.point)[0])
            case "unsure":
                add("s.p_fake >= ? AND s.p_fake < ?", *self._bounds(scan_id, query.point))
        if query.p_min is not None:
            add("s.p_fake >= ?", query.p_min)
        if query.p_max is not None:
            add("s.p_fake <= ?", query.p_max)
        if query.reason is not None:
            add("s.reason = ?", query.reason)
        if query.review == "reviewed":
            add("s.review IS NOT NULL")
        elif query.review == "unreviewed":
            add("s.review IS NULL")
        elif query.review is not None:
            add("s.review = ?", RANKS[query.review])
        if query.tag is not None:
            add(
                "s.sha256 IN (SELECT h.sha256 FROM review_heads AS h JOIN review_events AS e "
                "ON e.id = h.event_id JOIN json_each(e.tags) AS t WHERE e.tags <> '[]' "
                "AND t.value = ? COLLATE NOCASE)",
                query.tag,
            )
        if query.folder is not None:
            folder = real_folder(str(query.folder))
            below = folder.rstrip(os.fsencode(os.sep)) + os.fsencode(os.sep)
            after = below[:-1] + bytes([below[-1] + 1])
            add(
                "s.folder_id IN (SELECT id FROM folders WHERE path = ? "
                "OR (path >= ? AND path < ?))",
                folder,
                below,
                after,
            )
        if query.text:
            escaped = query.text
            for mark in "\\%_":
                escaped = escaped.replace(mark, "\\" + mark)
            pattern = f"%{os.fsencode(escaped).decode('utf-8', 'replace')}%"
            add(
                "(SELECT path FROM folders WHERE id = s.folder_id) || ? || s.name "
                "LIKE ? ESCAPE '\\'",
                os.sep,
                pattern,
            )
        return " AND ".join(terms), values


def _order(column: str, descending: bool) -> str:
    direction = "DESC" if descending else "ASC"
    if column == "seq":
        return f"s.seq {direction}"
    return f"s.{column} {direction}, s.seq {direction}"


def _row(row: tuple[Any, ...]) -> Row:
    seq, folder, name, p_fake, reason, detail, *facts = row[:13]
    return Row(
        seq,
        join(folder, name),
        p_fake,
        None if reason is None else cells.unpack_reason(reason),
        detail or "",
        cells.unpack_facts(*facts),
        None if row[13] is None else reviews.unpack(row[13:]),
    )
