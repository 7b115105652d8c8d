"""Which lines of a log are rows of its view: all of them, or those that a filter lets through."""

from __future__ import annotations

from array import array
from bisect import bisect_left

from engine.run.log_file import LogFile
from engine.run.log_sieve import Sieve


class Rows:
    """The rows as they stood at one moment, while the file goes on."""

    def __init__(self, file: LogFile | None = None, sieve: Sieve | None = None) -> None:
        self._file = file
        self._numbers: array[int] | None = sieve.numbers if sieve is not None else None
        self._first = file.first if file is not None else 0
        self._end = file.end if file is not None else 0
        if self._numbers is not None:
            self._count = len(self._numbers)
        else:  # the unfinished line at the end is a row as well
            self._count = self._end - self._first + bool(file is not None and file.rest)

    def __len__(self) -> int:
        return self._count

    def number(self, row: int) -> int:
        """The number of the line that is row `row`."""
        return self._first + row if self._numbers is None else self._numbers[row]

    def row(self, number: int) -> int:
        """The row of line `number`, or of the next one that is shown."""
        if self._numbers is None:
            return min(max(number - self._first, 0), self._count)
        return bisect_left(self._numbers, number, 0, self._count)

    def text(self, number: int) -> str | None:
        """Line `number`; None when it is not in memory."""
        if self._file is None:
            return None
        text = self._file.text(number)
        return self._file.rest if text is None and number >= self._end else text


def nearest(sieve: Sieve, number: int, step: int) -> int | None:
    """The first line found from `number` on, down (1) or up (-1), going round the ends.

    None while it cannot be told yet, or when nothing is found.
    """
    found = sieve.numbers
    if step > 0:
        at = bisect_left(found, number)
        if at < len(found) and (sieve.low <= number or sieve.done):
            return found[at]
        return found[0] if found and sieve.done else None
    at = bisect_left(found, number + 1) - 1
    if at >= 0:
        return found[at]
    return found[-1] if found and sieve.done else None
