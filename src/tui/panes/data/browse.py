"""Going through the rows: which are shown, which one is looked at, what is searched in them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Container, Vertical
from textual.message import Message

from engine.errors import Problem
from engine.i18n import N_, _
from tui.panes.base import Reporting
from tui.panes.data import asking
from tui.panes.data.counting import Counting
from tui.panes.data.eyes import Eyes
from tui.panes.data.facts import Facts, following, preceding
from tui.panes.data.find import Find, SearchLine
from tui.panes.data.rows import RowsTable
from tui.panes.data.sample import SampleView
from tui.panes.data.views import ALL, TITLES, Known, counted, rows_of

if TYPE_CHECKING:
    from engine.dataset.reader import Dataset, Row


class Browser(Reporting, Vertical):
    """Shows the dataset that it is given by `open`: its rows, and one of them in full.

    Args:
        eyes: through which model and template rows are seen.
        facts: what is known of the rows; marks and token counts are put in.
    """

    BINDINGS = [
        Binding("slash", "find", N_("find"), id="data.find"),
        Binding("n", "step(1)", N_("next"), id="data.next"),
        Binding("f", "view", N_("filter"), id="data.view"),
        Binding("N", "step(-1)", N_("previous match or finding"), show=False, id="data.previous"),
        Binding("escape", "back", N_("end the search, show all rows"), show=False, id="data.back"),
        Binding("A", "mark_all", N_("mark all that are shown"), show=False, id="data.mark-all"),
        Binding("asterisk", "unmark", N_("take all marks away"), show=False, id="data.unmark"),
        Binding("b", "mask", N_("loss as colours or as « »"), show=False, id="data.mask"),
    ]

    class Changed(Message):
        """Other rows are shown, or other rows are marked."""

    def __init__(self, eyes: Eyes, facts: Facts) -> None:
        super().__init__(id="browser")
        self._facts = facts
        self._dataset: Dataset | None = None
        self._view = ALL
        self._searched_from: int | None = None
        self.table = RowsTable(eyes, facts)
        self.sample = SampleView(eyes, facts)
        self._search = SearchLine()
        self._counting = Counting(self, eyes, facts, self.table.redraw)

    def compose(self) -> ComposeResult:
        """Rows and sample side by side (one above the other on narrow screens), the search."""
        with Container(id="data-body"):
            yield self.table
            yield self.sample
        yield self._search

    # -- what the pane calls --------------------------------------------------

    def open(self, dataset: Dataset, first: list[Row], row: int, same: bool) -> None:
        """Show all rows of `dataset`; a search goes on when it is the `same` file read again."""
        query = self._search.wanted if same else None
        self._dataset, self._view = dataset, ALL
        self.end_search()
        self.table.open(dataset, first, row)
        if not first:
            self.sample.say(_("This file holds no rows."))
        if query is not None:
            self._search.look_for(query, dataset)
            self.sample.pattern = query.pattern

    def counted(self) -> None:
        """The dataset has found more rows."""
        self.table.counted()

    def redraw(self) -> None:
        """What is known of the rows, or what they are looked at through, has changed."""
        if self._view not in (ALL, "marked", "matches"):
            self._show(ALL)
        self.table.redraw()
        self.sample.again()
        self.refresh_bindings()

    @property
    def row(self) -> int:
        """The row under the cursor; 0 where there is none."""
        return self.table.row or 0

    @property
    def chosen(self) -> list[int]:
        """The rows that the next act is about: those marked, else the one under the cursor."""
        row = self.table.row
        return sorted(self._facts.marked) or ([] if row is None else [row])

    @property
    def known(self) -> Known:
        """What views are made of now."""
        return Known(self._facts, self._search.matches)

    @property
    def title(self) -> str:
        """The view's name and size; "" for all rows."""
        if self._view == ALL:
            return ""
        return f"{_(TITLES[self._view])} {counted(self._view, self.table.count, self.known)}"

    # -- the row that is looked at ----------------------------------------------

    @on(RowsTable.Looked)
    def _looked(self, event: RowsTable.Looked) -> None:
        if self._dataset is not None:
            self.sample.show(event.row, self._dataset.shape)

    @on(RowsTable.InView)
    def _in_view(self) -> None:
        if self._dataset is not None:
            self._counting.want(self.table.in_view(), self._dataset.shape)

    @on(SampleView.Answered)
    def _answered(self, event: SampleView.Answered) -> None:
        self._facts.counted(event.row, event.tokens)
        self.table.redraw(event.row)
        self._in_view()

    @on(RowsTable.Jump)
    @work(exit_on_error=False)
    async def _jump(self) -> None:
        dataset = self._dataset
        if dataset is None:
            return
        rows = dataset.rows
        label = _("row, from 0") if rows is None else _("row, 0 to {last}").format(last=rows - 1)
        row = await asking.a_number(self.app, _("Go to a row"), label, 0, 0)
        if row is not None:
            if row >= dataset.known and dataset.rows is None:  # not counted as far as that yet
                await asyncio.to_thread(dataset.page, row, 1)
                self.table.counted()
            self._go_to(row)

    def _go_to(self, row: int) -> None:
        """Put the cursor on `row`; where the view hides it, all are shown again.

        Raises `Problem` for a row that is not there.
        """
        if self._dataset is None or self.table.go_to(row):
            return
        if row < self._dataset.known:
            self._show(ALL)
            self.table.go_to(row)
            return
        why = _("{count:,} rows are known so far, the first is 0.")
        raise Problem(
            _("There is no row {row}").format(row=row), why.format(count=self._dataset.known)
        )

    def action_mask(self) -> None:
        """Show what carries loss by colours, or by signs for eyes and screens without them."""
        self.sample.plain = not self.sample.plain
        self.sample.again()

    # -- views and marks ------------------------------------------------------

    @work(exit_on_error=False)
    async def action_view(self) -> None:
        """Show only some rows, or all in another order."""
        view = await asking.a_view(self.app, self.known)
        if view is not None:
            self._show(view)

    def _show(self, view: str) -> None:
        self._view = view
        self.table.show_only(rows_of(view, self.known), from_top=view == "longest")
        self.post_message(self.Changed())

    @on(RowsTable.Marked)
    def _marked(self) -> None:
        self.post_message(self.Changed())

    def action_mark_all(self) -> None:
        """Mark every row that is shown, of a part of the dataset."""
        self._facts.marked.update(rows_of(self._view, self.known) or ())
        self.table.redraw()
        self.post_message(self.Changed())

    def action_unmark(self) -> None:
        """Take all marks away."""
        self._facts.marked.clear()
        self.table.redraw()
        self.post_message(self.Changed())

    # -- search ---------------------------------------------------------------

    @work(exit_on_error=False)
    async def action_find(self) -> None:
        """Look for a text in all rows, in the background; the cursor goes to the first match."""
        dataset = self._dataset
        if dataset is None:
            return
        query = await self.app.push_screen_wait(Find(self._search.wanted))
        if query is not None and dataset is self._dataset:
            self.end_search()
            self._searched_from = self.row
            self._search.look_for(query, dataset)
            self.sample.pattern = query.pattern
            self.sample.again()
            self.refresh_bindings()

    @on(SearchLine.Found)
    def _found(self) -> None:
        start, matches = self._searched_from, self._search.matches
        if start is not None and matches and (matches[-1] >= start or self._search.ended):
            self._searched_from = None
            self._go_to(following(matches, start - 1) or 0)
        if self._view == "matches":
            self._show("matches")

    def end_search(self) -> None:
        """Forget what was looked for."""
        self._search.end()
        self._searched_from = self.sample.pattern = None
        self.refresh_bindings()

    def action_back(self) -> None:
        """One step back: forget what was looked for, then show all rows."""
        searched = self._search.wanted is not None
        self.end_search()
        self.sample.again()
        if not searched or self._view == "matches":
            self._show(ALL)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Escape has something to go back from here, or it is the shell's; so has n to go to."""
        if action in ("find", "view"):
            return self._dataset is not None
        searching = self._search.wanted is not None
        if action == "mark_all":
            return self._view != ALL
        if action == "back":
            return searching or self._view != ALL
        return action != "step" or searching or bool(self._facts.flagged)

    def action_step(self, by: int) -> None:
        """Go to the next match of the search, or while nothing is looked for, the next finding."""
        searching = self._search.wanted is not None
        rows = self._search.matches if searching else self._facts.flagged
        row = following(rows, self.row) if by > 0 else preceding(rows, self.row)
        if row is not None:
            self._searched_from = None
            self._go_to(row)
