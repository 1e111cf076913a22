"""What is read of one scan in the journal: the list's columns, its rows, answers to a filter.

All of it may run in another thread than the list's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from scanner.journal import Journal, Query, Row
from scanner.tui.columns import Table, table_of
from scanner.tui.filters import Filter
from scanner.tui.items import Item
from scanner.tui.listing import Listing
from scanner.verdict import OperatingPoint, verdict_of

# Files added to the list at once.
_FETCHED = 5000


@dataclass(frozen=True, slots=True)
class Subject:
    """The scan that is looked at: its number in the journal, and what judged it.

    `where` tells where a file lies now that the scan found at a path.
    """

    scan_id: int
    model_name: str
    model_digest: str
    point: OperatingPoint
    where: Callable[[Path], Path] = lambda path: path

    @property
    def model(self) -> str:
        """As reports write it."""
        return f"{self.model_name}@{self.model_digest}"


@dataclass(frozen=True, slots=True)
class Added:
    """Files that the journal has got since: what `Triage.add()` takes.

    `after` is the last `seq` before them, `asked` the filter that `found` answers, `paths` those
    of folders that the list did not have.
    """

    scan_id: int
    after: int
    table: Table
    paths: dict[int, Path]
    asked: Filter
    found: list[int] | None


@dataclass(frozen=True, slots=True)
class Answer:
    """Which of the files below `end` the journal found; None if it was asked nothing."""

    end: int
    found: list[int] | None


def read_items(journal: Journal, subject: Subject, seqs: Sequence[int]) -> Iterator[Item]:
    """The files with these `seq`, in this order."""
    for start in range(0, len(seqs), 500):
        for row in journal.pages.rows(subject.scan_id, seqs[start : start + 500]):
            yield _item(row, subject)


def _item(row: Row, subject: Subject) -> Item:
    verdict = None if row.p_fake is None else verdict_of(row.p_fake, subject.point)
    review = row.review
    return Item(
        seq=row.seq,
        ref=replace(row.ref, path=subject.where(row.ref.path)),
        facts=row.facts,
        p_fake=row.p_fake,
        verdict=verdict,
        reason=row.reason,
        detail=row.detail,
        threshold=subject.point.threshold,
        operating_point=subject.point.name,
        model=subject.model,
        review=None if review is None else review.decision,
        note="" if review is None else review.note,
        tags=() if review is None else review.tags,
        reviewer="" if review is None else review.reviewer,
    )


def fetch(journal: Journal, scan_id: int, listing: Listing, limit: int = _FETCHED) -> Added:
    """What the journal has beyond the end of the list."""
    wanted, after, known = listing.filter, listing.total - 1, listing.folders
    # The longer the list, the more at once: sorting anew costs by the list's length.
    rows = journal.pages.columns(scan_id, after=after, limit=max(limit, listing.total // 4))
    new = sorted({row[0] for row in rows} - known.keys())
    paths = journal.pages.folder_paths(new)
    found = ask(journal, scan_id, wanted, after, after + 1 + len(rows)).found if rows else None
    return Added(scan_id, after, table_of(rows), paths, wanted, found)


def question(wanted: Filter) -> tuple[object, ...]:
    """The part of a filter that only the journal can answer."""
    return (wanted.texts, wanted.reason, wanted.tags)


def ask(
    journal: Journal,
    scan_id: int,
    wanted: Filter,
    after: int,
    end: int,
    among: Sequence[int] | None = None,
) -> Answer:
    """Which `seq` after `after` and below `end` pass the journal's part of a filter.

    With `among`, few of them, only these are asked about.
    """
    queries = [Query(text=text) for text in wanted.texts]
    queries += [Query(tag=tag) for tag in wanted.tags]
    if wanted.reason is not None:
        queries.append(Query(reason=wanted.reason))
    if not queries:
        return Answer(end, None)
    if after + 1 >= end:
        return Answer(end, [])
    found = [
        set(journal.pages.numbers(scan_id, query, after=after, among=among)) for query in queries
    ]
    return Answer(end, sorted(seq for seq in set.intersection(*found) if seq < end))
