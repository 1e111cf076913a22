"""A table that draws only what is on the screen, however many rows there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from rich.cells import set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from scanner.tui.cells import Cell, Column, fit, widths

Rows = Callable[[int], Sequence[Cell]]


class VirtualTable(ScrollView, can_focus=True):
    """Rows are asked for by place, when they come to be seen. One line stays for the titles.

    The first cell's column also shows the cursor, so that it is seen without any colour.
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "table--title",
        "table--cursor",
        "table--cursor-elsewhere",
        "table--fake",
        "table--real",
        "table--unsure",
        "table--failed",
        "table--dim",
        "table--bar",
        "table--mark",
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,j", "down", "Down", show=False),
        Binding("up,k", "up", "Up", show=False),
        Binding("pagedown,ctrl+f", "page(1)", "Page down", show=False),
        Binding("pageup,ctrl+b", "page(-1)", "Page up", show=False),
        Binding("home", "first", "First", show=False),
        Binding("end,G", "last", "Last", show=False),
        Binding("enter", "choose", "Open", show=False),
    ]

    # Textual would draw all of the table anew; which rows have changed is known here.
    cursor: reactive[int] = reactive(0, repaint=False)
    count: reactive[int] = reactive(0, repaint=False)

    class Told(Message):
        """What happened in a table."""

        def __init__(self, table: VirtualTable) -> None:
            super().__init__()
            self.table = table

        @property
        def control(self) -> VirtualTable:
            """The table, for the selectors of handlers."""
            return self.table

    class Moved(Told):
        """The cursor stands elsewhere, or on something else."""

    class Chosen(Told):
        """Enter, or a second click on the row under the cursor."""

    class TitleClicked(Told):
        """A click on a column's title."""

        def __init__(self, table: VirtualTable, key: str) -> None:
            super().__init__(table)
            self.key = key

    def __init__(self, rows: Rows, columns: Sequence[Column], *, id: str) -> None:
        super().__init__(id=id)
        self._rows_at = rows
        self._columns = columns
        self.titles: dict[str, str] = {}  # of sorted columns: what stands behind the title
        self.empty_text = ""
        # Called at once, where `Moved` comes after keys that were pressed meanwhile.
        self.on_moved: Callable[[], None] = lambda: None

    # --- for the owner

    def set_count(self, count: int, cursor: int | None = None) -> None:
        """How many rows there are, and where the cursor is to stand; draws them all anew."""
        self.count = count
        if self.virtual_size.height != count + 1:
            # Not assigned, for that lays the screen out anew, with each piece of a scan's list.
            # It never scrolls sideways, so the width is no matter.
            self.set_reactive(VirtualTable.virtual_size, Size(1, count + 1))
            self._scroll_update(self.virtual_size)
        self.cursor = max(0, min(self.cursor if cursor is None else cursor, count - 1))
        self._show_cursor()
        self.refresh()

    def redraw(self, places: Sequence[int]) -> None:
        """These rows have changed."""
        for place in places:
            self._refresh_row(place)

    @property
    def visible_rows(self) -> int:
        """Rows the widget has room for."""
        return max(1, self.scrollable_content_region.height - 1)

    def watch_has_focus(self, _has_focus: bool) -> None:
        """Draw the row that tells it, at once; Textual would apply all styles, and draw again."""
        self._refresh_row(self.cursor)

    # --- cursor

    def validate_cursor(self, cursor: int) -> int:
        """Inside of the table."""
        return max(0, min(cursor, self.count - 1))

    def watch_cursor(self, old: int, new: int) -> None:
        """Draw the two rows, and tell."""
        self._refresh_row(old)
        self._refresh_row(new)
        self._show_cursor()
        self.on_moved()
        self.post_message(self.Moved(self))

    def _refresh_row(self, place: int) -> None:
        y = place + 1 - self.scroll_offset.y
        if 1 <= y < self.size.height:
            self.refresh(Region(0, y, self.size.width, 1))

    def _show_cursor(self) -> None:
        top, room = self.scroll_offset.y, self.visible_rows
        if self.cursor < top:
            self.scroll_to(y=self.cursor, animate=False, immediate=True)
        elif self.cursor >= top + room:
            self.scroll_to(y=self.cursor - room + 1, animate=False, immediate=True)

    def action_down(self) -> None:
        """One row down."""
        self.cursor += 1

    def action_up(self) -> None:
        """One row up."""
        self.cursor -= 1

    def action_page(self, direction: int) -> None:
        """A screen's worth of rows."""
        self.cursor += direction * max(1, self.visible_rows - 1)

    def action_first(self) -> None:
        """The first row."""
        self.cursor = 0

    def action_last(self) -> None:
        """The last row."""
        self.cursor = self.count - 1

    def action_choose(self) -> None:
        """What is under the cursor."""
        if self.count:
            self.post_message(self.Chosen(self))

    # --- mouse

    def on_click(self, event: events.Click) -> None:
        """Move the cursor; a double click chooses; the titles sort."""
        if event.y == 0:
            x = 0
            for column, width in zip(self._columns, self._widths(), strict=True):
                if not width:
                    continue
                if x <= event.x < x + width + 1 and column.key:
                    self.post_message(self.TitleClicked(self, column.key))
                    return
                x += width + 1
            return
        place = event.y - 1 + self.scroll_offset.y
        if place >= self.count:
            return
        again = place == self.cursor and event.chain > 1
        self.cursor = place
        if again:
            self.action_choose()

    # --- drawing

    def on_resize(self) -> None:
        """Keep the cursor in sight when the terminal shrinks."""
        self._show_cursor()

    def _size_updated(
        self, size: Size, virtual_size: Size, container_size: Size, layout: bool = True
    ) -> bool:
        # Textual hands the size of what is seen as the virtual one, which would have the scroll
        # bar drawn once more, a frame later, after each layout of the screen. What there is to
        # scroll, `set_count` has told.
        return super()._size_updated(size, self.virtual_size, container_size, layout)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """The titles stay; all below them is another part of the table."""
        super().watch_scroll_y(old_value, new_value)
        if round(old_value) != round(new_value):
            self.refresh()

    def render_line(self, y: int) -> Strip:
        """The titles, or the row at this line of the screen."""
        width = self.scrollable_content_region.width
        base = self.rich_style
        if y == 0:
            return self._strip(self._title_cells(), base + self._kind("title"), width, plain=True)
        place = y - 1 + self.scroll_offset.y
        if place >= self.count:
            text = self.empty_text if y == 2 and not self.count else ""
            return Strip([Segment(set_cell_size(f"  {text}", width), base)], width)
        cells = list(self._rows_at(place))
        if place == self.cursor:
            # Read to the end of the line by those who cannot tell the colours apart.
            cells[0] = Cell("▶" + cells[0].text[1:], cells[0].kind)
            # In one colour: on the cursor's background the others would be hard to read.
            kind = "cursor" if self.has_focus else "cursor-elsewhere"
            return self._strip(cells, base + self._kind(kind), width, plain=True)
        return self._strip(cells, base, width, plain=False)

    def _strip(self, cells: Sequence[Cell], style: Style, width: int, plain: bool) -> Strip:
        segments: list[Segment] = []
        used = 0
        for column, cell, room in zip(self._columns, cells, self._widths(), strict=True):
            if not room:
                continue
            own = style if plain or not cell.kind else style + self._kind(cell.kind)
            segments += (Segment(fit(cell.text, room, column), own), Segment(" ", style))
            used += room + 1
        return Strip(segments, used).adjust_cell_length(width, style)

    def _kind(self, name: str) -> Style:
        return self.get_component_rich_style(f"table--{name}", partial=True)

    def _title_cells(self) -> list[Cell]:
        return [
            Cell(column.title + self.titles.get(column.key, "") if column.key else column.title)
            for column in self._columns
        ]

    def _widths(self) -> list[int]:
        return widths(self._columns, self.scrollable_content_region.width)
