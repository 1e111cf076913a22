"""What every report says of a file, by column; docs/report.md says what each means."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from scanner.types import Failed, Verdict

if TYPE_CHECKING:
    from scanner.journal import Review

# None: not known, or not asked of this file.
Value: TypeAlias = str | int | float | tuple[str, ...] | None
Row: TypeAlias = tuple[Value, ...]  # in the order of `COLUMNS`
ReviewOf: TypeAlias = "Callable[[str], Review | None]"

COLUMNS = (
    "path",
    "member",
    "verdict",
    "confidence",
    "p_fake",
    "threshold",
    "real_below",
    "fake_from",
    "operating_point",
    "width",
    "height",
    "format",
    "bytes",
    "sha256",
    "notes",
    "model",
    "error",
    "review",
    "review_note",
)


def no_review(sha256: str) -> Review | None:
    """What is known of reviews without a journal."""
    return None


def row_of(result: Verdict | Failed, model: str, review_of: ReviewOf = no_review) -> Row:
    """The row of one file; `model` scored it, or was to.

    `review_of` tells what people decided on a content, by its sha256 (hexadecimal).
    """
    judged: Row
    if isinstance(result, Failed):
        judged = ("failed", None, None, None, None, None, None)
        problem = f"{result.reason}: {result.detail}"
    else:
        judged = (
            result.verdict,
            # In full: rounded, a score just under its threshold would seem to be on it.
            float(result.confidence),
            float(result.p_fake),
            float(result.threshold),
            float(result.real_below),
            float(result.fake_from),
            result.operating_point,
        )
        problem = None
    facts = result.facts
    review = None if facts.sha256 is None else review_of(facts.sha256)
    return (
        str(result.ref.path),
        result.ref.member,
        *judged,
        facts.width,
        facts.height,
        facts.format,
        facts.bytes,
        facts.sha256,
        facts.notes,
        model,
        problem,
        None if review is None else review.decision,
        None if review is None else review.note or None,
    )
