"""The triage line by line, for screen readers and pipes: no cursor, no colour, only letters."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TextIO, cast

from scanner.journal import Journal, ScanInfo
from scanner.tui.crash import CrashLog
from scanner.tui.letters import PlainTriage
from scanner.tui.past import in_words, reviewed_in
from scanner.tui.reading import Subject
from scanner.tui.results import listed_scans
from scanner.tui.scanning import RUNNING, ScanPlan, ScanRun
from scanner.tui.transfer import TransferLog
from scanner.tui.triage import Triage

# How long the first prompt waits for the first results.
_PATIENCE_SECONDS = 15.0


def run_plain(
    journal_path: Path,
    plan: ScanPlan | None,
    *,
    reviewer: str,
    replan: Callable[[ScanInfo], ScanPlan],
    source: TextIO | None = None,
    sink: TextIO | None = None,
) -> None:
    """Triage of `plan`'s scan, or of one of the journal's, which is gone on with if it broke off.

    Raises ImgscanError.
    """
    crash = CrashLog()

    def defect(error: BaseException) -> str:
        return f"A defect of imgscan ended the scan; please report {crash.write(error)}"

    with ExitStack() as opened:
        journal = opened.enter_context(Journal(journal_path))
        reader = opened.enter_context(Journal(journal_path))
        transfers = TransferLog(journal_path.with_name(journal_path.name + ".moves"))
        run: ScanRun | None = None
        if plan is None:
            info = _chosen(journal, source or sys.stdin, sink or cast(TextIO, sys.stdout))
            if info is None:
                return
            if info.finished is None:
                plan = replan(info)
            else:
                subject = Subject(
                    info.id, info.model_name, info.model_digest, info.point, transfers.where
                )
        if plan is not None:
            run = ScanRun(reader, plan, lambda progress: None, defect)
            names = plan.pipeline.model_name, plan.pipeline.model_digest
            subject = Subject(run.scan_id, *names, plan.point, transfers.where)
            run.start()
        triage = Triage(journal, subject, reviewer)
        plain = PlainTriage(triage, run, source or sys.stdin, sink or cast(TextIO, sys.stdout))
        try:
            if run is not None and run.progress.state in RUNNING:
                run.wait_for_first(_PATIENCE_SECONDS)
            triage.load()
            plain.loop()
        except KeyboardInterrupt:
            plain.say("All decisions are saved.")
        finally:
            if run is not None:
                run.cancel(3.0)


def _chosen(journal: Journal, source: TextIO, sink: TextIO) -> ScanInfo | None:
    """The scan to look at; None if the person left. Asks where there are several."""
    scans = listed_scans(journal)
    if len(scans) == 1:
        return scans[0]
    reviewed = reviewed_in(journal, scans)
    for number, (info, count) in enumerate(zip(scans, reviewed, strict=True), start=1):
        what = " ".join(in_words(info, count).split())
        print(f"{number}: {what}", file=sink)
    while True:
        print("Type a scan's number, or Enter for 1, or q.", file=sink)
        print("> ", end="", file=sink, flush=True)
        line = source.readline()
        typed = line.strip()
        if not line or typed in ("q", "quit"):
            return None
        if not typed or (typed.isdecimal() and 1 <= int(typed) <= len(scans)):
            return scans[int(typed or 1) - 1]
