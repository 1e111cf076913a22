"""The list on the screen, as it grows: tables, counts, where the cursor is."""

from __future__ import annotations

import gc
from typing import Any, ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal
from textual.message import Message
from textual.reactive import Reactive
from textual.screen import Screen
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Input, Static

from scanner.errors import ImgscanError
from scanner.journal import Journal
from scanner.text import percent, printable
from scanner.tui import keys
from scanner.tui.filters import Filter
from scanner.tui.hints import Hints
from scanner.tui.items import Item
from scanner.tui.listing import Group
from scanner.tui.reading import Added, fetch
from scanner.tui.rows import FILE_COLUMNS, GROUP_COLUMNS, file_cells, group_cells
from scanner.tui.selection import Selection
from scanner.tui.suggest import FilterSuggester
from scanner.tui.table import VirtualTable
from scanner.tui.triage import Triage
from scanner.verdict import bounds

_FLASH_SECONDS = 4.0
_ERROR_SECONDS = 6.0
_NO_FILES = "There are no pictures in what was given."
_NONE_PASS = "No file passes the filter; Esc clears it."


class FollowingScreen(Screen[None]):
    """Shows one scan's list, and follows it as it grows."""

    BINDINGS: ClassVar[list[BindingType]] = [*keys.bindings(app=False)]
    AUTO_FOCUS = ""  # else the filter bar, the first that can have it
    # Textual would draw all of the screen anew; what loses and gets the focus draws itself.
    focused: Reactive[Widget | None] = Reactive(None, repaint=False)

    class Fetched(Message):
        """More files came from the journal."""

        def __init__(self, added: Added) -> None:
            super().__init__()
            self.added = added

    class Trouble(Message):
        """A thread met what a person has to know."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    def __init__(self, triage: Triage, reader: Journal) -> None:
        """`reader` is the same journal for the threads, so that no key waits for them."""
        super().__init__()
        self.triage = triage
        self.reader = reader
        self.selected = Selection()
        self.groups: list[Group] = []
        self.grouped = False
        self._fetching = self._asked_meanwhile = self._rested = False
        self._followed = True  # nobody has moved yet: the cursor stays on top of what comes
        self._flashing: Timer | None = None
        self.flash = ""

    def compose(self) -> ComposeResult:
        """Title, filter, tables, the scan's line, the keys."""
        yield Static(id="top")
        with Horizontal(id="bar"):
            yield Input(
                placeholder="/ filter: words, verdict:fake, conf:>90%, folder:, tag:, review:none",
                suggester=FilterSuggester(self.triage, self.reader),
                select_on_focus=False,
                compact=True,
                id="filter",
            )
            yield Static(id="counts")
        with Horizontal(id="body"):
            yield VirtualTable(self._file_row, FILE_COLUMNS, id="files")
            yield VirtualTable(self._group_row, GROUP_COLUMNS, id="groups")
        yield Static(id="scan")
        yield Hints()

    def on_mount(self) -> None:
        """Begin with what the journal has."""
        subject = self.triage.subject
        where = printable(str(self.triage.journal.path))
        low, high = bounds(subject.point)
        unsure = f", unsure from {percent(low)}" if low < high else ""
        point = f"fake from P(fake) {percent(high)}{unsure} ({subject.point.name})"
        self.query_one("#top", Static).update(
            Text(f"imgscan  {point}  {printable(subject.model)}  {where}", overflow="ellipsis")
        )
        self.groups_table.display = False
        # A key that was typed ahead is meant for where the keys before it have led.
        self.files.on_moved = self._remember
        # At once, here and below: `focus()` waits, and keys typed meanwhile would go elsewhere.
        self.set_focus(self.files)
        self.redraw()
        self.follow()

    @property
    def files(self) -> VirtualTable:
        """The table of files."""
        return self.query_one("#files", VirtualTable)

    @property
    def groups_table(self) -> VirtualTable:
        """The table of folders."""
        return self.query_one("#groups", VirtualTable)

    @property
    def item(self) -> Item | None:
        """What is under the cursor."""
        return None if self.grouped else self.triage.item(self.files.cursor)

    def tell(self, text: str, *, error: bool = False) -> None:
        """What is wrong is a toast; what went well is a line for a moment, which costs nothing."""
        if error:
            self.notify(printable(text), severity="error", timeout=_ERROR_SECONDS, markup=False)
            return
        self.flash = printable(text)
        self.draw_status()
        if self._flashing is not None:
            self._flashing.stop()
        self._flashing = self.set_timer(_FLASH_SECONDS, self._end_flash)

    def _end_flash(self) -> None:
        self.flash = ""
        self.draw_status()

    def draw_status(self) -> None:
        """The line at the bottom."""
        line = Text(self.flash, overflow="ellipsis", no_wrap=True)
        self.query_one("#scan", Static).update(line, layout=False)

    # --- the list grows

    def follow(self) -> None:
        """Fetch what the journal has got since."""
        if self._fetching:
            # It may have read already, and the news that asks for more may be the last.
            self._asked_meanwhile = True
            return
        self._fetching, self._asked_meanwhile = True, False
        self._fetch()

    @work(thread=True, group="fetch")
    def _fetch(self) -> None:
        try:
            triage = self.triage
            added = fetch(self.reader, triage.subject.scan_id, triage.listing)
            self.post_message(self.Fetched(added))
        except ImgscanError as error:
            self._fetching = False
            self.post_message(self.Trouble(str(error)))

    @on(Fetched)
    def _add(self, message: Fetched) -> None:
        self._fetching = False
        if self.triage.add(message.added):
            self.redraw(keep=True)
        elif not len(message.added.table) and not self._asked_meanwhile:
            self._rest()
            return
        self.follow()

    def _rest(self) -> None:
        """All that the journal has is listed."""
        if not self._rested:
            self._rested = True
            # What is loaded by now stays: to look through it for garbage, now and then, would
            # hold up a key press by 60 to 140 ms.
            gc.freeze()
        self.at_rest()

    def at_rest(self) -> None:
        """All is listed that there is by now."""

    @on(Trouble)
    def _trouble(self, message: Trouble) -> None:
        self.tell(message.text, error=True)

    def redraw(self, *, keep: bool = False) -> None:
        """Draw list and counts anew; with `keep`, the cursor stays on its file."""
        files, listing = self.files, self.triage.listing
        cursor = files.cursor
        if keep and not self._followed and self._under is not None:
            place = listing.place(self._under)
            cursor = cursor if place is None else place
        arrow = "▼" if listing.descending else "▲"
        files.titles = {listing.sort: arrow}
        unfiltered = listing.filter == Filter()
        files.empty_text = "" if listing.total and unfiltered else _NONE_PASS
        if not listing.total:
            files.empty_text = self.empty_text()
        files.set_count(len(listing), cursor)
        self._drawn = listing.version
        self._remember()
        if self.grouped:
            self.draw_groups()
        self.draw_counts()

    def draw_groups(self) -> None:
        """The folders anew."""
        self.groups = self.triage.listing.groups()
        self.groups_table.empty_text = self.files.empty_text or _NONE_PASS
        self.groups_table.set_count(len(self.groups))

    def redraw_rows(self) -> None:
        """Draw the rows that are seen anew: the list is as it was, and their marks are not."""
        self.files.refresh()
        self.draw_counts()

    def empty_text(self) -> str:
        """What stands where there is no file at all."""
        return _NO_FILES

    _bar_cells = 0  # of the longest line of counts so far
    _drawn = -1  # the list's version that is on the screen
    _under: int | None = None  # the `seq` under the cursor

    def _remember(self) -> None:
        order = self.triage.listing.order
        cursor = self.files.cursor
        before, self._under = self._under, None
        if cursor < len(order):
            self._under = int(order[cursor])
        if self._under != before:
            self.show_item()

    def draw_counts(self) -> None:
        """How many are listed, selected, decided."""
        listing = self.triage.listing
        of = f" of {listing.total:,}" if len(listing) < listing.total else ""
        parts = [f"{len(listing):,}{of} listed"]
        if listing.sort in ("doubt", "scan"):
            parts.append(f"by {listing.sort}")
        if self.selected:
            parts.append(f"{len(self.selected):,} selected")
        parts.append(f"{listing.reviewed():,} decided")
        self.draw_bar(" · ".join(parts))

    def draw_bar(self, text: str) -> None:
        """Beside the filter. Only a longer line has the screen laid out anew, which takes long."""
        longer = len(text) > self._bar_cells
        self._bar_cells = max(self._bar_cells, len(text))
        line = Text(text.rjust(self._bar_cells), overflow="ellipsis", no_wrap=True)
        self.query_one("#counts", Static).update(line, layout=longer)

    def _file_row(self, place: int) -> Any:
        item = self.triage.item(place)
        return file_cells(item, item is not None and item.seq in self.selected)

    def _group_row(self, place: int) -> Any:
        return group_cells(self.groups[place] if place < len(self.groups) else None)

    @on(VirtualTable.Moved, "#files")
    def _moved(self) -> None:
        if self.files.cursor:
            self._followed = False
        self._remember()

    def show_item(self) -> None:
        """The cursor stands on another file."""
