"""One row of the triage list, as the table and the detail panel see it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from scanner.types import FileFacts, ImageRef, Reason, VerdictName

# What a person may decide; the ones that the journal's reviews hold.
Decision = Literal["real", "fake", "unsure", "skip"]


@dataclass(frozen=True, slots=True)
class Item:
    """A file of a scan, with what the model and what people said of it.

    `seq` is its place in the scan, from 0, and its key there. `p_fake` in [0, 1] and `verdict`
    are None for a file without a score; then `reason` and `detail` (one line) say why.
    `threshold` in [0, 1] and `operating_point` are those of the scan, `model` is "name@digest".
    `review` is None where nobody has decided; `note` and `tags` are the reviewer's.
    Texts are as they are on the disk or were typed: whoever shows them escapes them.
    """

    seq: int
    ref: ImageRef
    facts: FileFacts
    p_fake: float | None
    verdict: VerdictName | None
    reason: Reason | None
    detail: str
    threshold: float
    operating_point: str
    model: str
    review: Decision | None = None
    note: str = ""
    tags: tuple[str, ...] = ()
    reviewer: str = ""

    @property
    def confidence(self) -> float | None:
        """Probability of the verdict that was given, of `unsure` of the likelier one."""
        if self.p_fake is None:
            return None
        fake = self.p_fake >= 0.5 if self.verdict == "unsure" else self.verdict == "fake"
        return self.p_fake if fake else 1.0 - self.p_fake
