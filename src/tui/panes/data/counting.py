"""Counts the tokens of the rows in view, in one request, while nobody waits for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from textual.widget import Widget

from engine.errors import Problem
from tui.panes.data.eyes import Eyes
from tui.panes.data.facts import Facts

if TYPE_CHECKING:
    from engine.dataset.reader import Row

AT_ONCE = 200_000
"""Characters counted in one request, about: some tenths of a second."""

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
                rows = _some(wanted)
                del wanted[: len(rows)]
                counts = self._count(rows)
                self._host.app.call_from_thread(self._keep, asked, rows, counts)
        finally:
            self._busy = False

    def _count(self, rows: list[Row]) -> list[int]:
        try:
            return self._eyes.tokens([row.value for row in rows], self._shape)
        except Problem:  # the row's own view says what is wrong with the model
            return [0] * len(rows)

    def _keep(self, asked: tuple[str, str, int], rows: list[Row], counts: list[int]) -> None:
        if asked == self._eyes.wished:
            for row, tokens in zip(rows, counts, strict=True):
                self._facts.counted(row.index, tokens)
                self._counted(row.index)


def _some(rows: list[Row]) -> list[Row]:
    """The first of `rows`: all, unless they are large, for the row looked at waits meanwhile."""
    size = 0
    for number, row in enumerate(rows):
        size += _characters(row.value)
        if size > AT_ONCE and number:
            return rows[:number]
    return list(rows)


def _characters(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(map(_characters, value.values()))
    return sum(map(_characters, value)) if isinstance(value, list) else 1
