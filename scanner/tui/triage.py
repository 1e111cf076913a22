"""One person's work on one scan: the list, the rows on the screen, and decisions made.

Of no face: the screen and the plain text mode both stand on it. Only one thread uses it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from scanner.journal import Asked, Journal, Review
from scanner.journal.reviews import RANKS, Decision
from scanner.tui.columns import SortKey
from scanner.tui.filters import Filter
from scanner.tui.items import Item
from scanner.tui.listing import DESCENDING_FIRST, Listing
from scanner.tui.reading import Added, Answer, Subject, ask, fetch, question, read_items

# Decisions made at once that take longer than a key press may.
MANY = 200
# Rows kept at hand; rows read at once around one that is not.
_AT_HAND = 4096
_BLOCK = 64

# Of a file: the decision, the note and the tags that it is to have.
Change: TypeAlias = Callable[[Item], tuple[Decision, str, tuple[str, ...]]]


@dataclass(frozen=True, slots=True)
class Done:
    """What a decision, an undo or a redo came to: the files of this list, and contents anywhere.

    A file whose content was never read (`unread`) cannot be decided on: reviews are of contents.
    """

    seqs: tuple[int, ...]
    count: int
    unread: int = 0


class Triage:
    """The list of one scan. Raises JournalError wherever the journal is asked."""

    def __init__(self, journal: Journal, subject: Subject, reviewer: str) -> None:
        self.journal = journal
        self.subject = subject
        self.reviewer = reviewer
        self.listing = Listing(subject.point)
        self._rows: OrderedDict[int, Item] = OrderedDict()

    # --- the list

    def load(self) -> None:
        """All that the journal has of the scan by now."""
        while True:
            added = fetch(self.journal, self.subject.scan_id, self.listing)
            if not self.add(added):
                return

    def add(self, added: Added) -> bool:
        """Take what `fetch()` got; False if it held none, or answers another list or filter."""
        listing = self.listing
        if (
            added.scan_id != self.subject.scan_id
            or added.after != listing.total - 1
            or question(added.asked) != question(listing.filter)
            or not len(added.table)
        ):
            return False
        listing.extend(added.table, added.paths, added.found)
        return True

    def show(self, wanted: Filter, answer: Answer | None = None) -> None:
        """Filter the list; `answer` is what `ask()` found for it, if somebody asked already."""
        listing, scan_id = self.listing, self.subject.scan_id
        if question(wanted) != question(listing.filter):
            if answer is None:
                answer = ask(self.journal, scan_id, wanted, -1, listing.total)
            # Files that came since it was asked.
            rest = ask(self.journal, scan_id, wanted, answer.end - 1, listing.total)
            found = None
            if answer.found is not None and rest.found is not None:
                found = answer.found + rest.found
            listing.set_found(found)
        listing.filter = wanted
        listing.renew()

    def sort(self, key: SortKey, descending: bool | None = None, *, ask_names: bool = True) -> None:
        """Order the list; the same key again turns it round.

        With `ask_names` the journal is asked for the order of names that are not known.
        """
        listing = self.listing
        if descending is None:
            again = key == listing.sort
            descending = not listing.descending if again else key in DESCENDING_FIRST
        if key == "name" and ask_names and not self.names_known:
            self.learn_names(self.journal.pages.numbers_by_name(self.subject.scan_id))
        listing.sort, listing.descending = key, descending
        listing.renew()

    @property
    def names_known(self) -> bool:
        """Whether the order of all listed names is known; those that are not stand at the end."""
        return self.listing.names_known >= self.listing.total

    def learn_names(self, names: Sequence[int]) -> None:
        """All `seq` in the order of the files' names, as the journal has them."""
        # Others may have come meanwhile; the list has not heard of them.
        self.listing.set_names([seq for seq in names if seq < self.listing.total])

    def item(self, place: int) -> Item | None:
        """What stands at a place of the list."""
        order = self.listing.order
        if not 0 <= place < len(order):
            return None
        found = self._rows.get(int(order[place]))
        if found is not None:
            return found
        start = max(0, place - _BLOCK // 2)
        self.items([int(seq) for seq in order[start : start + _BLOCK]])
        return self._rows.get(int(order[place]))

    def items(self, seqs: Sequence[int]) -> list[Item]:
        """The files with these `seq`."""
        missing = [seq for seq in seqs if seq not in self._rows]
        found = {seq: self._rows[seq] for seq in seqs if seq in self._rows}
        for item in read_items(self.journal, self.subject, missing):
            self._rows[item.seq] = found[item.seq] = item
        while len(self._rows) > _AT_HAND:
            self._rows.popitem(last=False)
        return [found[seq] for seq in seqs if seq in found]

    def forget_rows(self) -> None:
        """Read them anew: files lie elsewhere, or people decided."""
        self._rows.clear()

    # --- decisions

    def decide(self, seqs: Sequence[int], decision: Decision) -> Done:
        """In the journal when this returns. Notes and tags that were there stay."""
        return self.apply(self.items(seqs), lambda item: (decision, item.note, item.tags))

    def annotate(self, seqs: Sequence[int], note: str | None, tags: tuple[str, ...]) -> Done:
        """Give the files a note (None: each keeps its own) and tags.

        Where nobody has decided yet, `skip` is what the journal holds with it.
        """
        return self.apply(
            self.items(seqs),
            lambda item: (item.review or "skip", item.note if note is None else note, tags),
        )

    def apply(self, items: Sequence[Item], change: Change) -> Done:
        """Set what `change` says of each of the files."""
        asked, unread = changes(items, self.subject.model_digest, change)
        return self.changed(self.journal.reviews.set_all(asked, reviewer=self.reviewer), unread)

    def undo(self) -> Done:
        """Take back this reviewer's last decision, or all that one key press decided."""
        return self.changed(self.journal.reviews.undo_all(self.reviewer))

    def redo(self) -> Done:
        """Take back the last `undo()`."""
        return self.changed(self.journal.reviews.redo_all(self.reviewer))

    def changed(self, reviews: Sequence[Review], unread: int = 0) -> Done:
        """Bring the list up to what the journal holds now, also for equal files elsewhere in it."""
        pages, scan_id = self.journal.pages, self.subject.scan_id
        if len(reviews) > MANY:
            self._rows.clear()
            self.listing.replace_reviews(pages.reviewed(scan_id))
            self._renew_tagged(None)
            return Done((), len(reviews), unread)
        seqs: list[int] = []
        by_rank: dict[int, list[int]] = {}
        for review in reviews:
            holders = [n for n in pages.holders(scan_id, review.sha256) if n < self.listing.total]
            now = self.journal.reviews.current(review.sha256)
            by_rank.setdefault(0 if now is None else RANKS[now.decision], []).extend(holders)
            seqs += holders
        for seq in seqs:
            self._rows.pop(seq, None)
        for rank, ranked in by_rank.items():
            self.listing.set_reviews(ranked, rank)
        self._renew_tagged(seqs)
        return Done(tuple(seqs), len(reviews), unread)

    def _renew_tagged(self, seqs: list[int] | None) -> None:
        """Tags came and went on these files, None for any: ask anew if the filter is about them."""
        listing = self.listing
        if not listing.filter.tags:
            return
        answer = ask(
            self.journal, self.subject.scan_id, listing.filter, -1, listing.total, among=seqs
        )
        if seqs is None:
            listing.set_found(answer.found)
            listing.renew()
        else:
            listing.set_found_among(seqs, answer.found or [])


def changes(items: Iterable[Item], model_digest: str, change: Change) -> tuple[list[Asked], int]:
    """What to ask of the journal, each content once; and how many files have no known content."""
    asked: dict[str, Asked] = {}
    unread = 0
    for item in items:
        sha256 = item.facts.sha256
        if sha256 is None:
            unread += 1
            continue
        decision, note, tags = change(item)
        asked[sha256] = Asked(item.ref, sha256, decision, note, tags, model_digest)
    return list(asked.values()), unread
