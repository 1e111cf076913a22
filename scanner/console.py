"""What a person sees: progress on stderr, then the suspects and a summary on stdout."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from scanner.domain import no_score
from scanner.find import count_all
from scanner.options.walk import WalkOptions
from scanner.tally import Tally
from scanner.text import percent, printable
from scanner.types import Verdict
from scanner.verdict import OperatingPoint, bounds

# Wider than any path; a pipe or file has no edge to wrap or cut at.
_NO_EDGE = 1 << 16


class ScanProgress:
    """A bar with count, rate, time left, suspects and failures; nothing at all if not `shown`.

    The total comes from a second walk of `roots` in the background, which opens no files, so the
    scan starts at once;
    there is none if what comes cannot be asked twice (a list on standard input, archives).
    """

    def __init__(self, roots: Sequence[Path], walk: WalkOptions, *, shown: bool) -> None:
        self._roots = roots
        self._walk = walk
        self._shown = shown
        self._stop = threading.Event()
        self._started = time.monotonic()
        self._ended: float | None = None
        self._total: int | None = None
        self._bar = Progress(
            TextColumn("Scanning"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:.1f}/s"),
            TimeRemainingColumn(),
            TextColumn("left  {task.fields[suspects]} suspect  {task.fields[failed]} failed"),
            console=Console(stderr=True),
            transient=True,
            disable=not shown,
        )
        self._task = self._bar.add_task("", total=None, rate=0.0, suspects=0, failed=0)

    def __enter__(self) -> ScanProgress:
        self._started = time.monotonic()
        self._bar.start()
        if self._shown:
            threading.Thread(target=self._count, name="count", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended = time.monotonic()
        self._stop.set()
        with suppress(OSError):  # the terminal was closed
            self._bar.stop()

    @property
    def seconds(self) -> float:
        """Since this was entered, or how long it was."""
        return (self._ended or time.monotonic()) - self._started

    def update(self, tally: Tally) -> None:
        """Show what the scan has come to."""
        if self._shown:
            self._bar.update(
                self._task,
                completed=tally.scanned,
                # Pictures that only their content tells are not in the total.
                total=None if self._total is None else max(self._total, tally.scanned),
                rate=tally.scanned / max(self.seconds, 1e-9),
                suspects=tally.suspects,
                failed=tally.failed,
            )

    def _count(self) -> None:
        self._total = count_all(self._roots, self._walk, self._stop.is_set)
        if self._total is not None:
            self._bar.update(self._task, total=self._total)


def show_suspects(tally: Tally, report: Path | None) -> None:
    """The surest suspects on stdout, surest first."""
    table = Table(box=SIMPLE_HEAD if sys.stdout.isatty() else None, pad_edge=False)
    table.add_column("Confidence", justify="right", no_wrap=True)
    table.add_column("Suspect", overflow="fold")
    for verdict in tally.surest:
        table.add_row(percent(verdict.confidence), Text(printable(verdict.ref.name)))
    parts: list[RenderableType] = [table]
    hidden = tally.suspects - len(tally.surest)
    if hidden:
        where = "the report has" if report else "--report lists"
        parts.append(Text(f"and {hidden:,} more: --top shows more of them, {where} all"))
    _write([*parts, Text()])


def show_summary(
    tally: Tally,
    *,
    seconds: float,
    device: str,
    model: str,
    point: OperatingPoint,
    known: int = 0,
    stages: str = "",
    left_out: str,
    report: Path | None,
    interrupted: bool,
) -> None:
    """Counts, rate and device, and what was left out, on stdout.

    `stages` says what a cascade's stages did; see `scanner.cascade.Model`.
    """
    # What was remembered took no time: it would make any machine seem quick.
    looked_at = tally.scanned - known
    rate = f"{looked_at / max(seconds, 1e-9):.1f} a second" if looked_at else "none looked at anew"
    low, high = bounds(point)
    rows = [
        ("Scanned", f"{tally.scanned:,} in {seconds:.1f} s ({rate}, on {device})"),
        ("Suspect", f"{tally.suspects:,} (P(fake) {high:.4f} or more: {point.name}, {model})"),
    ]
    if tally.unsure:
        band = f"P(fake) {low:.4f} to {high:.4f}"
        rows.append(("Unsure", f"{tally.unsure:,} ({band}): look yourself"))
        rows += [("", _unsure(verdict)) for verdict in tally.likeliest]
        hidden = tally.unsure - len(tally.likeliest)
        if tally.likeliest and hidden:
            rows.append(("", f"and {hidden:,} more" + ("" if report else "; --report lists them")))
    if stages:
        rows.append(("Stages", stages))
    if known:
        rows.append(("Known", f"{known:,} of {tally.scanned:,} unchanged since an earlier scan"))
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in tally.reasons.most_common())
    rows.append(("Failed", f"{tally.failed:,}" + (f" ({reasons})" if reasons else "")))
    for failed in tally.first_failed:
        rows.append(("", f"{failed.ref.name}: {failed.reason}: {failed.detail}"))
    hidden = tally.failed - len(tally.first_failed)
    if hidden:
        rows.append(("", f"and {hidden:,} more" + ("" if report else "; --report lists them")))
    if left_out:
        rows.append(("Left out", left_out))
    if report:
        rows.append(("Report", str(report)))
    if interrupted:
        rows.append(("", "Interrupted: this is what there was so far."))
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True, style="bold")
    grid.add_column(overflow="fold")
    for name, value in rows:
        grid.add_row(name, Text(printable(value)))
    _write([grid])


def _unsure(verdict: Verdict) -> str:
    """P(fake) and the name; for what no model here can judge, the reason in place of a number."""
    why = ", ".join(no_score(verdict.facts, verdict.verdict))
    if why:
        return f"{'--':>6}  {verdict.ref.name} ({why})"
    return f"{verdict.p_fake:.4f}  {verdict.ref.name}"


def _write(parts: Iterable[RenderableType]) -> None:
    # Captured first: rich ends the whole program when the pipe it prints to is closed.
    console = Console() if sys.stdout.isatty() else Console(width=_NO_EDGE, color_system=None)
    with console.capture() as captured:
        for part in parts:
            console.print(part)
    lines = captured.get().splitlines()
    sys.stdout.write("".join(line.rstrip() + "\n" for line in lines))
    sys.stdout.flush()
