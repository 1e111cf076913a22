"""Reports: one row for each file, written while the scan runs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from scanner.errors import UsageError
from scanner.report.csv import CsvReport, ReviewOf, no_review

FORMATS: dict[str, Callable[[Path, str, ReviewOf], CsvReport]] = {".csv": CsvReport}


def check_format(path: Path) -> None:
    """Raises UsageError if `path`, or what it links to, has an extension without a format."""
    known = ", ".join(FORMATS)
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"--report {path}: the extension names the format; there is {known}")
    # A link is written through: one to a photograph would cost the photograph.
    target = Path(os.path.realpath(path))
    if target.suffix.lower() not in FORMATS:
        raise UsageError(f"--report {path}: it links to {target}, which is not named {known}")


def open_report(path: Path, model: str, review_of: ReviewOf = no_review) -> CsvReport:
    """The report that `path`'s extension asks for, ready to take rows; `model` is each row's.

    `review_of` tells what people decided on a content, by its sha256 (hexadecimal).

    Raises UsageError as `check_format()`, and ImgscanError if nothing can be written there:
    both before the scan, which may take hours, begins.
    """
    check_format(path)
    # A link is written through, and not replaced by a file.
    return FORMATS[path.suffix.lower()](Path(os.path.realpath(path)), model, review_of)
