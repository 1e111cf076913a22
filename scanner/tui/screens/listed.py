"""The list on the screen: tables, filter bar, counts; where the cursor is and what is selected."""

from __future__ import annotations

import asyncio
import gc
import re
from typing import Any, ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal
from textual.message import Message
from textual.reactive import Reactive
from textual.screen import Screen
from textual.suggester import Suggester
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Input, Static

from scanner.errors import ImgscanError
from scanner.journal import Journal
from scanner.text import percent, printable
from scanner.tui import keys
from scanner.tui.filters import Filter, complete, parse
from scanner.tui.hints import Hints
from scanner.tui.items import Item
from scanner.tui.listing import Group, SortKey
from scanner.tui.rows import FILE_COLUMNS, GROUP_COLUMNS, file_cells, group_cells
from scanner.tui.selection import Selection
from scanner.tui.table import VirtualTable
from scanner.tui.triage import Added, Answer, Triage, ask, fetch, question
from scanner.verdict import bounds

# Typing goes on within this; the list follows when it pauses.
_TYPING_SECONDS = 0.15
# The order of more names is left to a thread.
_NAMES_AT_ONCE = 10_000
_FLASH_SECONDS = 4.0
_ERROR_SECONDS = 6.0
_TAG = re.compile(r"(^|\s)(tag|t):\S+$", re.IGNORECASE)
_NO_FILES = "There are no pictures in what was given."
_NONE_PASS = "No file passes the filter; Esc clears it."


class FilterSuggester(Suggester):
    """Completion of the filter's last word."""

    def __init__(self, triage: Triage, reader: Journal) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._triage = triage
        self._reader = reader

    async def get_suggestion(self, value: str) -> str | None:
        """What → would complete `value` to."""
        tags: list[str] = []
        if _TAG.search(value):
            try:
                tags = await asyncio.to_thread(self._reader.pages.tags)
            except ImgscanError:
                return None  # whatever is wrong with the journal is told where it matters
        folders = (str(path) for path in self._triage.listing.folders.values())
        return complete(value, folders, tags)


