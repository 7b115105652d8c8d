"""The rows of a dataset as a table: all of them, or some in an order of their own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.text import Text
from textual import on, work
from textual.binding import Binding
from textual.message import Message

from engine.i18n import N_
from engine.text import one_line
from tui.panes.base import Reporting
from tui.panes.data.eyes import Eyes
from tui.panes.data.facts import BROKEN, Facts, note_text, ranges
from tui.widgets.table import Cell, Column, Kind, VirtualTable

if TYPE_CHECKING:
    from engine.dataset.reader import Dataset, Row

PAGE = 200
"""Rows read at once, where they are small."""
PAGE_BYTES = 4 << 20
"""What is read at once, about, where rows are large."""
PAGES = 20
"""So many pages are held; what is scrolled past is read again."""


class RowsTable(Reporting, VirtualTable):
    """Shows the dataset that it is given by `open`; `row` is the one under the cursor.

    Rows keep the numbers that they have in the file, whichever are shown.
    """

    BINDINGS = [
        Binding("space", "mark", N_("mark"), show=False, id="rows.mark"),
        Binding("g", "jump", N_("go to a row by its number"), show=False, id="rows.jump"),
    ]

    class Looked(Message):
        """The cursor is on this row now, and it has been read."""

        def __init__(self, row: Row) -> None:
            super().__init__()
            self.row = row

    class InView(Message):
        """Other rows are in view, or these have been read."""

    class Marked(Message):
        """A row was marked, or its mark taken away."""

    class Jump(Message):
        """The user wants to give a row's number."""

    def __init__(self, eyes: Eyes, facts: Facts) -> None:
        super().__init__(
            [
                Column("#", 9, "right"),
                Column(N_("turns"), 5, "right", optional=True),
                Column(N_("tokens"), 6, "right", optional=True),
                Column(N_("first words")),
                Column("", 4),
            ],
            id="rows",
        )
        self._eyes = eyes
        self._facts = facts
        self._dataset: Dataset | None = None
        self._order: Sequence[int] | None = None
        self._read: dict[int, Row] = {}
        self._page = PAGE

    # -- what the pane calls --------------------------------------------------

    def open(self, dataset: Dataset, first: Iterable[Row], row: int = 0) -> None:
        """Show all rows of `dataset`, of which `first` have been read; the cursor on `row`."""
        self._dataset, self._order = dataset, None
        self._read = {one.index: one for one in first}
        average = dataset.size // max(dataset.known, 1) or 1
        self._page = max(8, min(PAGE, PAGE_BYTES // average))
        self.set_source(dataset.known, self._cells, self._kind, cursor=row)
        self._look()

    def counted(self) -> None:
        """The dataset has found more rows."""
        if self._dataset is not None and self._order is None:
            self.set_count(self._dataset.known)

    def show_only(self, order: Sequence[int] | None, from_top: bool = False) -> None:
        """Show these rows in this order (None: all in the file's).

        The cursor stays on its row, or goes to the first (`from_top`).
        """
        row = self.row or 0
        self._order = order
        at = 0 if from_top else self._position(row) or 0
        self.set_source(self._rows_shown, self._cells, self._kind, at)
        self._look()

    @property
    def row(self) -> int | None:
        """The number of the row under the cursor; None when nothing is shown."""
        return self._row_at(self.cursor) if self.cursor is not None else None

    @property
    def looked_at(self) -> Row | None:
        """The row under the cursor, once it has been read."""
        return self._read.get(self.row) if self.row is not None else None

    def go_to(self, row: int) -> bool:
        """Put the cursor on `row`; False when it is not among those shown."""
        at = self._position(row)
        if at is not None:
            self.move_to(at)
        return at is not None

    def in_view(self) -> list[Row]:
        """The rows in view that have been read, the one under the cursor first."""
        top = self.scroll_offset.y
        places = range(top, min(top + self._body, self.count))
        rows = [self._row_at(place) for place in places]
        ahead = [] if self.row is None else [self.row]
        return [self._read[row] for row in dict.fromkeys(ahead + rows) if row in self._read]

    def redraw(self, row: int | None = None) -> None:
        """What is known of `row` (of all) has changed."""
        at = None if row is None else self._position(row)
        if at is not None:
            self.rows_ready(at, at + 1)
        elif row is None:
            self.rows_ready()

    # -- keys -----------------------------------------------------------------

    def action_mark(self) -> None:
        """Mark the row under the cursor, or take its mark away; on to the next."""
        row = self.row
        if row is not None:
            self._facts.marked ^= {row}
            self.redraw(row)
            self.action_move(1)
            self.post_message(self.Marked())

    def action_jump(self) -> None:
        """Ask for a number."""
        self.post_message(self.Jump())

    # -- drawing --------------------------------------------------------------

    @property
    def _rows_shown(self) -> int:
        if self._order is not None:
            return len(self._order)
        return self._dataset.known if self._dataset is not None else 0

    def _row_at(self, place: int) -> int:
        return place if self._order is None else self._order[place]

    def _position(self, row: int) -> int | None:
        """Where `row` stands in the view."""
        if self._order is None:
            return row if row < self._rows_shown else None
        try:
            return self._order.index(row)
        except ValueError:
            return None

    def _cells(self, place: int) -> list[Cell] | None:
        from engine.dataset import shapes

        number = self._row_at(place)
        row = self._read.get(number)
        if row is None:
            return None
        label = Text(f"{number}")
        if number in self._facts.marked:
            label = Text.assemble(("▪ ", "bold"), label)
        if row.problem is not None:
            return [label, "-", "-", one_line(row.problem), note_text(BROKEN)]
        shape = self._dataset.shape if self._dataset else ""
        words = one_line(shapes.first_words(row.value, shape=shape), marks=False)
        turns, tokens = shapes.turns(row.value, shape), self._facts.tokens(number)
        note = note_text(self._facts.note(number, self._eyes.max_length))
        return [label, f"{turns}" if turns else "-", f"{tokens}" if tokens else "-", words, note]

    def _kind(self, place: int) -> Kind:
        number = self._row_at(place)
        row = self._read.get(number)
        broken = row is not None and row.problem is not None
        return "error" if broken or self._facts.note(number, 0) == BROKEN else ""

    # -- reading --------------------------------------------------------------

    @on(VirtualTable.RowsWanted)
    def _rows_wanted(self, event: VirtualTable.RowsWanted) -> None:
        event.stop()
        around = self._page // 2
        first = max(0, event.rows.start - around)
        last = min(self.count, event.rows.stop + around)
        rows = {self._row_at(place) for place in range(first, last)}
        dataset = self._dataset
        if dataset is not None:
            self._fetch_rows(dataset, sorted(rows.difference(self._read)))

    @work(thread=True, group="rows", exit_on_error=False)
    def _fetch_rows(self, dataset: Dataset, wanted: list[int]) -> None:
        rows: list[Row] = []
        for piece in ranges(wanted):
            rows += dataset.page(piece.start, len(piece))
        self.app.call_from_thread(self._fetched, dataset, rows)

    def _fetched(self, dataset: Dataset, rows: list[Row]) -> None:
        if dataset is not self._dataset:
            return
        looked = self.looked_at
        self._read.update((row.index, row) for row in rows)
        too_many = len(self._read) - PAGES * self._page
        for row in list(self._read)[: max(too_many, 0)]:
            del self._read[row]
        self.rows_ready()
        if looked is None:
            self._look()
        self.post_message(self.InView())

    @on(VirtualTable.Moved)
    def _moved(self, event: VirtualTable.Moved) -> None:
        event.stop()
        self._look()

    def _look(self) -> None:
        row = self.looked_at
        if row is not None:
            self.post_message(self.Looked(row))
        self.post_message(self.InView())

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Other rows are in view."""
        super().watch_scroll_y(old_value, new_value)
        if round(old_value) != round(new_value):
            self.post_message(self.InView())
