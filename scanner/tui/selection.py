"""Which files are selected: a mark for each, so that all of 100,000 are as quick as one."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from scanner.tui.columns import Numbers


class Selection:
    """A set of `seq`, from 0."""

    def __init__(self) -> None:
        self._marks = np.zeros(0, np.bool_)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, seq: int) -> bool:
        return seq < len(self._marks) and bool(self._marks[seq])

    def clear(self) -> None:
        """None."""
        self._marks[:] = False
        self._count = 0

    def toggle(self, seq: int) -> None:
        """Select it, or do so no more."""
        self._set(np.array([seq]), seq not in self)

    def add(self, seqs: Numbers) -> None:
        """These too."""
        self._set(seqs, True)

    def remove(self, seqs: Iterable[int]) -> None:
        """Not these."""
        self._set(np.fromiter(seqs, np.int64), False)

    def has_all(self, seqs: Numbers) -> bool:
        """Whether these are all selected, and are some."""
        return len(seqs) > 0 and len(self.among(seqs)) == len(seqs)

    def among(self, seqs: Numbers) -> Numbers:
        """Those of `seqs` that are selected, in their order."""
        known = seqs[seqs < len(self._marks)]
        return known[self._marks[known]]

    def _set(self, seqs: Numbers, to: bool) -> None:
        end = int(seqs.max()) + 1 if len(seqs) else 0
        if end > len(self._marks):
            # Twice as many, for the list grows while it is selected from.
            more = np.zeros(max(end, 2 * len(self._marks)) - len(self._marks), np.bool_)
            self._marks = np.concatenate([self._marks, more])
        self._marks[seqs] = to
        self._count = int(np.count_nonzero(self._marks))
