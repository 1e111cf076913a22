"""What people decided about pictures, by content; nothing is ever overwritten."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, cast, get_args

from scanner.journal.cells import pack_sha256
from scanner.journal.database import Database
from scanner.journal.paths import real_folder, split
from scanner.types import ImageRef

Decision = Literal["real", "fake", "unsure", "skip"]
EventKind = Literal["set", "undo", "redo"]

# The order of a list by review, after what has none.
RANKS: dict[Decision, int] = {"fake": 1, "unsure": 2, "real": 3, "skip": 4}

_COLUMNS = "e.id, e.sha256, e.path, e.decision, e.note, e.tags, e.reviewer, e.time, e.model_digest"


@dataclass(frozen=True, slots=True)
class Review:
    """One decision. `path` is where the picture lay then; `time` is UTC, ISO 8601.

    `model_digest` is that of the model whose score the reviewer saw.
    """

    id: int
    sha256: str
    path: str
    decision: Decision
    note: str
    tags: tuple[str, ...]
    reviewer: str
    time: str
    model_digest: str


@dataclass(frozen=True, slots=True)
class Asked:
    """A decision to be made: on the content `sha256` (hexadecimal), seen at `ref`."""

    ref: ImageRef
    sha256: str
    decision: Decision
    note: str = ""
    tags: tuple[str, ...] = ()
    model_digest: str = ""


@dataclass(frozen=True, slots=True)
class ReviewEvent:
    """A line of a picture's history: `review` was set, undone or redone, by whom and when."""

    kind: EventKind
    reviewer: str
    time: str
    review: Review


class Reviews:
    """Decisions on pictures. `undo()` and `redo()` go through one reviewer's own, last first.

    The same bytes have the same review wherever they lie. Of several reviewers' decisions the
    last one that is not undone holds. Raises JournalError.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def set(
        self,
        ref: ImageRef,
        sha256: str,
        decision: Decision,
        *,
        reviewer: str,
        note: str = "",
        tags: Sequence[str] = (),
        model_digest: str = "",
    ) -> Review:
        """Decide on the content `sha256` (hexadecimal), seen at `ref`."""
        if decision not in get_args(Decision):
            raise ValueError(f"a decision is one of {', '.join(get_args(Decision))}")
        asked = Asked(ref, sha256, decision, note, tuple(tags), model_digest)
        return self.set_all([asked], reviewer=reviewer)[0]

    def set_all(self, asked: Sequence[Asked], *, reviewer: str) -> list[Review]:
        """Decide on several at once: all or none, and `undo_all()` takes them back together."""
        with self._database.transaction() as connection:
            moment = _later(now(), _time(connection, reviewer, "undo_top"))
            return [_set(connection, each, reviewer, moment) for each in asked]

    def undo(self, reviewer: str) -> Review | None:
        """Take back the reviewer's last decision; that decision, or None if there is none."""
        with self._database.transaction() as connection:
            return _undo(connection, reviewer)

    def undo_all(self, reviewer: str) -> list[Review]:
        """As `undo()`, with all that the same `set_all()` decided."""
        with self._database.transaction() as connection:
            undone: list[Review] = []
            while not undone or _time(connection, reviewer, "undo_top") == undone[0].time:
                review = _undo(connection, reviewer)
                if review is None:
                    break
                undone.append(review)
            return undone

    def redo(self, reviewer: str) -> Review | None:
        """Take back the reviewer's last `undo()`, unless a decision followed it."""
        with self._database.transaction() as connection:
            return _redo(connection, reviewer)

    def redo_all(self, reviewer: str) -> list[Review]:
        """As `redo()`, with all that the same `set_all()` decided."""
        with self._database.transaction() as connection:
            redone: list[Review] = []
            while not redone or _time(connection, reviewer, "redo_top") == redone[0].time:
                review = _redo(connection, reviewer)
                if review is None:
                    break
                redone.append(review)
            return redone

    def last_event(self) -> int:
        """The number of the last event there is, 0 if there is none."""
        return int(self._database.rows("SELECT coalesce(max(id), 0) FROM review_events")[0][0])

    def decided_since(self, event: int, reviewer: str) -> dict[Decision, int]:
        """How many contents have a decision that holds, made by the reviewer after `event`."""
        return dict(
            self._database.rows(
                "SELECT e.decision, count(*) FROM review_events AS e JOIN review_heads AS h "
                "ON h.sha256 = e.sha256 AND h.event_id = e.id "
                "WHERE e.id > ? AND e.reviewer = ? GROUP BY e.decision",
                (event, reviewer),
            )
        )

    def current(self, sha256: str) -> Review | None:
        """The decision that holds for this content (hexadecimal)."""
        rows = self._database.rows(
            f"SELECT {_COLUMNS} FROM review_heads AS h JOIN review_events AS e "
            "ON e.id = h.event_id WHERE h.sha256 = ?",
            (pack_sha256(sha256),),
        )
        return unpack(rows[0]) if rows else None

    def all(self) -> Iterator[Review]:
        """Every decision that holds, in the order in which they were made."""
        last, size = 0, 1000
        while True:
            rows = self._database.rows(
                f"SELECT {_COLUMNS} FROM review_events AS e JOIN review_heads AS h "
                "ON h.sha256 = e.sha256 AND h.event_id = e.id "
                "WHERE e.id > ? ORDER BY e.id LIMIT ?",
                (last, size),
            )
            yield from map(unpack, rows)
            if len(rows) < size:
                return
            last = rows[-1][0]

    def history(self, sha256: str) -> list[ReviewEvent]:
        """All that was decided on this content, undone and redone, oldest first."""
        rows = self._database.rows(
            f"SELECT {_COLUMNS}, event.kind, event.reviewer, event.time "
            "FROM review_events AS event JOIN review_events AS e "
            "ON e.id = coalesce(event.target, event.id) "
            "WHERE event.sha256 = ? ORDER BY event.id",
            (pack_sha256(sha256),),
        )
        return [ReviewEvent(kind, who, time, unpack(row)) for *row, kind, who, time in rows]


