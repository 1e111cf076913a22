"""What a scan has come to so far, in memory that does not grow with it."""

from __future__ import annotations

import os
from bisect import insort
from collections import Counter
from dataclasses import dataclass, field

from scanner.domain import no_score
from scanner.types import Failed, Reason, Verdict


@dataclass(slots=True)
class Tally:
    """Counts, the `keep_suspects` surest suspects, those `keep_unsure` without a verdict that are
    likeliest fake, and the first `keep_failures` failures."""

    keep_suspects: int
    keep_unsure: int
    keep_failures: int
    scanned: int = 0  # files with a result, failures among them
    suspects: int = 0
    unsure: int = 0
    reasons: Counter[Reason] = field(default_factory=Counter)
    surest: list[Verdict] = field(default_factory=list)  # by confidence, then by path
    # Unsure: by P(fake), then by path; what is out of the model's domain comes last.
    likeliest: list[Verdict] = field(default_factory=list)
    first_failed: list[Failed] = field(default_factory=list)

    @property
    def failed(self) -> int:
        """Files without a verdict."""
        return self.reasons.total()

    def add(self, result: Verdict | Failed) -> None:
        """Count one file."""
        self.scanned += 1
        match result:
            case Failed():
                self.reasons[result.reason] += 1
                if len(self.first_failed) < self.keep_failures:
                    self.first_failed.append(result)
            case Verdict(verdict="fake"):
                self.suspects += 1
                _keep(self.surest, result, self.keep_suspects)
            case Verdict(verdict="unsure"):
                self.unsure += 1
                _keep(self.likeliest, result, self.keep_unsure)


def _keep(best: list[Verdict], verdict: Verdict, most: int) -> None:
    if len(best) < most or (best and _rank(verdict) < _rank(best[-1])):
        insort(best, verdict, key=_rank)
        del best[most:]


def _rank(verdict: Verdict) -> tuple[bool, float, bytes]:
    unjudged = bool(no_score(verdict.facts, verdict.verdict))
    return unjudged, -verdict.p_fake, os.fsencode(verdict.ref.path)
