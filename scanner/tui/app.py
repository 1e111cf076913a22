"""The app: opens the journal, begins the scan, and leaves nothing of a defect on the screen."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar

from textual.app import App, SystemCommand
from textual.binding import BindingType
from textual.screen import Screen

from scanner.errors import ImgscanError
from scanner.journal import Journal, ScanInfo
from scanner.journal.reviews import RANKS
from scanner.text import counted
from scanner.tui import keys
from scanner.tui.crash import CrashLog
from scanner.tui.detail import DetailPanel
from scanner.tui.escape import answer_escape_at_once
from scanner.tui.past import reviewed_in
from scanner.tui.reading import Subject
from scanner.tui.results import listed_scans
from scanner.tui.scanning import Progress, ScanPlan, ScanRun
from scanner.tui.screens.ask import ConfirmScreen, NoteScreen
from scanner.tui.screens.help import HelpScreen
from scanner.tui.screens.scans import ScansScreen
from scanner.tui.screens.triage import TriageScreen
from scanner.tui.terminal import Answers, QuietStderr
from scanner.tui.transfer import TransferLog
from scanner.tui.triage import Triage

# How long quitting waits for a scan to write what it has.
_QUIT_SECONDS = 3.0

Replan = Callable[[ScanInfo], ScanPlan]


class TriageApp(App[None]):
    """Triage of one scan: of `plan`, which begins at once, or else of one of the journal's.

    `replan` makes a plan of an earlier scan, for going on with it; `panel` the picture's panel for
    a model's digest. Raises JournalError, and
    UsageError if there is neither a plan nor an earlier scan.
    """

    CSS_PATH = "app.tcss"
    TITLE = "imgscan"
    ENABLE_COMMAND_PALETTE = True
    BINDINGS: ClassVar[list[BindingType]] = [*keys.bindings(app=True)]
    # By name, these stay mounted once they were open: to make them anew takes most of their time.
    SCREENS: ClassVar[dict[str, Callable[[], Screen[Any]]]] = {
        "help": HelpScreen,
        "note": NoteScreen,
        "confirm": ConfirmScreen,
    }

    def __init__(
        self,
        journal_path: Path,
        plan: ScanPlan | None,
        *,
        reviewer: str,
        replan: Replan | None = None,
        panel: Callable[[str], DetailPanel] | None = None,
        crash: CrashLog | None = None,
    ) -> None:
        super().__init__()
        # Textual's stand-in for stderr has -1 there, and multiprocessing hands it to what it
        # starts; what the decoders print goes where `QuietStderr` lets it.
        self._capture_stderr.fileno = lambda: 2  # type: ignore[method-assign]
        self.crash = crash or CrashLog()
        self.died_of: BaseException | None = None
        self._reviewer = reviewer
        self._replan = replan
        self._panel = panel
        with ExitStack() as opened:
            self.journal = opened.enter_context(Journal(journal_path))
            # A second one, so that no key waits for what a thread reads or a scan writes.
            self.reader = opened.enter_context(Journal(journal_path))
            self.transfers = TransferLog(journal_path.with_name(journal_path.name + ".moves"))
            self._plan = plan
            self._earlier = [] if plan is not None else listed_scans(self.journal)
            self._first_event = self.journal.reviews.last_event()
            self._opened = opened.pop_all()
        self.run_of_scan: ScanRun | None = None

    def get_css_variables(self) -> dict[str, str]:
        """Textual's, and a colour for each verdict.

        The light theme's own are too pale for small text: 3.3 to 3.8 where WCAG asks for 4.5.
        """
        found = super().get_css_variables()
        dark = self.current_theme.dark
        return {
            **found,
            "verdict-fake": found["text-error"],
            "verdict-real": found["text-success"] if dark else "#1f5c33",
            "verdict-unsure": found["text-secondary"],
            "verdict-failed": found["text-warning"] if dark else "#7a4a08",
        }

    def on_mount(self) -> None:
        """The list, and the scan that fills it."""
        if self._plan is not None:
            self.begin(self._plan)
        else:
            self.choose(self._earlier, leaves=True)

    def choose(self, scans: Sequence[ScanInfo], *, leaves: bool = False) -> None:
        """Ask which scan to look at, unless there is only one; `leaves`: no answer quits."""
        if len(scans) == 1 and leaves:
            self.look_at(scans[0])
            return

        def chosen(place: int | None) -> None:
            if place is not None:
                self.look_at(scans[place])
            elif leaves:
                self.exit()

        reviewed = reviewed_in(self.journal, scans)
        self.push_screen(ScansScreen(scans, reviewed, leaves), chosen)

    def begin(self, plan: ScanPlan) -> None:
        """Scan, and show that."""
        run = ScanRun(self.reader, plan, self._tell_of_scan, self._defect)
        pipeline = plan.pipeline
        subject = Subject(
            run.scan_id,
            pipeline.model_name,
            pipeline.model_digest,
            plan.point,
            self.transfers.where,
        )
        self.run_of_scan = run
        self._plan = plan
        self._show(subject, run, lambda: self.begin(plan))
        run.start()

    def look_at(self, info: ScanInfo) -> None:
        """Show an earlier scan's list."""
        subject = Subject(
            info.id, info.model_name, info.model_digest, info.point, self.transfers.where
        )
        replan = self._replan
        again = None if replan is None else lambda: self.begin(replan(info))
        note = ""
        if info.finished is None:
            note = f"This scan broke off after {info.files:,} files; R goes on with it"
        self._show(subject, None, again, note)

    def _show(
        self,
        subject: Subject,
        run: ScanRun | None,
        again: Callable[[], None] | None,
        note: str = "",
    ) -> None:
        triage = Triage(self.journal, subject, self._reviewer)
        panel = None if self._panel is None else self._panel(subject.model_digest)
        screen = TriageScreen(
            triage, self.reader, self.transfers, run, again, note, panel, self._choose_another
        )
        if isinstance(self.screen, TriageScreen):
            self.switch_screen(screen)
        else:
            self.push_screen(screen)

    def _tell_of_scan(self, progress: Progress) -> None:
        """From the scan's thread."""
        for screen in self.screen_stack:
            if isinstance(screen, TriageScreen):
                screen.post_message(screen.ScanNews(progress))

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Every key's command by its name, and Textual's own."""
        yield from super().get_system_commands(screen)
        target = next((each for each in self.screen_stack if isinstance(each, TriageScreen)), None)
        if target is None:
            return
        for group, members in keys.GROUPS:
            for key in members:
                if key.action.startswith("app."):
                    continue
                names = keys.shown(key.keys)
                yield SystemCommand(
                    key.what, f"{names}: {group.split(' (')[0]}", _does(target, key)
                )

    def _choose_another(self) -> None:
        self.choose(listed_scans(self.journal))

    def action_help_quit(self) -> None:
        """Ctrl+C, which people press to quit."""
        self.notify(
            "To quit press q (Ctrl+Q in a dialog); all decisions are saved. "
            "c copies the path of the picture.",
            timeout=6,
            markup=False,
        )

    # --- ends

    def farewell(self) -> str:
        """What was decided in this sitting, and the way back."""
        found = self.journal.reviews.decided_since(self._first_event, self._reviewer)
        parts = [f"{found[word]:,} {word}" for word in RANKS if word in found]
        said = f": {', '.join(parts)}" if parts else ""
        count = counted(sum(found.values()), "picture")
        return f"decided on {count}{said}; go on with: {way_back(self.journal.path)}"

    def leave(self) -> None:
        """End the scan and close the journal; what was decided is in it."""
        if self.run_of_scan is not None:
            self.run_of_scan.cancel(_QUIT_SECONDS)
        self._opened.close()

    def _defect(self, error: BaseException) -> str:
        """From the scan's thread."""
        log = self.crash.write(error)
        return f"A defect of imgscan ended the scan; please report {log}. R goes on"

    def _handle_exception(self, error: Exception) -> None:
        # Textual would print the traceback, with the values of all variables, on the screen.
        self.died_of = self.died_of or error
        self.crash.write(error)
        self._return_code = 1
        if self._exception is None:
            self._exception = error
            self._exception_event.set()
        self._close_messages_no_wait()


def run_app(app: TriageApp) -> str:
    """Run it to its end, and what to say then.

    Raises ImgscanError with the way back in if a defect ended it.
    """
    answer_escape_at_once()
    said = ""
    try:
        with Answers(), QuietStderr():
            app.run()
        said = app.farewell()
    # Of Textual itself, outside of any handler.
    except Exception as error:  # noqa: BLE001
        app.died_of = error
        app.crash.write(error)
    finally:
        app.leave()
    if app.died_of is not None:
        raise ImgscanError(
            f"a defect ended the triage screen; please report {app.crash.path}. All decisions "
            f"are saved; go on with: {way_back(app.journal.path)}"
        )
    return said


def way_back(journal: Path) -> str:
    """The command that goes on where this ended."""
    return f"imgscan --tui --journal {shlex.quote(str(journal))}"


def _does(screen: TriageScreen, key: keys.Key) -> Callable[[], object]:
    return lambda: screen.call_later(screen.run_action, key.action)
