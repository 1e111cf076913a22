"""People's decisions as a manifest of labelled pictures, which `trainer fit` reads.

docs/training.md states the columns `file`, `label`, `source`, `split` and `group`; the others are
for people, and for `--expert-column`.
"""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from scanner.errors import ImgscanError
from scanner.report.cells import encode_cell
from scanner.tui.items import Item

COLUMNS = (
    "file", "label", "source", "split", "group",
    "hard", "p_fake", "sha256", "reviewer", "note", "tags",
)  # fmt: skip


@dataclass(slots=True)
class Written:
    """Rows by label, and files left out by the reason."""

    labels: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)

    @property
    def warning(self) -> str:
        """What a fit would have against it; "" if nothing."""
        missing = [label for label in ("real", "fake") if not self.labels[label]]
        return f"none is {' and none '.join(missing)}: a fit needs both classes" if missing else ""


def write_manifest(path: Path, items: Iterable[Item]) -> Written:
    """Write the rows of all items that were decided to be real or fake.

    A manifest names files below its own folder, so it has to lie above them. The same content is
    one row. `hard` is "yes" where the model was of another opinion. Replaces `path` as a whole.

    Raises ImgscanError if it cannot be written, or no file lies below it.
    """
    folder = Path(os.path.realpath(path.parent))
    written = Written()
    seen: set[str] = set()
    partial = path.with_name(path.name + ".partial")
    above: set[Path] = set()
    try:
        # Names that are not UTF-8 keep their bytes: that is how the trainer reads them.
        with partial.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            for item in items:
                reason = _left_out(item, folder, seen)
                if reason:
                    written.left_out[reason] += 1
                    if reason == "not below the manifest's folder":
                        above.add(item.ref.path.parent)
                    continue
                writer.writerow(_row(item, folder))
                written.labels[str(item.review)] += 1
            file.flush()
            os.fsync(file.fileno())
        if not written.labels:
            partial.unlink()
            raise ImgscanError(_nothing(path, above))
        partial.replace(path)
    except OSError as error:
        raise ImgscanError(
            f"{path}: cannot be written: {error.strerror}; give another place"
        ) from None
    return written


def _left_out(item: Item, folder: Path, seen: set[str]) -> str:
    if item.review not in ("real", "fake"):
        return "undecided"
    if item.ref.member is not None:
        return "inside an archive"
    if not item.ref.path.is_file():
        return "not there any more"
    if not item.ref.path.is_relative_to(folder):
        return "not below the manifest's folder"
    key = item.ref.path.relative_to(folder).as_posix()
    if key != key.strip():
        return "a name that no manifest can hold"
    if item.facts.sha256 in seen:
        return "the same picture again"
    seen.add(item.facts.sha256 or "")
    return ""


def _row(item: Item, folder: Path) -> tuple[str, ...]:
    sha256 = item.facts.sha256 or ""
    differs = item.verdict is not None and item.verdict != item.review
    return (
        item.ref.path.relative_to(folder).as_posix(),
        str(item.review),
        "reviewed",
        "train",
        sha256[:16],
        "yes" if differs else "no",
        "" if item.p_fake is None else repr(item.p_fake),
        sha256,
        encode_cell(item.reviewer),
        encode_cell(item.note),
        encode_cell(" ".join(item.tags)),
    )


def _nothing(path: Path, above: set[Path]) -> str:
    if not above:
        return f"{path}: none of these files was decided to be real or fake; decide with r and f"
    common = os.path.commonpath(above)
    return f"{path}: a manifest names files below its own folder; put it into {common}"
