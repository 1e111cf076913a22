"""The whole screen: list, decisions, files, and the scan behind it."""

from __future__ import annotations

from collections.abc import Callable

from rich.text import Text
from textual import on
from textual.events import Resize
from textual.message import Message
from textual.timer import Timer
from textual.widgets import Static

from scanner.errors import ImgscanError
from scanner.journal import Journal
from scanner.tui.detail import DetailPanel
from scanner.tui.scanning import RUNNING, Progress, ScanRun
from scanner.tui.screens.ask import confirm
from scanner.tui.screens.filing import FilingScreen
from scanner.tui.status import found_text, scan_text
from scanner.tui.table import VirtualTable
from scanner.tui.transfer import TransferLog
from scanner.tui.triage import Triage

# From this width on the picture's panel stands beside the list.
WIDE = 110
# The panel follows a cursor that has rested for this long.
REST_SECONDS = 0.12


class TriageScreen(FilingScreen):
    """What a person works on.

    `again` begins a new scan of the same and shows that, `choose_scan` asks for another.
    """

    class ScanNews(Message):
        """How far the scan is."""

        def __init__(self, progress: Progress) -> None:
            super().__init__()
            self.progress = progress

    def __init__(
        self,
        triage: Triage,
        reader: Journal,
        transfers: TransferLog,
        run: ScanRun | None,
        again: Callable[[], None] | None,
        note: str = "",
        panel: DetailPanel | None = None,
        choose_scan: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(triage, reader)
        self._panel = panel
        self.choose_scan = choose_scan
        self._resting_timer: Timer | None = None
        self.transfers = transfers
        self.scan_run = run
        self._again = again
        self._note = note
        self._progress = None if run is None else run.progress
        self._panel_wanted: bool | None = None  # None: as the width has it

    def on_mount(self) -> None:
        """As every list, and with the scan's line."""
        super().on_mount()
        self.draw_status()
        if self._panel is not None:
            self.query_one("#body").mount(self._panel)
            self._place_panel()
        if self._note:
            self.tell(self._note)

    def empty_text(self) -> str:
        """Nothing yet, or nothing at all."""
        if self._progress is not None and self._progress.state in RUNNING:
            return "The first results are on their way…"
        return super().empty_text()

    def redraw(self, *, keep: bool = False) -> None:
        """The list anew, and the line that counts what is in it."""
        super().redraw(keep=keep)
        self.draw_status()

    # --- the scan

    @property
    def growing(self) -> bool:
        """Whether a scan adds to the list."""
        return self.running

    @on(ScanNews)
    def _news(self, message: ScanNews) -> None:
        before, self._progress = self._progress, message.progress
        self.draw_status()
        if message.progress.listed > self.triage.listing.total:
            self.follow()
        if before is None or before.state == message.progress.state:
            return
        match message.progress.state:
            case "broken":
                self.tell(message.progress.problem, error=True)
            case "finished" if not message.progress.scanned:
                self.tell("There are no pictures in what was given", error=True)
        if message.progress.state not in RUNNING:
            self.redraw(keep=True)
            self.follow()

    def draw_status(self) -> None:
        """How far the scan is, or what was said a moment ago."""
        text = self.flash or scan_text(self._progress, self.size.width)
        line = Text(text or self._resting(), overflow="ellipsis", no_wrap=True)
        self.query_one("#scan", Static).update(line, layout=False)

    def _resting(self) -> str:
        found = found_text(*self.triage.listing.verdicts())
        return f"Earlier scan · {found}" + (" · R scans again" if self._again is not None else "")

    @property
    def running(self) -> bool:
        """Whether a scan goes on."""
        return self._progress is not None and self._progress.state in RUNNING

    def action_pause(self) -> None:
        """Pause the scan, or let it go on."""
        if self.scan_run is None or not self.running:
            self.tell("No scan is running; R scans again")
        elif self.scan_run.paused:
            self.scan_run.resume()
        else:
            self.scan_run.pause()
            self.tell("The scan pauses; p goes on")

    def action_cancel(self) -> None:
        """End the scan, after a question."""
        run = self.scan_run
        if run is None or not self.running:
            self.tell("No scan is running")
            return

        def cancelled(yes: bool | None) -> None:
            if yes:
                run.cancel()

        self.app.push_screen(
            confirm(self.app).ask(
                "Cancel the scan?", "Cancel it", "What there is stays; R goes on."
            ),
            cancelled,
        )

    def action_scan(self) -> None:
        """Scan again: what is known and unchanged is not decoded again."""
        if self.running:
            self.tell("A scan is running; X cancels it")
        elif self._again is None:
            self.tell("Give the folders to scan them: imgscan FOLDER --tui", error=True)
        else:
            try:
                self._again()
            except ImgscanError as error:
                self.tell(str(error), error=True)

    def action_scans(self) -> None:
        """Another scan of the journal."""
        if self.running:
            self.tell("A scan is running; X cancels it")
        else:
            self.choose_scan()

    # --- the rest

    def action_help(self) -> None:
        """All keys."""
        self.app.push_screen("help")

    def action_dark(self) -> None:
        """The other of the two themes."""
        dark = self.app.current_theme.dark
        self.app.theme = "textual-light" if dark else "textual-dark"

    # --- the picture's panel

    def _place_panel(self) -> None:
        """Beside the list where there is room, else below it and only if it is asked for."""
        if self._panel is None:
            return
        wide = self.size.width >= WIDE
        self.query_one("#body").set_class(not wide, "-narrow")
        self._panel.display = wide if self._panel_wanted is None else self._panel_wanted
        self.set_class(not wide and self._panel.display, "-panel-below")
        self.show_item()

    def on_resize(self, event: Resize) -> None:
        """The panel moves; the scan's line has another width."""
        self._place_panel()
        self.draw_status()

    def show_item(self) -> None:
        """Show in the panel what is under the cursor, when the cursor has come to rest."""
        if self._panel is None or not self._panel.display:
            return
        # While a key is held down, the list alone is drawn: the panel costs more than it.
        if self._resting_timer is not None:
            self._resting_timer.stop()
        self._resting_timer = self.set_timer(REST_SECONDS, self._show_in_panel)

    def _show_in_panel(self) -> None:
        if self._panel is None or not self._panel.display:
            return
        cursor = self.files.cursor
        near = [] if self.grouped else [self.triage.item(cursor + 1), self.triage.item(cursor - 1)]
        self._panel.show(self.item, [item for item in near if item is not None])

    def action_panel(self) -> None:
        """Show or hide the picture's panel."""
        if self._panel is None:
            self.tell("There is no model to show pictures with", error=True)
            return
        self._panel_wanted = not self._panel.display
        if not self._panel_wanted and self._panel.has_focus:
            self.focus_list()
        self._place_panel()

    @on(VirtualTable.Chosen, "#files")
    def _chosen(self) -> None:
        self.action_panel()

    def action_panel_map(self) -> None:
        """Original, reconstruction, error, attention."""
        if self._panel is not None:
            self._with_panel().action_next_map()

    def action_panel_zoom(self, steps: int) -> None:
        """Nearer or farther."""
        if self._panel is not None:
            self._with_panel().action_zoom(steps)

    def _with_panel(self) -> DetailPanel:
        """The panel, shown."""
        assert self._panel is not None
        if not self._panel.display:
            self.action_panel()
        return self._panel
