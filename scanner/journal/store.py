"""`Journal`: the file, opened; what is in it by its parts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from scanner.journal.database import BUSY_SECONDS, Database, JournalError
from scanner.journal.held import Held
from scanner.journal.memory import JournalMemory
from scanner.journal.pages import Pages
from scanner.journal.pipeline import Pipeline
from scanner.journal.reviews import Review, Reviews
from scanner.journal.scans import ScanInfo, ScanRecorder, scans
from scanner.verdict import OperatingPoint


def default_journal_path() -> Path:
    """Where the journal is unless another place is asked for: the user's data folder."""
    import platformdirs

    return Path(platformdirs.user_data_dir("imgscan", appauthor=False)) / "journal.sqlite"


class Journal:
    """An open journal; made, or brought to this version's schema, if need be.

    Any thread may use it. Raises JournalError, here and in every method.
    """

    def __init__(self, path: Path, *, busy_seconds: float = BUSY_SECONDS) -> None:
        self.path = path
        self._database = Database(path, busy_seconds=busy_seconds)
        self.reviews = Reviews(self._database)
        # A connection of its own: a list is read while a scan writes, and waits for nothing.
        self._pages_database = Database(path, busy_seconds=busy_seconds)
        self.pages = Pages(self._pages_database)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; what was kept stays."""
        self._pages_database.close()
        self._database.close()

    def memory(self, pipeline: Pipeline, *, renew: bool = False) -> JournalMemory:
        """The results of `pipeline`, for `scan()`; `renew` scans all anew and remembers that."""
        number = self.pipeline_id(pipeline)
        return JournalMemory(self._database, number, Held.of(pipeline), renew=renew)

    def record(
        self,
        pipeline: Pipeline,
        roots: Sequence[Path],
        point: OperatingPoint,
        selection: str | None = "",
    ) -> ScanRecorder:
        """Begin the list of a scan. `selection` tells which files of `roots` are asked for.

        The list of a finished scan with equal roots, selection and pipeline gives way to this
        one at its end. None is equal to nothing.
        """
        number = self.pipeline_id(pipeline)
        return ScanRecorder(self._database, number, roots, point, selection)

    def scans(self) -> list[ScanInfo]:
        """The scans there were, the last one first."""
        return scans(self._pages_database)

    def review_of(self, sha256: str) -> Review | None:
        """The review that holds for the content with this hash."""
        return self.reviews.current(sha256)

    def pipeline_id(self, pipeline: Pipeline) -> int:
        """The pipeline's number in this journal."""
        key = (
            pipeline.model_digest,
            pipeline.model_name,
            pipeline.preprocess_digest,
            pipeline.decoder_digest,
        )
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO pipelines "
                "(model_digest, model_name, preprocess_digest, decoder_digest) "
                "VALUES (?, ?, ?, ?)",
                key,
            )
            (number,) = connection.execute(
                "SELECT id FROM pipelines WHERE model_digest = ? AND model_name = ? "
                "AND preprocess_digest = ? AND decoder_digest = ?",
                key,
            ).fetchone()
        return int(number)


def open_default_journal() -> Journal:
    """The journal at its default place, of which the folder is made."""
    path = default_journal_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise JournalError(
            f"{path.parent}: cannot be made: {error.strerror or error}; "
            "give a --journal in a folder that can be written, or --no-journal"
        ) from None
    return Journal(path)
