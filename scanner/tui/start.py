"""`--tui`: from the options to the screen, or to the plain text mode."""

from __future__ import annotations

import getpass
import os
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from scanner.bundle import bundle_path, read_bundle
from scanner.errors import UsageError
from scanner.journal import ScanInfo, default_journal_path, open_default_journal
from scanner.options.journal import JournalOptions
from scanner.options.triage import TriageOptions
from scanner.plan import OpenedScan, Request
from scanner.verdict import CUSTOM

if TYPE_CHECKING:
    from scanner.detector import Detector


def start(
    request: Request, options: TriageOptions, remember: JournalOptions, report: Path | None
) -> int:
    """Run it to its end; the exit status is 0. Raises ImgscanError."""
    if not remember.use:
        raise UsageError("--tui keeps decisions in the journal; leave out --no-journal")
    if report is not None:
        raise UsageError("--tui saves what is listed with the key w; leave out --report")
    # A browser's terminal (textual serve) is no terminal of this process.
    browser = "TEXTUAL_DRIVER" in os.environ
    if not (options.plain or browser or (sys.stdin.isatty() and sys.stdout.isatty())):
        raise UsageError("--tui needs a terminal; with --plain it reads and writes lines")
    path = remember.path
    if path is None:
        open_default_journal().close()  # makes its folder
        path = default_journal_path()
    elif not path.exists() and not (request.paths or request.walk.files_from):
        # Else an empty journal would be made of a mistyped name.
        raise UsageError(f"{path}: there is no such journal; give a folder to scan too")
    asked = bool(request.paths) or request.walk.files_from is not None
    plan = OpenedScan(request) if asked else None
    reviewer = options.reviewer or _user()

    def replan(info: ScanInfo) -> OpenedScan:
        """To scan again what an earlier scan was of, by its point unless another is asked for."""
        again = replace(request, paths=info.roots)
        if again.threshold is None and again.operating_point is None:
            if info.point.name == CUSTOM:
                again = replace(again, threshold=info.point.threshold)
            else:
                again = replace(again, operating_point=info.point.name)
        return OpenedScan(again)

    if options.plain:
        from scanner.tui.plain import run_plain

        run_plain(path, plan, reviewer=reviewer, replan=replan)
        return 0
    from scanner.tui.app import TriageApp, run_app
    from scanner.tui.detail import DetailPanel
    from scanner.tui.terminal import settle

    bundle = read_bundle(bundle_path(request.model)) if plan is None else plan.bundle

    @cache
    def detector() -> Detector:
        """For the maps; loaded when the first is asked for."""
        from scanner.detector import Detector

        return Detector(bundle, request.device, cuda_batch=request.batch_size)

    def panel() -> DetailPanel:
        return DetailPanel(bundle, detector, id="panel")

    settle()
    run_app(TriageApp(path, plan, reviewer=reviewer, replan=replan, panel=panel))
    return 0


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # an account without a name, as containers have
        return "unknown"
