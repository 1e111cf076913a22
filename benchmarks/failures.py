"""The surest errors on left-out sources, as one picture to look at: a failure gallery.

    python -m benchmarks.failures --data pictures --benchmark accurate.json --out failures.png

Reads what `trainer benchmark` wrote. The pictures are not ours to publish; docs/model-quality.md
says in words what is to be seen.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image, ImageDraw

from trainer.data import load_samples

_SIDE, _TEXT, _COLUMNS = 146, 18, 7


class Error(NamedTuple):
    """A left-out picture on the wrong side: how far, its key and its family."""

    by: float
    key: str
    family: str


def surest(rows: Sequence[Mapping[str, Any]], label: str, count: int, most: int) -> list[Error]:
    """The `count` surest errors of a class, clean, at most `most` of one family."""
    sign = 1 if label == "real" else -1
    found = sorted(
        (
            Error(sign * logit, key, row["family"])
            for row in rows
            if row["label"] == label and row["tier"] == "clean"
            for key, logit in zip(row["keys"], row["logits"], strict=True)
            if sign * logit > 0
        ),
        reverse=True,
    )
    kept: list[Error] = []
    for error in found:
        if sum(other.family == error.family for other in kept) < most:
            kept.append(error)
    return kept[:count]


def sheet(groups: Mapping[str, Sequence[Error]], path_of: Mapping[str, Path]) -> Image.Image:
    """A row of titles and thumbnails for each group."""
    cell, title_height = _SIDE + _TEXT + 6, 32
    lines = sum(-(-len(errors) // _COLUMNS) for errors in groups.values())
    height = lines * cell + len(groups) * title_height
    image = Image.new("RGB", (_COLUMNS * (_SIDE + 4), height), "white")
    draw, y = ImageDraw.Draw(image), 0
    for title, errors in groups.items():
        draw.text((4, y + 8), title, fill="black", font_size=16)
        y += title_height
        for number, error in enumerate(errors):
            x = number % _COLUMNS * (_SIDE + 4)
            with Image.open(path_of[error.key]) as picture:
                small = picture.convert("RGB")
            small.thumbnail((_SIDE, _SIDE))
            image.paste(small, (x, y))
            draw.text((x, y + _SIDE + 2), f"{error.family}, {error.by:.1f}", fill="black")
            if number % _COLUMNS == _COLUMNS - 1 or number == len(errors) - 1:
                y += cell
    return image


def main() -> None:
    """Write the sheet."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--benchmark", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=21, help="of each class")
    parser.add_argument("--of-a-family", type=int, default=4, help="at most")
    asked = parser.parse_args()
    rows = json.loads(asked.benchmark.read_text("utf-8"))["left_out"]
    groups = {
        "real pictures called fake, by so much of a logit": "real",
        "generated pictures called real": "fake",
    }
    found = {
        title: surest(rows, label, asked.count, asked.of_a_family)
        for title, label in groups.items()
    }
    sheet(found, {s.key: s.path for s in load_samples(asked.data)}).save(asked.out)


if __name__ == "__main__":
    main()
