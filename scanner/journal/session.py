"""One scan and its journal: a memory for the scan, a list for later, reviews for the report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from scanner.journal.database import JournalError
from scanner.journal.pipeline import Pipeline
from scanner.journal.reviews import Review
from scanner.journal.store import Journal, open_default_journal
from scanner.memory import Contents
from scanner.types import Failed, ImageRef, Scored, Verdict
from scanner.verdict import OperatingPoint

T = TypeVar("T")
Tell = Callable[[str], None]


class Session:
    """A scan's dealings with its journal; itself the scan's `Memory`.

    With `tell`, the scan can do without the journal: at the first trouble, `tell` is called with
    one line, and from then on nothing is known or kept. Without it, trouble is a JournalError.
    """

    def __init__(
        self,
        journal: Journal,
        pipeline: Pipeline,
        roots: Sequence[Path],
        point: OperatingPoint,
        *,
        selection: str | None = "",
        renew: bool = False,
        tell: Tell | None = None,
    ) -> None:
        self._journal: Journal | None = journal
        self._tell = tell
        self._memory = journal.memory(pipeline, renew=renew)
        self._recorder = journal.record(pipeline, roots, point, selection)

    @property
    def known(self) -> int:
        """Files that were recalled, and not opened."""
        return self._memory.known

    @property
    def scan_id(self) -> int:
        """The number under which the journal lists this scan."""
        return self._recorder.id

    @property
    def contents(self) -> Contents | None:
        """Known contents, for worker processes."""
        return None if self._journal is None else self._memory.contents

    def recall(self, refs: Sequence[ImageRef]) -> list[Scored | Failed | None]:
        """For each ref what is known, by path, size and time of change; no file is opened."""
        nothing: list[Scored | Failed | None] = [None] * len(refs)
        return self._try(lambda: self._memory.recall(refs), nothing)

    def keep(self, results: Sequence[Scored | Failed]) -> None:
        """Remember `results`. Once it returns, a kill of the process loses none of them."""
        self._try(lambda: self._memory.keep(results), None)

    def record(self, result: Verdict | Failed) -> None:
        """List the scan's next result."""
        self._try(lambda: self._recorder.add(result, self.known), None)

    def review_of(self, sha256: str) -> Review | None:
        """The review that holds for the content with this hash."""
        journal = self._journal
        return None if journal is None else self._try(lambda: journal.review_of(sha256), None)

    def finish(self) -> None:
        """The scan ran to its end: its list stands for it."""
        self._try(lambda: self._recorder.finish(self.known), None)

    def tidy(self) -> None:
        """Free the room of lists that gave way. May take a while, and be interrupted anywhere."""
        self._try(self._recorder.tidy, None)

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            # Also of a scan that was interrupted or failed. If what failed is the journal, that
            # was told, and no second error is to hide it.
            if not isinstance(error, JournalError):
                self._try(lambda: self._recorder.write(self.known), None)
        finally:
            if self._journal is not None:
                self._journal.close()

    def _try(self, action: Callable[[], T], otherwise: T) -> T:
        if self._journal is None:
            return otherwise
        try:
            return action()
        except JournalError as error:
            if self._tell is None:
                raise
            journal, self._journal = self._journal, None
            journal.close()
            self._tell(f"{error}; the scan goes on without the journal")
            return otherwise


class NoSession:
    """What a scan without a journal has in a `Session`'s place: nothing known, nothing kept."""

    known = 0
    scan_id = None

    def record(self, result: Verdict | Failed) -> None:
        """Nothing."""

    def review_of(self, sha256: str) -> Review | None:
        """None."""
        return None

    def finish(self) -> None:
        """Nothing."""

    def tidy(self) -> None:
        """Nothing."""

    def __enter__(self) -> NoSession:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing."""


def open_session(
    named: Path | None,
    pipeline: Pipeline,
    roots: Sequence[Path],
    point: OperatingPoint,
    *,
    selection: str | None = "",
    renew: bool = False,
    tell: Tell,
) -> Session | NoSession:
    """The session with the journal at `named`; with None, at the default place.

    Trouble with a journal that was asked for by name is a JournalError. The default one the scan
    can do without: `tell` is called, and the answer is a NoSession if it cannot be opened at all.
    """

    def begin(journal: Journal, tell: Tell | None) -> Session:
        try:
            return Session(
                journal, pipeline, roots, point, selection=selection, renew=renew, tell=tell
            )
        except BaseException:
            journal.close()
            raise

    if named is not None:
        return begin(Journal(named), None)
    try:
        return begin(open_default_journal(), tell)
    except JournalError as error:
        tell(f"{error}; the scan goes on without the journal")
        return NoSession()