def now() -> str:
    """The time, as the journal writes it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def unpack(row: Sequence[Any]) -> Review:
    """A row of `_COLUMNS`."""
    number, sha256, path, decision, note, tags, reviewer, time, model_digest = row
    return Review(
        number,
        sha256.hex(),
        os.fsdecode(path),
        cast(Decision, decision),
        note,
        tuple(json.loads(tags)),
        reviewer,
        time,
        model_digest,
    )


def _path(ref: ImageRef) -> bytes:
    folder, name = split(ref)
    path = os.path.join(real_folder(folder), name.partition(b"/")[0])  # noqa: PTH118 - bytes
    return path if ref.member is None else path + b"!/" + name.partition(b"/")[2]


def _tops(connection: sqlite3.Connection, reviewer: str) -> tuple[int | None, int | None]:
    """The `set` that the reviewer would undo next, and the `undo` to take back next."""
    row = connection.execute(
        "SELECT undo_top, redo_top FROM review_events WHERE reviewer = ? ORDER BY id DESC LIMIT 1",
        (reviewer,),
    ).fetchone()
    return (None, None) if row is None else (row[0], row[1])


def _time(connection: sqlite3.Connection, reviewer: str, top: str) -> str | None:
    """When the decision was made that is next to undo or redo; one `set_all()` has one time."""
    undo_top, redo_top = _tops(connection, reviewer)
    number = undo_top if top == "undo_top" else redo_top
    row = connection.execute(
        "SELECT coalesce(e.time, p.time) FROM review_events AS p "
        "LEFT JOIN review_events AS e ON e.id = p.target WHERE p.id = ?",
        (number,),
    ).fetchone()
    return None if row is None else str(row[0])


def _later(moment: str, last: str | None) -> str:
    """`moment`, but not that of the decision before, which would make the two one batch."""
    if last is None or moment != last:
        return moment
    later = datetime.fromisoformat(moment) + timedelta(milliseconds=1)
    return later.isoformat(timespec="milliseconds")


def _set(connection: sqlite3.Connection, asked: Asked, reviewer: str, moment: str) -> Review:
    if asked.decision not in get_args(Decision):
        raise ValueError(f"a decision is one of {', '.join(get_args(Decision))}")
    undo_top, _ = _tops(connection, reviewer)
    (number,) = connection.execute(
        "INSERT INTO review_events (kind, reviewer, time, undo_below, sha256, path, "
        "decision, note, tags, model_digest) VALUES ('set', ?, ?, ?, ?, ?, ?, ?, ?, ?) "
        "RETURNING id",
        (
            reviewer,
            moment,
            undo_top,
            pack_sha256(asked.sha256),
            _path(asked.ref),
            asked.decision,
            asked.note,
            json.dumps(list(asked.tags)),
            asked.model_digest,
        ),
    ).fetchone()
    connection.execute("UPDATE review_events SET undo_top = id WHERE id = ?", (number,))
    _renew_head(connection, bytes.fromhex(asked.sha256))
    return _review(connection, number)


def _undo(connection: sqlite3.Connection, reviewer: str) -> Review | None:
    target, redo_top = _tops(connection, reviewer)
    if target is None:
        return None
    (below,) = connection.execute(
        "SELECT undo_below FROM review_events WHERE id = ?", (target,)
    ).fetchone()
    number = _point(connection, "undo", reviewer, target, undo_top=below)
    connection.execute(
        "UPDATE review_events SET redo_top = id, redo_below = ? WHERE id = ?",
        (redo_top, number),
    )
    return _review(connection, target)


def _redo(connection: sqlite3.Connection, reviewer: str) -> Review | None:
    _, undone = _tops(connection, reviewer)
    if undone is None:
        return None
    target, redo_top = connection.execute(
        "SELECT target, redo_below FROM review_events WHERE id = ?", (undone,)
    ).fetchone()
    number = _point(connection, "redo", reviewer, target, undo_top=target)
    connection.execute("UPDATE review_events SET redo_top = ? WHERE id = ?", (redo_top, number))
    return _review(connection, target)


def _point(
    connection: sqlite3.Connection,
    kind: EventKind,
    reviewer: str,
    target: int,
    *,
    undo_top: int | None,
) -> int:
    """Add an event about an earlier `set`."""
    number, sha256 = connection.execute(
        "INSERT INTO review_events (kind, reviewer, time, target, undo_top, sha256, path) "
        "SELECT ?, ?, ?, id, ?, sha256, path FROM review_events WHERE id = ? "
        "RETURNING id, sha256",
        (kind, reviewer, now(), undo_top, target),
    ).fetchone()
    _renew_head(connection, sha256)
    return int(number)


def _renew_head(connection: sqlite3.Connection, sha256: bytes) -> None:
    """The last `set` of the content that is not undone is its head, here and in the lists."""
    head = connection.execute(
        "SELECT e.id, e.decision FROM review_events AS e WHERE e.sha256 = ? AND e.kind = 'set' "
        "AND coalesce((SELECT kind FROM review_events AS p WHERE p.target = e.id "
        "ORDER BY p.id DESC LIMIT 1), 'redo') = 'redo' ORDER BY e.id DESC LIMIT 1",
        (sha256,),
    ).fetchone()
    if head is None:
        connection.execute("DELETE FROM review_heads WHERE sha256 = ?", (sha256,))
    else:
        connection.execute("INSERT OR REPLACE INTO review_heads VALUES (?, ?)", (sha256, head[0]))
    connection.execute(
        "UPDATE scan_files INDEXED BY scan_files_by_content SET review = ? WHERE sha256 = ?",
        (None if head is None else RANKS[head[1]], sha256),
    )


def _review(connection: sqlite3.Connection, number: int) -> Review:
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM review_events AS e WHERE e.id = ?", (number,)
    ).fetchone()
    return unpack(row)
