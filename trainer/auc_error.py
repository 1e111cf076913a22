"""How far an AUC moves by chance alone."""

from __future__ import annotations

import math


def auc_standard_error(auc: float, fakes: int, reals: int) -> float:
    """Standard error of an AUC over independent pictures (Hanley & McNeil, 1982).

    Counts are at least 1. At an AUC of 0 or 1 the formula gives 0; there, half a misranked
    pair is assumed, so that a handful of pictures never looks certain.
    """
    pairs = fakes * reals
    a = min(max(auc, 0.5 / pairs), 1 - 0.5 / pairs)
    q1, q2 = a / (2 - a), 2 * a * a / (1 + a)
    variance = a * (1 - a) + (fakes - 1) * (q1 - a * a) + (reals - 1) * (q2 - a * a)
    return math.sqrt(max(variance, 0.0) / pairs)
