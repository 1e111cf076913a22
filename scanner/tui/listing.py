"""What of a scan is listed, and in which order: columns in memory, rows left in the journal.

Some twenty bytes a file, so that a key that sorts, filters or jumps among 100,000 files is
answered at once; the texts are read from the journal for the rows on the screen only.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scanner.tui.columns import Columns, Numbers, SortKey, Table
from scanner.tui.filters import Filter
from scanner.verdict import OperatingPoint

# What a person looks for first, and so what the first press sorts by.
DESCENDING_FIRST = frozenset(("p", "size"))


@dataclass(frozen=True, slots=True)
class Group:
    """A folder's own files among those listed."""

    folder: int
    path: Path
    files: int
    suspects: int
    failed: int
    reviewed: int

    @property
    def density(self) -> float:
        """Suspects among the files that have a score, 0 to 1."""
        return self.suspects / max(1, self.files - self.failed)


class Listing(Columns):
    """The files of one scan that `filter` lets through, in order: `order` holds their `seq`."""

    def __init__(self, point: OperatingPoint) -> None:
        super().__init__(point)
        self.filter = Filter()
        self.sort: SortKey = "p"
        self.descending = True
        self.order: Numbers = np.empty(0, np.int64)
        self.version = 0  # another one, once `order` is

    def __len__(self) -> int:
        return len(self.order)

    # --- what the journal tells

    def extend(
        self,
        table: Table,
        paths: dict[int, Path],
        found: Sequence[int] | None = None,
    ) -> None:
        """Add the scan's next files, as `table_of()` makes of them.

        `paths` are those of folders that were not there before; `found` the new `seq` that the
        journal found for the present filter, None if it asks nothing of it.
        """
        before = self.total
        self._folder = np.concatenate([self._folder, table[:, 0].astype(np.int32)])
        self._p = np.concatenate([self._p, table[:, 1]])
        self._bytes = np.concatenate([self._bytes, table[:, 2].astype(np.int64)])
        self._review = np.concatenate([self._review, table[:, 3].astype(np.int8)])
        if paths:
            self._paths.update(paths)
            ordered = sorted(self._paths, key=lambda number: os.fsencode(self._paths[number]))
            self._folder_rank = {number: rank for rank, number in enumerate(ordered)}
        if self._found is not None:
            more = np.zeros(self.total - before, np.bool_)
            if found:
                more[np.array(found, np.int64) - before] = True
            self._found = np.concatenate([self._found, more])
        self.renew()

    def set_found(self, found: Sequence[int] | None) -> None:
        """The `seq` for which the journal says yes to the filter; None if it asks nothing of it."""
        self._found = None
        if found is not None:
            self._found = np.zeros(self.total, np.bool_)
            self._found[np.array(found, np.int64)] = True

    def set_found_among(self, seqs: Sequence[int], found: Sequence[int]) -> None:
        """The journal says yes for `found` now, and no for the rest of `seqs`."""
        if self._found is not None:
            self._found[np.array(seqs, np.int64)] = False
            self._found[np.array(found, np.int64)] = True
            self.renew()

    def set_names(self, by_name: Sequence[int]) -> None:
        """All `seq` in the order of the files' names."""
        self._name_rank = np.empty(len(by_name), np.int64)
        self._name_rank[np.array(by_name, np.int64)] = np.arange(len(by_name))

    def set_reviews(self, seqs: Sequence[int], rank: int) -> None:
        """These files have the review of this rank now; 0 for none."""
        self._review[np.array(seqs, np.int64)] = rank
        if self.sort == "review" or self.filter.review is not None:
            self.renew()

    def replace_reviews(self, reviewed: Sequence[tuple[int, int]]) -> None:
        """All the reviews there are: `seq` and rank."""
        self._review[:] = 0
        pairs = np.array(reviewed, np.int64).reshape(-1, 2)
        known = pairs[pairs[:, 0] < self.total]
        self._review[known[:, 0]] = known[:, 1]
        self.renew()

    # --- what is shown

    def renew(self) -> None:
        """Filter and sort anew."""
        self.version += 1
        shown = np.flatnonzero(self._mask(self.filter))
        keys = self._key(self.sort)[shown]
        if self.sort == "scan":
            self.order = shown[::-1] if self.descending else shown
            return
        # Stable, so that equal ones stay in the order of the scan; failed ones (nan) last.
        self.order = shown[np.argsort(-keys if self.descending else keys, kind="stable")]

    def groups(self) -> list[Group]:
        """The folders of what is listed, most suspects first, then by path."""
        folder, p, review = self._folder[self.order], self._p[self.order], self._review[self.order]
        size = int(folder.max()) + 1 if len(folder) else 0
        files = np.bincount(folder, minlength=size)
        suspects = np.bincount(folder[p >= self._fake_from], minlength=size)
        failed = np.bincount(folder[np.isnan(p)], minlength=size)
        reviewed = np.bincount(folder[review > 0], minlength=size)
        found = [
            Group(
                int(number),
                self._paths[int(number)],
                int(files[number]),
                int(suspects[number]),
                int(failed[number]),
                int(reviewed[number]),
            )
            for number in np.flatnonzero(files)
        ]
        return sorted(found, key=lambda g: (-g.suspects, os.fsencode(g.path)))

    def of_folder(self, folder: int) -> list[int]:
        """The listed files of a folder, by its number."""
        return [int(seq) for seq in self.order[self._folder[self.order] == folder]]

    # --- where to go

    def place(self, seq: int) -> int | None:
        """Where in `order` the file stands."""
        places = np.flatnonzero(self.order == seq)
        return int(places[0]) if len(places) else None

    def next_unreviewed(self, place: int, step: int = 1) -> int | None:
        """The place of the first file without a review after (`step` 1) or before `place` (-1).

        Goes round at the end, so that None means that there is none.
        """
        places = np.flatnonzero(self._review[self.order] == 0)
        if not len(places):
            return None
        if step > 0:
            later = places[places > place]
            return int(later[0] if len(later) else places[0])
        earlier = places[places < place]
        return int(earlier[-1] if len(earlier) else places[-1])

    def most_doubtful(self) -> int | None:
        """The place of the file without a review whose P(fake) is nearest to the threshold."""
        open_ = (self._review[self.order] == 0) & ~np.isnan(self._p[self.order])
        places = np.flatnonzero(open_)
        if not len(places):
            return None
        doubt = np.abs(self._p[self.order[places]] - self._threshold)
        return int(places[np.argmin(doubt)])

    def decided_otherwise(self, seqs: Sequence[int], rank: int) -> int:
        """How many of these files have a review, and one of another rank."""
        reviews = self._review[np.array(seqs, np.int64)]
        return int(np.count_nonzero((reviews > 0) & (reviews != rank)))

    def verdicts(self) -> tuple[int, int, int]:
        """Files that are fake, unsure, and without a score, shown or not."""
        fake = int(np.count_nonzero(self._p >= self._fake_from))
        real = int(np.count_nonzero(self._p < self._real_below))
        failed = int(np.count_nonzero(np.isnan(self._p)))
        return fake, self.total - fake - real - failed, failed

    def reviewed(self) -> int:
        """Files with a review, shown or not."""
        return int(np.count_nonzero(self._review))
