"""Under which limits a kept result holds: as the journal's columns, and as SQL."""

from __future__ import annotations

from dataclasses import dataclass

from scanner.journal import cells
from scanner.journal.pipeline import Pipeline
from scanner.limits import DecodeLimits
from scanner.types import Failed, Reason, Scored

# A decoder that gets no memory often says no more than that it gave up, or hands over a part.
_FOR_MEMORY: frozenset[Reason] = frozenset(("truncated", "unreadable"))
_NO_LIMIT_MB = 2**62

# Of a row of `results`; ?1 to ?3 are `Held.parameters`. Refused for a limit, it tells of that
# limit; else it holds while it is within the limits and there is no more memory than there was.
HOLDS = """
    CASE
        WHEN max_pixels IS NOT NULL THEN max_pixels = ?1 AND max_bytes = ?2
        WHEN memory_mb < ?3 THEN 0
        ELSE coalesce(width * height, 0) <= ?1 AND coalesce(bytes, size, 0) <= ?2
    END
"""


@dataclass(frozen=True, slots=True)
class Held:
    """The limits of a scan. `memory_mb` is in MiB; None for no limit."""

    limits: DecodeLimits
    memory_mb: int | None

    @classmethod
    def of(cls, pipeline: Pipeline) -> Held:
        """Those of the pipeline."""
        return cls(pipeline.limits, pipeline.memory_mb)

    @property
    def parameters(self) -> tuple[int, int, int]:
        """For `HOLDS`."""
        memory = _NO_LIMIT_MB if self.memory_mb is None else self.memory_mb
        return self.limits.max_pixels, self.limits.max_bytes, memory

    def lasts(self, result: Scored | Failed) -> bool:
        """Whether the file, unchanged as it is, would come to the same under the same limits."""
        return isinstance(result, Scored) or cells.lasts(result.reason, result.facts, self.limits)

    def columns(self, result: Scored | Failed) -> tuple[int | None, int | None, int | None]:
        """`memory_mb`, `max_pixels` and `max_bytes` of a result that came of a scan under these."""
        reason = None if isinstance(result, Scored) else result.reason
        if reason == "too_large":
            return None, self.limits.max_pixels, self.limits.max_bytes
        if reason in _FOR_MEMORY or "truncated" in result.facts.notes:
            return self.memory_mb, None, None
        return None, None, None
