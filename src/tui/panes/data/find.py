"""Looking for a text in all rows: what asks for it, and what tells how much was found."""

from __future__ import annotations

import time
from array import array
from typing import TYPE_CHECKING

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.message import Message
from textual.screen import ModalScreen
from textual.widgets import Input, Static
from textual.worker import Worker, get_current_worker

from engine.errors import Failed, Problem
from engine.i18n import N_, _, ngettext
from engine.text import one_line
from tui.dialogs.fitted import Fitted
from tui.dialogs.keys_line import KeysLine
from tui.panes.base import Reporting
from tui.widgets.field import Field
from tui.widgets.strips import Line

if TYPE_CHECKING:
    from engine.dataset.reader import Dataset
    from engine.dataset.search import Query

_PAUSE = 0.2
"""Seconds between two words on how far a search has come."""


class Find(ModalScreen["Query | None"]):
    """Asks what to look for; returns a `Query`, or None when put away."""

    BINDINGS = [
        Binding("escape", "dismiss(None)", N_("back")),
        Binding("ctrl+r", "regex", N_("regular expression on/off"), show=False),
    ]

    def __init__(self, last: Query | None) -> None:
        super().__init__()
        self._text = last.text if last is not None else ""
        self._regex = last is not None and last.regex

    def compose(self) -> ComposeResult:
        """The field, what is wrong with it, the keys."""
        with Fitted(classes="dialog"):
            yield Static(_("Find in all rows"), classes="dialog-title", markup=False)
            yield Field(self._text)
            yield Static("", id="find-kind", classes="dim", markup=False)
            yield Static("", classes="dialog-wrong", markup=False)
            yield KeysLine(_("Enter  find      ^R  regex on/off      Esc  back"))

    def on_mount(self) -> None:
        """What was looked for last is there, to be changed."""
        field = self.query_one(Field)
        field.focus()
        field.action_end()
        self._say_kind()

    def action_regex(self) -> None:
        """Take the text as a regular expression, or literally."""
        self._regex = not self._regex
        self._say_kind()

    def _say_kind(self) -> None:
        if self._regex:
            kind = _("as a regular expression; (?i) before it takes capitals for small letters")
        else:
            kind = _("as it stands: capitals count")
        self.query_one("#find-kind", Static).update(kind)

    @on(Input.Submitted)
    def _accept(self, event: Input.Submitted) -> None:
        from engine.dataset.search import Query

        try:
            self.dismiss(Query(event.value, self._regex))
        except Problem as problem:
            self.query_one(".dialog-wrong", Static).update("\n".join(problem.lines()))


class SearchLine(Reporting, Line):
    """Searches in the background and says how far it is; hidden while nothing is looked for."""

    class Found(Message):
        """There are matches, or more of them, or the search has ended."""

    def __init__(self) -> None:
        super().__init__(id="search")
        self.wanted: Query | None = None
        """What is looked for; None when nothing is."""
        self.matches = array("Q")
        """The rows found so far, in order."""
        self.ended = True
        """Whether the whole file has been looked through."""
        self._worker: Worker[None] | None = None

    def look_for(self, query: Query, dataset: Dataset) -> None:
        """Begin to search all of `dataset`."""
        self.end()
        self.wanted, self.ended = query, False
        self.add_class("-shown")
        self._draw_search("")
        self._worker = self._search(query, dataset)

    def end(self) -> None:
        """Stop, and forget what was found."""
        if self._worker is not None:
            self._worker.cancel()
        self._worker, self.wanted, self.matches, self.ended = None, None, array("Q"), True
        self.remove_class("-shown")

    def on_unmount(self) -> None:
        """A search ends with its line."""
        self.end()

    @work(thread=True, group="search", exit_on_error=False)
    def _search(self, query: Query, dataset: Dataset) -> None:
        from engine.dataset.search import search

        worker, found, told, share = get_current_worker(), array("Q"), 0.0, ""

        def say(done: int, total: int) -> None:
            nonlocal found, told, share
            share = f"{100 * done // total} %" if total else ""
            if time.monotonic() - told > _PAUSE and not worker.is_cancelled:
                told = time.monotonic()
                self.app.call_from_thread(self._take, worker, found, share)
                found = array("Q")

        try:
            for row in search(dataset, query, progress=say, cancelled=lambda: worker.is_cancelled):
                found.append(row)
                if not told:  # the first match is worth a word of its own
                    say(row, 0)
        except Failed:
            return  # cancelled: nobody waits
        if not worker.is_cancelled:
            self.app.call_from_thread(self._take, worker, found, "", True)

    def _take(
        self, worker: Worker[None], found: array[int], share: str, ended: bool = False
    ) -> None:
        if worker is not self._worker:
            return
        self.matches.extend(found)
        self.ended = ended
        self._draw_search(share)
        if found or ended:
            self.post_message(self.Found())

    def _draw_search(self, share: str) -> None:
        if self.wanted is None:
            return
        text = Text.assemble(" /", (one_line(self.wanted.text), "bold"), "  ")
        rows = len(self.matches)
        text.append(ngettext("{count:,} row", "{count:,} rows", rows).format(count=rows))
        if not self.ended:
            text.append(" … " + share)
        elif not rows and not self.wanted.regex and self.wanted.text.swapcase() != self.wanted.text:
            text.append("  " + _("as it stands: capitals count"), style="dim")
        keys = _("n next  N previous  Esc end") if rows or not self.ended else _("Esc end")
        self.say(text, Text(keys + " ", style="dim"))
