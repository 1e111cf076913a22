"""What of a scan is listed, and in which order: columns in memory, rows left in the journal.

Some twenty bytes a file, so that a key that sorts, filters or jumps among 100,000 files is
answered at once; the texts are read from the journal for the rows on the screen only.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from scanner.tui.filters import Filter
from scanner.verdict import OperatingPoint, bounds

SortKey = Literal["p", "verdict", "name", "folder", "size", "review", "scan", "doubt"]

Numbers: TypeAlias = npt.NDArray[np.int64]
Table: TypeAlias = npt.NDArray[np.float64]
_Bools: TypeAlias = npt.NDArray[np.bool_]

# Ranks of the journal's reviews (scanner.journal.reviews.RANKS); 0 is none.
FAKE, UNSURE, REAL, SKIP = 1, 2, 3, 4
_REVIEWS = {"none": 0, "fake": FAKE, "unsure": UNSURE, "real": REAL, "skip": SKIP}
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


class Listing:
    """The files of one scan that `filter` lets through, in order: `order` holds their `seq`.

    Every column has a place for each `seq`, from 0 without a gap.
    """

    def __init__(self, point: OperatingPoint) -> None:
        self._threshold = point.threshold
        self._real_below, self._fake_from = bounds(point)
        self.filter = Filter()
        self.sort: SortKey = "p"
        self.descending = True
        self.order: Numbers = np.empty(0, np.int64)
        self.version = 0  # another one, once `order` is
        self._folder = np.empty(0, np.int32)
        self._p = np.empty(0, np.float64)  # nan: no score
        self._bytes = np.empty(0, np.int64)  # -1: unknown
        self._review = np.empty(0, np.int8)
        # What only the journal can tell: True where the path has the texts, and the reason fits.
        self._found: _Bools | None = None
        self._name_rank = np.empty(0, np.int64)
        self._paths: dict[int, Path] = {}
        self._folder_rank: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self.order)

    @property
    def total(self) -> int:
        """Files known of, shown or not."""
        return len(self._p)

    @property
    def folders(self) -> dict[int, Path]:
        """The folders by their numbers in the journal."""
        return self._paths

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

    @property
    def names_known(self) -> int:
        """For how many files the order of names is known."""
        return len(self._name_rank)

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
        shown = np.flatnonzero(self._mask())
        keys = self._key()[shown]
        if self.sort == "scan":
            self.order = shown[::-1] if self.descending else shown
            return
        # Stable, so that equal ones stay in the order of the scan; failed ones (nan) last.
        self.order = shown[np.argsort(-keys if self.descending else keys, kind="stable")]

    def _mask(self) -> _Bools:
        mask = np.ones(self.total, np.bool_)
        wanted = self.filter
        if self._found is not None:
            mask &= self._found
        with np.errstate(invalid="ignore"):  # nan is in no range
            match wanted.verdict:
                case "fake":
                    mask &= self._p >= self._fake_from
                case "real":
                    mask &= self._p < self._real_below
                case "unsure":
                    mask &= (self._p >= self._real_below) & (self._p < self._fake_from)
                case "failed":
                    mask &= np.isnan(self._p)
            if wanted.p_min is not None:
                mask &= self._p >= wanted.p_min
            if wanted.p_max is not None:
                mask &= self._p <= wanted.p_max
            if wanted.conf_min is not None:
                mask &= self._confidence() >= wanted.conf_min
            if wanted.conf_max is not None:
                mask &= self._confidence() <= wanted.conf_max
        match wanted.review:
            case None:
                pass
            case "any":
                mask &= self._review > 0
            case "wrong":
                mask &= self._wrong()
            case state:
                mask &= self._review == _REVIEWS[state]
        if wanted.folder is not None:
            inside = [number for number, path in self._paths.items() if _in(path, wanted.folder)]
            mask &= np.isin(self._folder, inside)
        return mask

    def _confidence(self) -> Table:
        """As `Item.confidence`."""
        p = self._p
        likelier = np.maximum(p, 1.0 - p)
        return np.select([p >= self._fake_from, p < self._real_below], [p, 1.0 - p], likelier)

    def _wrong(self) -> _Bools:
        """A person decided, and unlike the model."""
        fake, real = self._p >= self._fake_from, self._p < self._real_below
        differs = (fake & (self._review == REAL)) | (real & (self._review == FAKE))
        return np.asarray(differs, np.bool_)

    def _key(self) -> npt.NDArray[Any]:
        match self.sort:
            case "p":
                return self._p
            case "verdict":
                # fake, unsure, real, failed
                fake, failed = self._p >= self._fake_from, np.isnan(self._p)
                return np.select([fake, failed, self._p < self._real_below], [0, 3, 2], 1)
            case "doubt":
                return np.abs(self._p - self._threshold)
            case "size":
                return self._bytes
            case "review":
                return self._review
            case "folder":
                size = max(self._folder_rank, default=0) + 1
                ranks = np.zeros(size, np.int64)
                for number, rank in self._folder_rank.items():
                    ranks[number] = rank
                return ranks[self._folder] if self.total else self._folder
            case "name":
                # Files that came since the names were last asked for stand at the end.
                ranks = np.arange(self.total)
                ranks[: self.names_known] = self._name_rank[: self.total]
                return ranks
            case "scan":
                return np.arange(self.total)

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


def table_of(rows: Sequence[tuple[int, float | None, int | None, int | None]]) -> Table:
    """Folder, P(fake) (nan: none), bytes (-1: unknown) and review's rank, float64 [N, 4]."""
    return np.array(
        [(f, np.nan if p is None else p, -1 if b is None else b, r or 0) for f, p, b, r in rows],
        np.float64,
    ).reshape(-1, 4)


def _in(path: Path, text: str) -> bool:
    if text.startswith(("/", "~")):
        return path.is_relative_to(Path(text).expanduser())
    return text.lower() in str(path).lower()
