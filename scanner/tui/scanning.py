"""The scan behind the screen: the same `scan()` as the command line's, in a thread of its own.

The thread writes to the journal and tells how far it is; it never touches the screen.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

from scanner.errors import ImgscanError
from scanner.journal import Journal, JournalError, Pipeline
from scanner.memory import Memory
from scanner.types import Failed, Verdict
from scanner.verdict import OperatingPoint

State = Literal["starting", "scanning", "paused", "finished", "cancelled", "broken"]
RUNNING: frozenset[State] = frozenset(("starting", "scanning", "paused"))

# News for the screen come at most this often, however many files there are in a second.
_TELL_SECONDS = 0.2
# And the list in the journal grows at least this often; in pieces small enough that a decision,
# which waits for them, is still written at once.
_WRITE_SECONDS, _WRITE_FILES = 0.5, 1000


class ScanPlan(Protocol):
    """A scan that is ready to begin; `scanner.plan.OpenedScan` is one."""

    @property
    def roots(self) -> Sequence[Path]:
        """What is scanned."""

    @property
    def pipeline(self) -> Pipeline:
        """What the results depend on besides the files."""

    @property
    def selection(self) -> str | None:
        """Which files of the roots, as the journal tells lists apart; None: none like it."""

    @property
    def renew(self) -> bool:
        """Whether what is remembered is not believed."""

    @property
    def point(self) -> OperatingPoint:
        """Where the line is drawn."""

    def results(self, memory: Memory | None) -> Generator[Verdict | Failed, None, None]:
        """Load the model and scan. Raises ImgscanError, at once or on the way."""

    def count(self, stop: Callable[[], bool]) -> int | None:
        """How many files there will be, by a walk; None if `stop()` said so or a root is gone."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the scan is. `listed` files are in the journal's list; `seconds` without pauses.

    `problem` is one line with the remedy where `state` is "broken".
    """

    state: State = "starting"
    scanned: int = 0
    suspects: int = 0
    unsure: int = 0
    failed: int = 0
    known: int = 0
    listed: int = 0
    total: int | None = None
    seconds: float = 0.0
    problem: str = ""

    @property
    def rate(self) -> float:
        """Files a second."""
        return self.scanned / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """None where nobody knows."""
        if self.total is None or not self.rate:
            return None
        return max(0, self.total - self.scanned) / self.rate


class ScanRun:
    """One scan. `tell` is called from the scan's thread with each `Progress`.

    `defect` is told of what no `ImgscanError` explains, and gives the line to show for it.
    """

    def __init__(
        self,
        journal: Journal,
        plan: ScanPlan,
        tell: Callable[[Progress], None],
        defect: Callable[[BaseException], str],
    ) -> None:
        self._plan = plan
        self._tell = tell
        self._defect = defect
        self._memory = journal.memory(plan.pipeline, renew=plan.renew)
        self._recorder = journal.record(plan.pipeline, plan.roots, plan.point, plan.selection)
        self.scan_id = self._recorder.id
        self._progress = Progress()  # of the scan's thread
        self._total: int | None = None  # of the thread that counts
        self._go = threading.Event()
        self._go.set()
        self._stop = threading.Event()
        self._paused_at: float | None = None
        self._paused_seconds = 0.0
        self._started = time.monotonic()
        self._told = self._wrote = 0.0
        self._thread = threading.Thread(target=self._run, name="scan", daemon=True)

    def start(self) -> None:
        """Begin, and count the files beside it."""
        self._thread.start()
        threading.Thread(target=self._count, name="count", daemon=True).start()

    @property
    def progress(self) -> Progress:
        """How far it is."""
        # Pictures that only their content tells are not counted beforehand.
        total = None if self._total is None else max(self._total, self._progress.scanned)
        return replace(self._progress, total=total)

    @property
    def paused(self) -> bool:
        """Whether it waits for `resume()`."""
        return not self._go.is_set()

    def pause(self) -> None:
        """Take no more results; the decoders stop when what they may have ahead is full."""
        self._go.clear()

    def resume(self) -> None:
        """Go on."""
        self._go.set()

    def cancel(self, wait_seconds: float = 0.0) -> None:
        """End it; what it has so far stays. Waits for it as long as told."""
        self._stop.set()
        self._go.set()
        if wait_seconds and self._thread.is_alive():
            self._thread.join(wait_seconds)

    def wait_for_first(self, seconds: float) -> None:
        """Until files are listed, or the scan has ended, or that long."""
        end = time.monotonic() + seconds
        while self._thread.is_alive() and not self._recorder.files and time.monotonic() < end:
            time.sleep(0.05)

    # --- in the scan's thread

    def _run(self) -> None:
        state: State = "finished"
        problem = ""
        try:
            if not self._scan():
                state = "cancelled"
        except ImgscanError as error:
            state, problem = "broken", str(error)
        # A defect of this program, and the person's work must outlive it.
        except Exception as error:  # noqa: BLE001
            state, problem = "broken", self._defect(error)
        if state != "finished":
            # What is waiting may be what could not be written; that was told above.
            with suppress(JournalError):
                self._recorder.write(self._memory.known)
        self._news(replace(self._now(), state=state, problem=problem))
        if state == "finished":
            # The room that old lists take is no matter of this scan's; the next one tries again.
            with suppress(JournalError):
                self._recorder.tidy()

    def _scan(self) -> bool:
        with closing(self._plan.results(self._memory)) as results:
            self._started = time.monotonic()
            for result in results:
                if self._stop.is_set():
                    return False
                self._add(result)
                if self._wait():
                    return False
        self._recorder.finish(self._memory.known)
        return True

    def _add(self, result: Verdict | Failed) -> None:
        self._recorder.add(result, self._memory.known)
        before = self._progress
        self._progress = replace(
            before,
            state="scanning",
            scanned=before.scanned + 1,
            failed=before.failed + isinstance(result, Failed),
            suspects=before.suspects + (isinstance(result, Verdict) and result.verdict == "fake"),
            unsure=before.unsure + (isinstance(result, Verdict) and result.verdict == "unsure"),
        )
        now = time.monotonic()
        waiting = self._progress.scanned - self._recorder.files
        if now - self._wrote > _WRITE_SECONDS or waiting >= _WRITE_FILES:
            self._recorder.write(self._memory.known)
            self._wrote = time.monotonic()
        if now - self._told > _TELL_SECONDS:
            self._news(self._now())

    def _wait(self) -> bool:
        """Sit out a pause; whether it ended with a cancel."""
        if not self._go.is_set():
            self._recorder.write(self._memory.known)
            self._news(replace(self._now(), state="paused"))
            began = time.monotonic()
            self._go.wait()
            self._started += time.monotonic() - began
            self._news(replace(self._now(), state="scanning"))
        return self._stop.is_set()

    def _now(self) -> Progress:
        return replace(
            self._progress,
            known=self._memory.known,
            listed=self._recorder.files,
            seconds=time.monotonic() - self._started,
        )

    def _news(self, progress: Progress) -> None:
        self._progress = progress
        self._told = time.monotonic()
        self._tell(self.progress)

    def _count(self) -> None:
        self._total = self._plan.count(self._stop.is_set)
