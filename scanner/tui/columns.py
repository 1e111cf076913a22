"""What is known of each file of a scan, in columns: what passes a filter, what a sort goes by."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from scanner.tui.filters import Filter
from scanner.verdict import OperatingPoint, bounds

SortKey = Literal["p", "verdict", "name", "folder", "size", "review", "scan", "doubt"]

Numbers: TypeAlias = npt.NDArray[np.int64]
Table: TypeAlias = npt.NDArray[np.float64]
Bools: TypeAlias = npt.NDArray[np.bool_]

# Ranks of the journal's reviews (scanner.journal.reviews.RANKS); 0 is none.
FAKE, UNSURE, REAL, SKIP = 1, 2, 3, 4
_REVIEWS = {"none": 0, "fake": FAKE, "unsure": UNSURE, "real": REAL, "skip": SKIP}


class Columns:
    """Every column has a place for each `seq`, from 0 without a gap."""

    def __init__(self, point: OperatingPoint) -> None:
        self._threshold = point.threshold
        self._real_below, self._fake_from = bounds(point)
        self._folder = np.empty(0, np.int32)
        self._p = np.empty(0, np.float64)  # nan: no score
        self._bytes = np.empty(0, np.int64)  # -1: unknown
        self._review = np.empty(0, np.int8)
        # What only the journal can tell: True where the path has the texts, and the reason fits.
        self._found: Bools | None = None
        self._name_rank = np.empty(0, np.int64)
        self._paths: dict[int, Path] = {}
        self._folder_rank: dict[int, int] = {}

    @property
    def total(self) -> int:
        """Files known of, shown or not."""
        return len(self._p)

    @property
    def folders(self) -> dict[int, Path]:
        """The folders by their numbers in the journal."""
        return self._paths

    @property
    def names_known(self) -> int:
        """For how many files the order of names is known."""
        return len(self._name_rank)

    def _mask(self, wanted: Filter) -> Bools:
        """Which files pass."""
        mask = np.ones(self.total, np.bool_)
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

    def _wrong(self) -> Bools:
        """A person decided, and unlike the model."""
        fake, real = self._p >= self._fake_from, self._p < self._real_below
        differs = (fake & (self._review == REAL)) | (real & (self._review == FAKE))
        return np.asarray(differs, np.bool_)

    def _key(self, sort: SortKey) -> npt.NDArray[Any]:
        """What they are sorted by."""
        match sort:
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
