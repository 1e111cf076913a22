"""Scans whose results are made up, and the triage screen on them."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from textual.pilot import Pilot

from scanner.errors import ImgscanError
from scanner.journal import Journal, Pipeline
from scanner.tui.app import TriageApp
from scanner.tui.crash import CrashLog
from scanner.tui.detail import DetailPanel
from scanner.tui.screens.triage import TriageScreen
from scanner.types import Failed, FileFacts, ImageRef, Verdict
from scanner.verdict import OperatingPoint, judge

PIPELINE = Pipeline("fake", "0123456789ab", "aaaaaaaaaaaa", "bbbbbbbbbbbb")
POINT = OperatingPoint("youden", 0.6)


def result(
    path: str | Path,
    p_fake: float | None,
    *,
    content: int | None = None,
    size: int = 2048,
    point: OperatingPoint = POINT,
) -> Verdict | Failed:
    """Of the file at `path`; its content is a number, by default one of its path's own."""
    ref = ImageRef(Path(path))
    number = abs(hash(str(path))) % 10**12 if content is None else content
    facts = FileFacts(40, 32, "PNG", size, f"{number:064x}")
    if p_fake is None:
        return Failed(ref, "truncated", "the file ends early", facts)
    return judge(ref, facts, p_fake, point)


# Ten files in two folders, in the order of the scan.
TEN: tuple[Verdict | Failed, ...] = (
    result("/pictures/a/ant.png", 0.95, size=9000),
    result("/pictures/a/bee.png", 0.10, size=100),
    result("/pictures/a/cat.png", 0.61, size=5000),
    result("/pictures/a/dog.png", None, size=50),
    result("/pictures/b/eel.png", 0.99, size=400_000),
    result("/pictures/b/fox.png", 0.58, size=7000),
    result("/pictures/b/gnu.png", 0.30, size=6000),
    result("/pictures/b/hen.png", 0.85, size=3_000_000),
    result("/pictures/b/ibis.png", 0.02, size=1),
    result("/pictures/b/jay.png", 0.70, size=2000),
)


def recorded(path: Path, results: Iterable[Verdict | Failed] = TEN, *, finish: bool = True) -> Path:
    """A journal at `path` that lists a scan with these results."""
    with Journal(path) as journal:
        recorder = journal.record(PIPELINE, [Path("/pictures")], POINT)
        for each in results:
            recorder.add(each)
        recorder.finish() if finish else recorder.write()
    return path


@dataclass
class MadeUpPlan:
    """A plan that gives `given`, waits at each file named in `gates`, then raises `error`."""

    given: Sequence[Verdict | Failed] = TEN
    error: Exception | None = None
    gates: dict[str, threading.Event] = field(default_factory=dict)
    roots: Sequence[Path] = (Path("/pictures"),)
    pipeline: Pipeline = PIPELINE
    selection: str | None = ""
    renew: bool = False
    point: OperatingPoint = POINT

    def results(self, memory: object) -> Generator[Verdict | Failed, None, None]:
        for each in self.given:
            gate = self.gates.get(each.ref.path.name)
            if gate is not None:
                # Longer than any test takes: a busy machine must not open it.
                gate.wait(120)
            yield each
        if self.error is not None:
            raise self.error

    def count(self, stop: Callable[[], bool]) -> int | None:
        return len(self.given)


@asynccontextmanager
async def triage(
    journal: Path,
    plan: MadeUpPlan | None = None,
    *,
    size: tuple[int, int] = (100, 24),
    reviewer: str = "ann",
    listed: int | None = 10,
    again: bool = False,
    notifications: bool = False,
    panel: Callable[[str], DetailPanel] | None = None,
) -> AsyncIterator[tuple[Pilot[None], TriageScreen]]:
    """The screen, when it lists as many files as told."""

    def replan(info: object) -> MadeUpPlan:
        if not again:
            raise ImgscanError("the folder has gone; give another")
        return MadeUpPlan()

    app = TriageApp(
        journal, plan, reviewer=reviewer, replan=replan, panel=panel, crash=CrashLog(journal.parent)
    )
    try:
        async with app.run_test(size=size, notifications=notifications) as pilot:
            await pilot.pause()
            screen = screen_of(app)
            if listed is not None:
                await until(pilot, lambda: screen_of(app).triage.listing.total == listed)
                await until(pilot, lambda: not screen_of(app).running)
            await pilot.pause()
            yield pilot, screen
    finally:
        app.leave()


def screen_of(app: object) -> TriageScreen:
    assert isinstance(app, TriageApp)
    return next(each for each in reversed(app.screen_stack) if isinstance(each, TriageScreen))


async def until(pilot: Pilot[None], holds: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait until it holds, as threads have their say; so long only where it never will."""
    for _ in range(int(seconds / 0.02)):
        if holds():
            return
        await pilot.pause(0.02)
    raise AssertionError("it did not come to hold")


def names(screen: TriageScreen) -> list[str]:
    """The listed files' names, in order."""
    items = screen.triage.items([int(seq) for seq in screen.triage.listing.order])
    return [item.ref.path.stem for item in items]


def text_of(app: TriageApp) -> str:
    """What is on the screen, as text."""
    width, height = app.size
    lines = []
    for strip in app.screen._compositor.render_strips():
        lines.append(strip.text.rstrip())
    assert len(lines) == height, (len(lines), height, width)
    return "\n".join(lines) + "\n"


def decision(screen: TriageScreen, name: str) -> str | None:
    """What the journal holds on a file, whatever the screen shows."""
    order = range(screen.triage.listing.total)
    for row in screen.reader.pages.rows(screen.triage.subject.scan_id, list(order)):
        if row.ref.path.stem == name:
            return None if row.review is None else row.review.decision
    raise AssertionError(f"no file {name}")


def toasts(app: object) -> str:
    """What was said in toasts that are still there, and in the line at the bottom."""
    assert isinstance(app, TriageApp)
    said = [each.message for each in app._notifications]
    return "\n".join([*said, screen_of(app).flash])
