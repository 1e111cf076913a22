"""`--tui`: from the options to the screen, or to the plain text mode."""

from __future__ import annotations

import getpass
import os
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from scanner.bundle import EMBEDDED, bundle_path, read_bundle
from scanner.errors import UsageError
from scanner.journal import ScanInfo, default_journal_path, open_default_journal
from scanner.options.journal import JournalOptions
from scanner.options.recorded import recorded_walk
from scanner.options.triage import TriageOptions
from scanner.plan import OpenedScan, Request
from scanner.text import printable
from scanner.verdict import CUSTOM

if TYPE_CHECKING:
    from scanner.cascade import Model


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
        """To scan again what an earlier scan was of, with its options.

        By its model, where that came with this program, and its point, unless others are asked for.
        """
        again = replace(
            request,
            paths=info.roots,
            walk=recorded_walk(info.selection),
            model=request.model or _model(info.model_digest),
        )
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

    asked_for = read_bundle(bundle_path(request.model)) if plan is None else plan.bundle

    def panel(digest: str) -> DetailPanel:
        """With the maps of the model that gave the scores, where it is at hand."""
        bundle = asked_for
        if bundle.digest != digest and request.model is None:
            bundle = read_bundle(bundle_path(_model(digest)))

        @cache
        def detector() -> Model:
            """For the maps; loaded when the first is asked for."""
            from scanner.cascade import open_model

            return open_model(bundle, request.device, cuda_batch=request.batch_size)

        return DetailPanel(bundle, detector, id="panel")

    said = run_app(TriageApp(path, plan, reviewer=reviewer, replan=replan, panel=panel))
    print(f"imgscan: {printable(said)}", file=sys.stderr)
    return 0


def _model(digest: str) -> Path | None:
    """The name of the embedded model with this digest; None, as if none was asked for."""
    for name, path in EMBEDDED.items():
        if path.is_dir() and read_bundle(path).digest == digest:
            return Path(name)
    return None


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # an account without a name, as containers have
        return "unknown"
