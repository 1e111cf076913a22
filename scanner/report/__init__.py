"""Reports: one row for each file, written while the scan runs."""

from __future__ import annotations

import os
from pathlib import Path

from scanner.errors import UsageError
from scanner.report import csv, jsonl
from scanner.report.file import Report, Style
from scanner.report.rows import ReviewOf, no_review

FORMATS = {".csv": Style(csv.line, csv.HEADER), ".jsonl": Style(jsonl.line)}


def check_format(path: Path) -> None:
    """Raises UsageError if `path`, or what it links to, has an extension without a format."""
    known = " or ".join(FORMATS)
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"--report {path}: the extension names the format; there is {known}")
    # A link is written through: one to a photograph would cost the photograph.
    target = Path(os.path.realpath(path))
    if target.suffix.lower() not in FORMATS:
        raise UsageError(f"--report {path}: it links to {target}, which is not named {known}")


def open_report(path: Path, model: str, review_of: ReviewOf = no_review) -> Report:
    """The report that `path`'s extension asks for, ready to take rows; `model` is each row's.

    `review_of` tells what people decided on a content, by its sha256 (hexadecimal).

    Raises UsageError as `check_format()`, and ImgscanError if nothing can be written there:
    both before the scan, which may take hours, begins.
    """
    check_format(path)
    # A link is written through, and not replaced by a file.
    return Report(Path(os.path.realpath(path)), model, FORMATS[path.suffix.lower()], review_of)
