"""What a scan asks of a memory of earlier scans; `scanner.journal` is one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from scanner.types import Failed, FileFacts, ImageRef, Reason, Scored


@dataclass(frozen=True, slots=True)
class KnownContent:
    """What is known of a file's bytes under one model, wherever the file may lie.

    Either `p_fake` is in [0, 1], or it is None and `reason` says why there is no score.
    `facts` are those of the bytes: width, height, format and notes that do not hang on a name.
    """

    p_fake: float | None
    reason: Reason | None
    detail: str
    facts: FileFacts


class Contents(Protocol):
    """Known contents by hash. Picklable: worker processes look there before they decode."""

    def find(self, sha256: str, kind: str | None) -> KnownContent | None:
        """What is known of a file with this hash (hexadecimal, over all its bytes).

        `kind` is the format that it is read as, which may hang on its name; None if only its
        decoder can tell.
        """


class Memory(Protocol):
    """Results of one model on files, kept from scan to scan."""

    @property
    def contents(self) -> Contents | None:
        """For worker processes; None to decode all that `recall()` does not know."""

    def recall(self, refs: Sequence[ImageRef]) -> list[Scored | Failed | None]:
        """For each ref what is known, by path, size and time of change; no file is opened."""

    def keep(self, results: Sequence[Scored | Failed]) -> None:
        """Remember `results`. Once it returns, a kill of the process loses none of them."""
