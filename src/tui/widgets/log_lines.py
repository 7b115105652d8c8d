"""The last lines of a log, some of which are shown. No screen here."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Literal

from engine.text import clean
from tui.widgets.levels import Level, level_at

Only = Literal["all", "warnings", "errors"]
_LEVELS: dict[str, tuple[Level, ...]] = {"warnings": ("warning", "error"), "errors": ("error",)}
_LONGEST = 10_000
"""Characters of a line that are kept; nobody reads further, and drawing it would stall."""


class LogLines:
    """A ring of `limit` lines.

    A line has a *number*, which never changes while it is kept, and, if the
    filter lets it through, an *index* among the shown lines, counted from 0.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.only: Only = "all"
        self._lines: deque[str] = deque(maxlen=limit)
        self._first = 0  # number of the oldest line kept
        self._passed: deque[int] = deque()  # numbers that the filter lets through

    def __len__(self) -> int:
        return len(self._lines) if self.only == "all" else len(self._passed)

    def append(self, lines: Sequence[str]) -> tuple[list[str], int]:
        """Add lines; the oldest go where there are more than `limit`.

        Returns:
            The lines as they are kept, and how many shown lines were dropped.
        """
        shown_before = len(self)
        kept = [tidy(line) for line in lines[-self.limit :]]
        end = self._first + len(self._lines) + len(lines)
        self._lines.extend(kept)
        self._first = end - len(self._lines)
        if self.only == "all":
            return kept, max(shown_before + len(lines) - len(self._lines), 0)
        dropped = 0
        while self._passed and self._passed[0] < self._first:
            self._passed.popleft()
            dropped += 1
        self._passed.extend(self._passing(range(end - len(kept), end)))
        return kept, dropped

    def clear(self) -> None:
        """Forget all lines; the filter stays."""
        self._first += len(self._lines)
        self._lines.clear()
        self._passed.clear()

    def show_only(self, only: Only) -> None:
        """Show all lines, or warnings and errors, or errors."""
        self.only = only
        numbers = range(self._first, self._first + len(self._lines))
        self._passed = deque() if only == "all" else deque(self._passing(numbers))

    def number(self, index: int) -> int:
        """The number of the shown line `index`."""
        return self._first + index if self.only == "all" else self._passed[index]

    def index(self, number: int) -> int:
        """The index of line `number`, or of the next one that is shown."""
        if self.only == "all":
            return min(max(number - self._first, 0), len(self._lines))
        return bisect_left(self._passed, number)

    def text(self, index: int) -> str:
        """The shown line `index`."""
        return self._line(self.number(index))

    def level(self, index: int) -> Level:
        """The level of the shown line `index`."""
        return level_at(self.number(index), self._line, self._first)

    def count(self, wanted: str) -> int:
        """How many shown lines hold `wanted` (see `holds`)."""
        fold = wanted.islower()
        if self.only == "all":
            return sum(wanted in (line.lower() if fold else line) for line in self._lines)
        return sum(holds(self._line(number), wanted) for number in self._passed)

    def find(self, wanted: str, start: int, step: int) -> int | None:
        """The first shown line with `wanted` from index `start` on, going round the ends.

        Args:
            wanted: see `holds`.
            start: where to look first; may lie one outside.
            step: 1 goes down, -1 up.
        """
        count = len(self)
        for distance in range(count):
            index = (start + distance * step) % count
            if holds(self.text(index), wanted):
                return index
        return None

    def _line(self, number: int) -> str:
        return self._lines[number - self._first]

    def _passing(self, numbers: range) -> Iterable[int]:
        wanted = _LEVELS[self.only]
        return [n for n in numbers if level_at(n, self._line, self._first) in wanted]


def holds(line: str, wanted: str) -> bool:
    """Whether `wanted` is in `line`; capitals count only if `wanted` has any."""
    return wanted in (line.lower() if wanted.islower() else line)


def tidy(line: str) -> str:
    """An outside line as it is kept: clean, without what a progress bar overwrote."""
    if line.isascii() and line.isprintable() and len(line) <= _LONGEST:
        return line
    line = line.rstrip("\r\n").rpartition("\r")[2].replace("\n", "⏎")
    return clean(line if len(line) <= _LONGEST else line[:_LONGEST] + "…")
