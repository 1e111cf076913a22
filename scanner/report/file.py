"""The file of a report: complete rows at every moment, the asked name only when it is done."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from scanner.errors import ImgscanError
from scanner.report.rows import ReviewOf, Row, no_review, row_of
from scanner.types import Failed, Verdict


@dataclass(frozen=True, slots=True)
class Style:
    """How a report is written: its first line, if any, and the line of each row."""

    line: Callable[[Row], str]
    header: str = ""


class Report:
    """Rows for `path` in a temporary file beside it, renamed to `path` on leaving the `with`.

    So also when the scan is interrupted, or fails, after its first row: the rows so far are
    kept. Before it there is nothing to keep, and an older report stays. Each row is handed to
    the operating system whole, so that even a killed process leaves them in the temporary file.
    Raises ImgscanError, with the remedy, when the disk refuses.
    """

    def __init__(
        self, path: Path, model: str, style: Style, review_of: ReviewOf = no_review
    ) -> None:
        self.path = path
        self.rows = 0
        self._model = model
        self._style = style
        self._review_of = review_of
        self._partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}.partial")
        self._whole = 0  # bytes up to the end of the last whole row
        if path.exists() and not path.is_file():
            raise ImgscanError(f"--report {self.path}: that is not a file; give another name")
        try:
            self._file = self._partial.open("xb", buffering=0)
        except OSError as error:
            raise self._refused(error) from None
        # Whoever closed an older report to others did not mean that one only. File systems
        # without modes have nothing to copy.
        with suppress(OSError):
            self._partial.chmod(stat.S_IMODE(path.stat().st_mode) & 0o777)
        try:
            self._append(style.header)
        except OSError as error:
            self._file.close()
            self._partial.unlink(missing_ok=True)
            raise self._refused(error) from None

    def __enter__(self) -> Report:
        return self

    def write(self, result: Verdict | Failed) -> None:
        """Append the row of one file."""
        row = row_of(result, self._model, self._review_of)
        try:
            self._append(self._style.line(row))
        except OSError as error:
            raise self._refused(error, self.path) from None
        self.rows += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # What ends before the first row has nothing to keep, and must not cost an older report.
        keep = self.rows > 0 or error is None
        try:
            with self._file:
                self._file.truncate(self._whole)
                os.fsync(self._file.fileno())
            if keep:
                self._partial.replace(self.path)
            else:
                self._partial.unlink()
        except OSError as problem:
            raise self._refused(problem, self._partial) from error

    def _append(self, line: str) -> None:
        rest = memoryview(line.encode("utf-8"))
        while rest:
            rest = rest[self._file.write(rest) :]
        self._whole = self._file.tell()

    def _refused(self, error: OSError, rows_in: Path | None = None) -> ImgscanError:
        """`rows_in` is where the rows so far will be found."""
        kept = f"; the rows so far ({self.rows}) are in {rows_in}" if self.rows else ""
        match error.errno:
            case errno.ENOSPC | errno.EDQUOT:
                remedy = "free some space, or give a --report on another disk"
            case errno.EFBIG:
                remedy = "raise the limit on a file's size (ulimit -f), or give another disk"
            case errno.ENAMETOOLONG:
                remedy = "give it a shorter name"
            case _:
                remedy = "give a --report in a folder that can be written"
        return ImgscanError(
            f"--report {self.path}: cannot be written: {error.strerror or error}{kept}; {remedy}"
        )
