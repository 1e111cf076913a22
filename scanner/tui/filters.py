"""The filter bar's small language: what is typed, parsed and completed.

red tree               the path has both words in it
"red tree"             the path has this text in it
verdict:fake           fake, real, unsure or failed; also is:fake
p:0.4..0.6             P(fake) in a range; also p:>0.9, p:<20%, p:90%..
folder:2024            the folder's path has this in it; folder:/data stands for all below it
review:none            none, any, fake, real, unsure, skip, or wrong: unlike the verdict
reason:truncated       files that failed, and why
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, cast, get_args

from scanner.errors import UsageError
from scanner.types import Reason

VerdictWord = Literal["fake", "real", "unsure", "failed"]
ReviewWord = Literal["none", "any", "fake", "real", "unsure", "skip", "wrong"]

VALUES: dict[str, tuple[str, ...]] = {
    "verdict": get_args(VerdictWord),
    "review": get_args(ReviewWord),
    "reason": get_args(Reason),
    "p": ("0.4..0.6", "90%..", "..10%"),
    "folder": (),
}
_SAME = {
    "is": "verdict",
    "v": "verdict",
    "r": "review",
    "f": "folder",
    "conf": "p",
    "confidence": "p",
}
_TOKEN = re.compile(r'(?:([A-Za-z]+):)?(?:"([^"]*)"?|(\S+)|(?=\s|$))')
_NUMBER = r"(\d*\.?\d+\s*%?)"
_RANGE = re.compile(
    rf"(?:(?P<low>{_NUMBER})?\.\.(?P<high>{_NUMBER})?|>=?(?P<above>{_NUMBER})|<=?(?P<below>{_NUMBER}))$"
)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which files to show; what is empty or None does not matter. All that is given must hold.

    `texts` are looked for in the path without regard to case; `folder` in the folder's path.
    `p_min` and `p_max`, in [0, 1], are both included.
    """

    texts: tuple[str, ...] = ()
    verdict: VerdictWord | None = None
    p_min: float | None = None
    p_max: float | None = None
    folder: str | None = None
    review: ReviewWord | None = None
    reason: Reason | None = None


def parse(text: str) -> Filter:
    """What was typed as a filter. Raises UsageError that says what can be typed instead."""
    texts: list[str] = []
    given: dict[str, str] = {}
    for match in _TOKEN.finditer(text):
        key, quoted, word = match.groups()
        value = quoted if quoted is not None else (word or "")
        if key is None:
            if value:
                texts.append(value)
            continue
        name = _SAME.get(key.lower(), key.lower())
        if name not in VALUES:
            # A Windows drive, a time of day: colons are in paths too.
            texts.append(f"{key}:{value}")
        elif value:
            given[name] = value
    low, high = _range(given["p"]) if "p" in given else (None, None)
    return Filter(
        texts=tuple(texts),
        verdict=cast(VerdictWord | None, _one_of("verdict", given)),
        p_min=low,
        p_max=high,
        folder=given.get("folder"),
        review=cast(ReviewWord | None, _one_of("review", given)),
        reason=cast(Reason | None, _one_of("reason", given)),
    )


def complete(text: str, folders: Iterable[str] = ()) -> str | None:
    """`text` with its last word completed, or None; `folders` are paths to choose from."""
    head, _, last = text.rpartition(" ")
    head += " " if _ else ""
    if not last:
        return None
    key, colon, value = last.partition(":")
    if not colon:
        found = next((name for name in VALUES if name.startswith(last.lower())), None)
        return None if found is None else f"{head}{found}:"
    name = _SAME.get(key.lower(), key.lower())
    if name not in VALUES or not value:
        return None
    if name == "folder":
        # Whole, with what was typed at its beginning; with blanks it has to be quoted, and
        # what stands behind the cursor can only be added to.
        candidates: Iterable[str] = (folder for folder in folders if " " not in folder)
    else:
        candidates = VALUES[name]
    full = next((each for each in candidates if each.startswith(value) and each != value), None)
    return None if full is None else f"{head}{key}:{full}"


def _one_of(name: str, given: dict[str, str]) -> str | None:
    if name not in given:
        return None
    value = given[name].lower()
    fits = [each for each in VALUES[name] if each.startswith(value)]
    if value in fits or len(fits) == 1:
        return value if value in fits else fits[0]
    raise UsageError(f"{name}: one of {', '.join(VALUES[name])}")


def _range(text: str) -> tuple[float | None, float | None]:
    match = _RANGE.match(text)
    if match is None or text == "..":
        raise UsageError("p: write p:0.4..0.6, p:90%.., p:>0.9 or p:<20%")
    low, high = match["low"] or match["above"], match["high"] or match["below"]
    return _probability(low), _probability(high)


def _probability(number: str | None) -> float | None:
    if number is None:
        return None
    value = float(number.rstrip("% ")) / (100 if number.endswith("%") else 1)
    if value > 1.0:
        raise UsageError("p: P(fake) lies in 0..1, or in 0%..100%")
    return value
