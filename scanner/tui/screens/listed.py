"""What a person does with the list: filter, sort, folders, select."""

from __future__ import annotations

from textual import on, work
from textual.message import Message
from textual.timer import Timer
from textual.widgets import Input

from scanner.errors import ImgscanError
from scanner.tui.columns import SortKey
from scanner.tui.filters import Filter, parse
from scanner.tui.reading import Answer, ask, question
from scanner.tui.screens.following import FollowingScreen
from scanner.tui.table import VirtualTable

# Typing goes on within this; the list follows when it pauses.
_TYPING_SECONDS = 0.15
# The order of more names is left to a thread.
_NAMES_AT_ONCE = 10_000


class ListScreen(FollowingScreen):
    """A list to be filtered, sorted and selected from."""

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

    _typing: Timer | None = None
    _wanted = Filter()
    _sorts_by_name = False  # as soon as the order is known
    _last_selected: int | None = None

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
            self.draw_bar(str(error))
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

    @property
    def growing(self) -> bool:
        """Whether a scan adds to the list."""
        return False

    def at_rest(self) -> None:
        """Ask for the order of the names before somebody does."""
        if not self.growing:
            self._learn_names()

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
            self.draw_groups()
        self.focus_list()
        self.show_item()

    @on(VirtualTable.Chosen, "#groups")
    def _open_group(self) -> None:
        group = self.groups[self.groups_table.cursor]
        self.action_groups()
        self.query_one("#filter", Input).value = f'folder:"{group.path}"'
        self._under = None  # from the top, wherever the list was before
        self._apply_filter()

    def focus_list(self) -> None:
        """To the table that is shown."""
        self.set_focus(self.groups_table if self.grouped else self.files)

    def action_select(self) -> None:
        """Turn the row's selection round, and go on to the next."""
        if self._selects_none() or self._under is None:
            return
        self.selected.toggle(self._under)
        self._last_selected = self.files.cursor
        self.files.redraw([self.files.cursor])
        self.files.cursor += 1
        self.draw_counts()

    def _selects_none(self) -> bool:
        """Among folders: what would be selected is not to be seen."""
        if self.grouped:
            self.tell("Enter opens a folder, to select in it; f r u s decide on all of its files")
        return self.grouped

    def action_select_range(self) -> None:
        """From the last row that was selected to this one."""
        if self._selects_none() or not len(self.triage.listing):
            return
        here = self.files.cursor
        start = here if self._last_selected is None else self._last_selected
        first, last = sorted((start, here))
        self.selected.add(self.triage.listing.order[first : last + 1])
        self.redraw_rows()

    def action_select_all(self) -> None:
        """All that is listed; again: none."""
        if self._selects_none():
            return
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
