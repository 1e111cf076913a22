"""What no model here can judge: pictures with next to nothing of a picture in them.

docs/model-quality.md has the figures behind the limits, and the command that gives them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from scanner.types import FileFacts, Note

# A shorter side under this, in pixels; 32 is the least that was measured.
SMALL_SIDE = 32
# The longer side over so many times the shorter: a model sees less than a quarter of it.
ELONGATED = 4.0
# Nearly uniform: so large a share differs from both neighbours by 2 of 255 at most, as in blank
# areas and gradients; or the lesser share does, and the three commonest colours of 5 bits a
# channel make up so much of it, as in pages of text and windows. A starry sky has few colours and
# is not flat. Of 1,500 photographs and generated pictures 1 in 100 is beyond this.
FLAT = 0.9
FLAT_TOO, COMMON_COLOURS = 0.6, 0.75

# P(fake) of what nothing is known of; it is fitted as if every second picture were a fake.
EVEN = 0.5

OUT_OF_DOMAIN: frozenset[Note] = frozenset(("small", "elongated", "near_uniform"))
RULES = (SMALL_SIDE, ELONGATED, FLAT, FLAT_TOO, COMMON_COLOURS, EVEN)


def out_of_domain(facts: FileFacts) -> tuple[Note, ...]:
    """The notes of `facts` for which no score says anything; empty if there are none."""
    return tuple(note for note in facts.notes if note in OUT_OF_DOMAIN)


def no_score(facts: FileFacts, verdict: str | None) -> tuple[Note, ...]:
    """Why a file without a verdict, `unsure`, has a score that is none: it is no more than a place
    to sort it to. One that was decided, at a threshold without a band, was decided by its score.
    """
    return out_of_domain(facts) if verdict == "unsure" else ()


def with_notes(facts: FileFacts, squares: npt.NDArray[np.uint8]) -> FileFacts:
    """`facts` with a note for each limit that the picture is beyond.

    `squares` is what the model sees of it, uint8 [V, S, S, 3].
    """
    notes: list[Note] = []
    if facts.width is not None and facts.height is not None:
        short, long = sorted((facts.width, facts.height))
        if short < SMALL_SIDE:
            notes.append("small")
        if long > ELONGATED * short:
            notes.append("elongated")
    if all(_near_uniform(square) for square in squares):
        notes.append("near_uniform")
    return replace(facts, notes=(*facts.notes, *notes)) if notes else facts


def limited(p_fake: float, facts: FileFacts, unsure: tuple[float, float] | None) -> float:
    """`p_fake`, for a picture out of the domain kept within the model's band of `unsure`, and
    below EVEN wherever the band has room there.

    So it has a score that says as little as is known, and the verdict `unsure` at each of the
    model's operating points, wherever verdicts are made; and no threshold of EVEN or more, which
    has no band, makes a suspect of it. Without a band the score stays.
    """
    if unsure is None or not out_of_domain(facts):
        return p_fake
    low, high = unsure
    above = min(high, EVEN) if low < EVEN else high
    return min(max(p_fake, low), float(np.nextafter(above, low)))


def _near_uniform(square: npt.NDArray[np.uint8]) -> bool:
    # Planes of bytes: every picture of a scan goes through here, and this is the quick way.
    planes = np.ascontiguousarray(square.transpose(2, 0, 1))
    here, right, below = planes[:, :-1, :-1], planes[:, :-1, 1:], planes[:, 1:, :-1]
    across = np.maximum(here, right) - np.minimum(here, right)
    down = np.maximum(here, below) - np.minimum(here, below)
    flat = float((np.maximum(across, down).max(axis=0) <= 2).mean())
    if not FLAT_TOO <= flat < FLAT:
        return flat >= FLAT
    red, green, blue = planes.astype(np.int16) >> 3
    colours = red << 10 | green << 5 | blue
    counts = np.bincount(colours.ravel(), minlength=3)
    return bool(np.partition(counts, -3)[-3:].sum() >= COMMON_COLOURS * colours.size)
