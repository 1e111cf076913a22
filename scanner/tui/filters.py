"""The filter bar's small language: what is typed, parsed and completed.

red tree               the path has both words in it
"red tree"             the path has this text in it
verdict:fake           fake, real, unsure or failed; also is:fake
conf:>90%              confidence in the verdict given, as listed; also conf:>90, conf:..60%
p:0.4..0.6             P(fake) in a range; also p:>0.9, p:<20%, p:90%..
folder:2024            the folder's path has this in it; folder:/data stands for all below it
review:none            none, any, fake, real, unsure, skip, or wrong: unlike the verdict
tag:hands              decided with this tag
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
    "conf": ("90%..", "..60%"),
    "p": ("0.4..0.6", "90%..", "..10%"),
    "folder": (),
    "tag": (),
}
_SAME = {
    "is": "verdict",
    "v": "verdict",
    "r": "review",
    "f": "folder",
    "t": "tag",
    "confidence": "conf",
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
    `p_min` and `p_max` (of P(fake)), `conf_min` and `conf_max` (of the verdict's confidence), in
    [0, 1], are all included. `tags` are whole, without regard to case.
    """

    texts: tuple[str, ...] = ()
    verdict: VerdictWord | None = None
    p_min: float | None = None
    p_max: float | None = None
    folder: str | None = None
    review: ReviewWord | None = None
    reason: Reason | None = None
    conf_min: float | None = None
    conf_max: float | None = None
    tags: tuple[str, ...] = ()


def parse(text: str) -> Filter:
    """What was typed as a filter. Raises UsageError that says what can be typed instead."""
    texts: list[str] = []
    tags: list[str] = []
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
            if word and len(key) > 1 and not word.startswith(("/", "\\")):
                fields = " ".join(VALUES)
                raise UsageError(f"no field {key}: but {fields}; else quote it")
            # A Windows drive, an address: colons are in paths too.
            texts.append(f"{key}:{value}")
        elif value and name == "tag":
            tags.append(value)
        elif value:
            given[name] = value
    low, high = _range("p", given)
    least, most = _range("conf", given)
    return Filter(
        texts=tuple(texts),
        verdict=cast(VerdictWord | None, _one_of("verdict", given)),
        p_min=low,
        p_max=high,
        folder=given.get("folder"),
        review=cast(ReviewWord | None, _one_of("review", given)),
        reason=cast(Reason | None, _one_of("reason", given)),
        conf_min=least,
        conf_max=most,
        tags=tuple(tags),
    )


def complete(text: str, folders: Iterable[str] = (), tags: Iterable[str] = ()) -> str | None:
    """`text` with its last word completed, or None; out of `folders`, which are paths, and `tags`,
    the likeliest first."""
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
    elif name == "tag":
        candidates = tags
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


def _range(name: str, given: dict[str, str]) -> tuple[float | None, float | None]:
    if name not in given:
        return None, None
    text = given[name]
    match = _RANGE.match(text)
    if match is None or text == "..":
        raise UsageError(f"write {name}:>90%, {name}:<20% or {name}:40%..60%")
    texts = match["low"] or match["above"], match["high"] or match["below"]
    marked = [text is not None and text.endswith("%") for text in texts]
    values = [None if text is None else float(text.rstrip("% ")) for text in texts]
    # Above 1 nobody means a share of one.
    bare = [v for v, m in zip(values, marked, strict=True) if v is not None and not m]
    per_cent = any(v > 1 for v in bare)
    if per_cent and any(0 < v < 1 for v in bare):
        raise UsageError(f"{name}: one is a share, one per cent; write % behind both")
    shares = [
        None if v is None else v / (100 if m or per_cent else 1)
        for v, m in zip(values, marked, strict=True)
    ]
    if any(share is not None and share > 1 for share in shares):
        raise UsageError(f"{name}: from 0% to 100%")
    return shares[0], shares[1]
