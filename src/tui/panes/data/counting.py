"""Counts the tokens of the rows in view, one after the other, while nobody waits for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from textual.widget import Widget

from engine.errors import Problem
from tui.panes.data.eyes import Eyes
from tui.panes.data.facts import Facts

if TYPE_CHECKING:
    from engine.dataset.reader import Row

Counted = Callable[[int], None]


class Counting:
    """Fills `facts` with token counts by the eyes' tokenizer.

    `want` names the rows in view, again and again; those wanted before are
    forgotten, so that scrolling never leaves a queue behind. The tokenizer's
    process is started by who shows a row, not from here.

    Args:
        host: the widget whose threads are used.
        counted: told of each row that has been counted, on the event loop.
    """

    def __init__(self, host: Widget, eyes: Eyes, facts: Facts, counted: Counted) -> None:
        self._host = host
        self._eyes = eyes
        self._facts = facts
        self._counted = counted
        self._wanted: list[Row] = []
        self._shape = ""
        self._busy = False

    def want(self, rows: list[Row], shape: str) -> None:
        """These are the rows to count now, of a dataset of `shape`."""
        self._shape = shape
        self._wanted = [
            row for row in rows if row.problem is None and self._facts.tokens(row.index) is None
        ]
        if self._wanted and self._eyes.open and shape and not self._busy:
            self._busy = True
            self._host.run_worker(self._run, group="tokens", thread=True, exit_on_error=False)

    def _run(self) -> None:
        asked = self._eyes.wished
        try:
            while self._eyes.open and asked == self._eyes.wished:
                wanted = self._wanted  # another list by the next turn, if other rows are in view
                if not wanted:
                    break
                row = wanted.pop(0)
                tokens = self._count(row)
                self._host.app.call_from_thread(self._keep, asked, row.index, tokens)
        finally:
            self._busy = False

    def _count(self, row: Row) -> int:
        try:
            sample = self._eyes.sample(row.value, self._shape)
        except Problem:  # the row's own view says why it cannot be used
            return 0
        return sample.tokens + sample.cut

    def _keep(self, asked: tuple[str, str, int], row: int, tokens: int) -> None:
        if asked == self._eyes.wished:
            self._facts.counted(row, tokens)
            self._counted(row)
