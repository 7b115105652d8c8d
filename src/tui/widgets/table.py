"""A table over any number of rows that draws only the rows in view.

Textual's DataTable needs 84 s and 830 MB for a million rows; this one keeps
nothing but the cursor and asks its source for a row when it draws it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from engine.i18n import N_, _
from engine.text import one_line
from tui.widgets.cells import ELLIPSIS, fit, middle, segments
from tui.widgets.extent import set_extent

Cell = str | Text
# What a source may say of a row: it picks the row's colours.
Kind = Literal["", "muted", "good", "warning", "error"]

_GAP = 1
_LEAST_FLEX = 10  # cells below which a flexible column is worth more than an optional one


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        title: English, marked with `N_`; translated when it is drawn.
        width: in cells; None shares what the others leave.
        align: "left", "right" or "center".
        optional: may be left out where the table is narrow.
        keeps_end: a text that is too long loses its middle, not its end.
    """

    title: str
    width: int | None = None
    align: Literal["left", "right", "center"] = "left"
    optional: bool = False
    keeps_end: bool = False


class VirtualTable(ScrollView, can_focus=True, inherit_bindings=False):
    """A table with a fixed header and one cursor row. See `set_source`."""

    DEFAULT_CSS = """
    VirtualTable {
        height: 1fr;
        overflow-x: hidden;
        overflow-y: auto;
        scrollbar-size-vertical: 1;
        background: $surface;
        color: $foreground;
        & > .virtual-table--header { color: $text-muted; text-style: bold; }
        & > .virtual-table--cursor {
            background: $block-cursor-blurred-background;
            color: $block-cursor-blurred-foreground;
            text-style: $block-cursor-blurred-text-style;
        }
        &:focus > .virtual-table--cursor {
            background: $block-cursor-background;
            color: $block-cursor-foreground;
            text-style: $block-cursor-text-style;
        }
        & > .virtual-table--muted { color: $text-muted; }
        & > .virtual-table--good { color: $text-success; }
        & > .virtual-table--warning { color: $text-warning; }
        & > .virtual-table--error { color: $text-error; }
        /* Without colours of our own only attributes show where the cursor is. */
        &:ansi > .virtual-table--cursor, &:nocolor > .virtual-table--cursor {
            text-style: underline;
        }
        &:ansi:focus > .virtual-table--cursor, &:nocolor:focus > .virtual-table--cursor {
            color: ansi_default;
            background: ansi_default;
            text-style: bold reverse;
        }
    }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "virtual-table--header",
        "virtual-table--cursor",
        "virtual-table--muted",
        "virtual-table--good",
        "virtual-table--warning",
        "virtual-table--error",
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", N_("up"), show=False, id="table.up"),
        Binding("down,j", "move(1)", N_("down"), show=False, id="table.down"),
        Binding("pageup", "page(-1)", N_("page up"), show=False, id="table.page-up"),
        Binding("pagedown", "page(1)", N_("page down"), show=False, id="table.page-down"),
        Binding("home,g", "first", N_("first row"), show=False, id="table.first"),
        Binding("end,G", "last", N_("last row"), show=False, id="table.last"),
        Binding("enter", "select", N_("open"), show=False, id="table.select"),
    ]

    class _Posted(Message):
        """A message of this table; `control` lets ``@on`` select by it."""

        def __init__(self, table: VirtualTable) -> None:
            super().__init__()
            self.table = table

        @property
        def control(self) -> VirtualTable:
            """The table that posted."""
            return self.table

    class Moved(_Posted):
        """The cursor is on another row. A burst of moves arrives as the last one."""

        def __init__(self, table: VirtualTable, index: int) -> None:
            super().__init__(table)
            self.index = index

        def can_replace(self, message: Message) -> bool:
            """Whether `message`, which waits still, is made needless by this one."""
            return isinstance(message, VirtualTable.Moved) and message.table is self.table

    class Selected(_Posted):
        """Enter was pressed on a row."""

        def __init__(self, table: VirtualTable, index: int) -> None:
            super().__init__(table)
            self.index = index

    class RowsWanted(_Posted):
        """The rows of the range `rows` are in view and not there: read them.

        Call `rows_ready` when they are. The same rows are asked for once.
        """

        def __init__(self, table: VirtualTable, rows: range) -> None:
            super().__init__(table)
            self.rows = rows

    def __init__(
        self,
        columns: Sequence[Column],
        *,
        name: str | None = None,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        super().__init__(name=name, id=id, classes=classes)
        self.columns = tuple(columns)
        self._count = 0
        self._cursor = 0
        self._fetch: Callable[[int], Sequence[Cell] | None] = lambda index: None
        self._kind: Callable[[int], Kind] | None = None
        self._asked = range(0)
        self._missing: list[int] = []

    # What the owner calls

    @property
    def count(self) -> int:
        """How many rows there are."""
        return self._count

    @property
    def cursor(self) -> int | None:
        """The index of the row under the cursor; None in an empty table."""
        return self._cursor if self._count else None

    def set_source(
        self,
        count: int,
        fetch: Callable[[int], Sequence[Cell] | None],
        kind: Callable[[int], Kind] | None = None,
        cursor: int = 0,
    ) -> None:
        """Show other rows.

        Args:
            count: how many there are (`set_count` when more turn up).
            fetch: the cells of a row, one a column, or None if it is not read
                yet. Called while drawing, so it must not read files. Cells may
                hold anything; they are cleaned and cut here. (A Text should be
                made of cleaned text: Rich drops the ends of escape sequences,
                and the rest of the text then counts as part of them.)
            kind: what a row is, for its colours; asked only of rows in view
                whose cells are there.
            cursor: the row to start on.
        """
        self._fetch, self._kind = fetch, kind
        self._asked = range(0)
        self._count = max(count, 0)
        self._cursor = self._inside(cursor)
        self._resize()
        self._show_cursor()
        self.refresh()

    def set_count(self, count: int) -> None:
        """There are more (or fewer) rows now; cursor and view stay where they can."""
        grew_unseen = count > self._count >= self.scroll_offset.y + self._body
        self._count = max(count, 0)
        self._resize()
        if not grew_unseen:
            self.refresh()
        before, self._cursor = self._cursor, self._inside(self._cursor)
        if self._cursor != before:
            self._show_cursor()
            self.post_message(self.Moved(self, self._cursor))

    def rows_ready(self, start: int = 0, stop: int | None = None) -> None:
        """Rows `start` to `stop` were read or have changed: draw those in view again."""
        self._asked = range(0)
        top = self.scroll_offset.y
        first, end = max(start - top, 0), self._body if stop is None else stop - top
        end = min(end, self._body)
        if first < end:
            self.refresh(Region(0, first + 1, self._width, end - first))

    def move_to(self, index: int) -> None:
        """Put the cursor on row `index` (or the nearest there is) and bring it into view."""
        index = self._inside(index)
        if index == self._cursor or not self._count:
            self._show_cursor()
            return
        before, self._cursor = self._cursor, index
        if not self._show_cursor():
            top = self.scroll_offset.y
            self.refresh(
                *(
                    Region(0, row - top + 1, self._width, 1)
                    for row in (before, index)
                    if top <= row < top + self._body
                )
            )
        self.post_message(self.Moved(self, index))

    # Keys and mouse

    def action_move(self, rows: int) -> None:
        """Move the cursor by `rows`."""
        self.move_to(self._cursor + rows)

    def action_page(self, pages: int) -> None:
        """Move the cursor by `pages` heights of the table."""
        self.move_to(self._cursor + pages * max(self._body - 1, 1))

    def action_first(self) -> None:
        """Go to the first row."""
        self.move_to(0)

    def action_last(self) -> None:
        """Go to the last row."""
        self.move_to(self._count - 1)

    def action_select(self) -> None:
        """Open the row under the cursor."""
        if self._count:
            self.post_message(self.Selected(self, self._cursor))

    def on_click(self, event: events.Click) -> None:
        """A click moves the cursor; a second one opens the row."""
        index = self.scroll_offset.y + event.y - 1
        if event.y < 1 or index >= self._count:
            return
        self.move_to(index)
        if event.chain == 2:
            self.action_select()

    # Drawing

    def render_line(self, y: int) -> Strip:
        """Line `y` of the view: the header, then the rows from the scroll position on."""
        width = self._width
        if y == 0:
            style = self.get_component_rich_style("virtual-table--header")
            return self._strip(
                [_(column.title) if column.title else "" for column in self.columns], style
            )
        index = self.scroll_offset.y + y - 1
        if index >= self._count:
            return Strip.blank(width, self.rich_style)
        cells = self._fetch(index)
        style = self._row_style(index, cells is not None)
        if cells is None:
            self._want(index)
            return Strip([Segment(fit(ELLIPSIS, width), style)], width)
        return self._strip(cells, style)

    def _strip(self, cells: Sequence[Cell], style: Style) -> Strip:
        width, line = self._width, []
        for column, cell, cells_wide in zip(self.columns, cells, self._widths(width), strict=False):
            if cells_wide:
                if column.keeps_end and isinstance(cell, str):
                    cell = middle(one_line(cell), cells_wide)
                line += segments(cell, cells_wide, column.align, style, self.app.console)
                line.append(Segment(" " * _GAP, style))
        return Strip(line).adjust_cell_length(width, style).simplify()

    def _row_style(self, index: int, known: bool) -> Style:
        kind = self._kind(index) if known and self._kind is not None else ""
        style = self.rich_style
        if kind:
            style += self.get_component_rich_style(f"virtual-table--{kind}", partial=True)
        if index == self._cursor:
            style += self.get_component_rich_style("virtual-table--cursor", partial=True)
        return style

    def _widths(self, width: int) -> list[int]:
        """Cells for each column; 0 for a column that is left out."""
        kept = list(range(len(self.columns)))
        while True:
            flexible = [i for i in kept if self.columns[i].width is None]
            fixed = sum(self.columns[i].width or 0 for i in kept) + _GAP * max(len(kept) - 1, 0)
            spare = width - fixed
            optional = [i for i in kept if self.columns[i].optional]
            if not optional or spare >= _LEAST_FLEX * len(flexible):
                break
            kept.remove(optional[-1])
        widths = [(column.width or 0) if i in kept else 0 for i, column in enumerate(self.columns)]
        for place, i in enumerate(flexible):
            widths[i] = max(spare // len(flexible) + (place < spare % len(flexible)), 1)
        return widths

    def _want(self, index: int) -> None:
        """Ask for a row that is not there: once for all that one drawing misses."""
        if index in self._asked:
            return
        if not self._missing:
            self.call_later(self._ask)
        self._missing.append(index)

    def _ask(self) -> None:
        if self._missing:
            self._asked = range(min(self._missing), max(self._missing) + 1)
            self._missing = []
            self.post_message(self.RowsWanted(self, self._asked))

    # Sizes

    @property
    def _width(self) -> int:
        """Cells beside the scrollbar; `size` counts the scrollbar in."""
        return self.scrollable_content_region.width

    @property
    def _body(self) -> int:
        """Rows that fit below the header."""
        return max(self.scrollable_content_region.height - 1, 0)

    def _inside(self, index: int) -> int:
        return max(min(index, self._count - 1), 0)

    def _resize(self) -> None:
        # Rows are as wide as the view, so there is nothing to scroll sideways to.
        set_extent(self, Size(1, self._count + 1))

    def on_resize(self) -> None:
        """Keep the cursor in view."""
        self._show_cursor()

    def _show_cursor(self) -> bool:
        """Scroll until the cursor is in view; whether that was needed."""
        top, body = self.scroll_offset.y, self._body
        if not body or top <= self._cursor < top + body:
            return False
        target = self._cursor if self._cursor < top else self._cursor - body + 1
        self.scroll_to(y=target, animate=False, immediate=True, force=True)
        return True