class ListScreen(Screen[None]):
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

    class Found(Message):
        """The journal answered a filter."""

        def __init__(self, wanted: Filter, answer: Answer) -> None:
            super().__init__()
            self.wanted, self.answer = wanted, answer

    class Named(Message):
        """The journal told the order of the names."""

        def __init__(self, names: list[int]) -> None:
            super().__init__()
            self.names = names

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
        self.folder: Group | None = None  # opened from the folders
        self._fetching = self._rested = False
        self._sorts_by_name = False  # as soon as the order is known
        self._followed = True  # nobody has moved yet: the cursor stays on top of what comes
        self._last_selected: int | None = None
        self._typing: Timer | None = None
        self._flashing: Timer | None = None
        self.flash = ""
        self._wanted = Filter()

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
        if not self._fetching:
            self._fetching = True
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
        elif not len(message.added.table):
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
        if not self.growing:
            self._learn_names()

    @property
    def growing(self) -> bool:
        """Whether a scan adds to the list."""
        return False

    @work(thread=True, group="names", exclusive=True)
    def _learn_names(self) -> None:
        """The order of the names: of 100,000 it is read in 0.1 s."""
        if self.triage.names_known:
            return
        try:
            names = self.reader.pages.numbers_by_name(self.triage.subject.scan_id)
            self.post_message(self.Named(names))
        except ImgscanError as error:
            self.post_message(self.Trouble(str(error)))

    @on(Named)
    def _named(self, message: Named) -> None:
        self.triage.learn_names(message.names)
        if self._sorts_by_name:
            self._sorts_by_name = False
            self.triage.sort("name", ask_names=False)
            self._sorted()

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
            self._draw_groups()
        self.draw_counts()

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
        left_out = listing.total - len(listing)
        parts = [f"{len(listing):,} listed"]
        if left_out:
            parts.append(f"{left_out:,} filtered out")
        if listing.sort in ("doubt", "scan"):
            parts.append(f"by {listing.sort}")
        if self.selected:
            parts.append(f"{len(self.selected):,} selected")
        parts.append(f"{listing.reviewed():,} decided")
        self._draw_bar(" · ".join(parts))

    def _draw_bar(self, text: str) -> None:
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

    # --- filter

    def action_filter(self) -> None:
        """To the filter bar."""
        self.set_focus(self.query_one("#filter", Input))

    @on(Input.Changed, "#filter")
    def _typed(self) -> None:
        if self._typing is not None:
            self._typing.stop()
        self._typing = self.set_timer(_TYPING_SECONDS, self._apply_typed)

    @on(Input.Submitted, "#filter")
    def _submitted(self) -> None:
        problem = self._apply_filter()
        if problem is None:
            self.focus_list()
        else:  # in the list, what is typed to mend it would decide on pictures
            self.tell(problem, error=True)

    def _apply_typed(self) -> None:
        self._apply_filter()

    def _apply_filter(self) -> str | None:
        """What is wrong with the filter, or None: then it holds, as soon as it is answered."""
        bar = self.query_one("#filter", Input)
        try:
            wanted = parse(bar.value)
        except ImgscanError as error:
            bar.add_class("-wrong")
            self._draw_bar(str(error))
            self._bar_cells = 0  # the counts need less
            return str(error)
        bar.remove_class("-wrong")
        self._wanted = wanted
        if question(wanted) == question(self.triage.listing.filter):
            self.triage.show(wanted)
            self._filtered()
        else:
            self._find(wanted, self.triage.listing.total)
        return None

    @work(thread=True, group="find")
    def _find(self, wanted: Filter, total: int) -> None:
        try:
            answer = ask(self.reader, self.triage.subject.scan_id, wanted, -1, total)
            self.post_message(self.Found(wanted, answer))
        except ImgscanError as error:
            self.post_message(self.Trouble(str(error)))

    @on(Found)
    def _show_found(self, message: Found) -> None:
        if message.wanted == self._wanted:  # else more was typed meanwhile
            self.triage.show(message.wanted, message.answer)
            self._filtered()

    def _filtered(self) -> None:
        self._followed = False
        under = self._under
        place = None if under is None else self.triage.listing.place(under)
        self.files.cursor = place or 0
        self.redraw()
        if self.grouped:
            self.groups_table.cursor = 0

    # --- sort, groups, selection, ways out

    def action_sort(self, key: SortKey) -> None:
        """Sort, or turn round; the cursor goes to the top of what was asked for."""
        triage = self.triage
        self._sorts_by_name = False
        if key == "name" and not triage.names_known and triage.listing.total > _NAMES_AT_ONCE:
            self._sorts_by_name = True
            self._learn_names()
        else:
            triage.sort(key)
            self._sorted()

    def _sorted(self) -> None:
        self._followed = True
        self.files.cursor = 0
        self.redraw()

    @on(VirtualTable.TitleClicked)
    def _title(self, message: VirtualTable.TitleClicked) -> None:
        self.action_sort(message.key)  # type: ignore[arg-type]

    def action_groups(self) -> None:
        """Folders instead of files, and back."""
        self.grouped = not self.grouped
        self.groups_table.display = self.grouped
        self.files.display = not self.grouped
        if self.grouped:
            self._draw_groups()
        self.focus_list()
        self.show_item()

    def _draw_groups(self) -> None:
        self.groups = self.triage.listing.groups()
        self.groups_table.empty_text = self.files.empty_text or _NONE_PASS
        self.groups_table.set_count(len(self.groups))

    @on(VirtualTable.Chosen, "#groups")
    def _open_group(self) -> None:
        group = self.groups[self.groups_table.cursor]
        self.action_groups()
        self.query_one("#filter", Input).value = f'folder:"{group.path}"'
        self._apply_filter()

    def focus_list(self) -> None:
        """To the table that is shown."""
        self.set_focus(self.groups_table if self.grouped else self.files)

    def action_select(self) -> None:
        """Turn the row's selection round, and go on to the next."""
        if self._under is None or self.grouped:
            return
        self.selected.toggle(self._under)
        self._last_selected = self.files.cursor
        self.files.redraw([self.files.cursor])
        self.files.cursor += 1
        self.draw_counts()

    def action_select_range(self) -> None:
        """From the last row that was selected to this one."""
        if self.grouped or not len(self.triage.listing):
            return
        here = self.files.cursor
        start = here if self._last_selected is None else self._last_selected
        first, last = sorted((start, here))
        self.selected.add(self.triage.listing.order[first : last + 1])
        self.redraw_rows()

    def action_select_all(self) -> None:
        """All that is listed; again: none."""
        order = self.triage.listing.order
        if self.selected.has_all(order):
            self.selected.clear()
        else:
            self.selected.add(order)
        self.redraw_rows()

    def action_back(self) -> None:
        """One step out: of the bar, of the selection, of the filter, of the folders."""
        bar = self.query_one("#filter", Input)
        if bar.has_focus:
            self.focus_list()
        elif self.selected:
            self.selected.clear()
            self.redraw_rows()
        elif bar.value:
            was_folder = bar.value.startswith('folder:"')
            bar.value = ""
            self._apply_filter()
            if was_folder and not self.grouped:
                self.action_groups()
        elif self.grouped:
            self.action_groups()
