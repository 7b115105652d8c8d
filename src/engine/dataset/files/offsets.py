"""The lazy index of a text file: where its rows begin, and on which lines."""

from __future__ import annotations

import threading
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from engine.dataset.files import index_cache
from engine.dataset.files.scan import Fault, Scanner
from engine.dataset.files.source import Source

CHUNK = 1 << 18
"""Bytes looked at in one step: few enough for the arrays made of them to stay in the cache."""
WORTH_KEEPING = 1 << 24
"""Bytes: the index of a smaller file is made quicker than it is looked up."""
MARK = 1024
"""The line number of every so many rows is kept; the lines between are counted when asked."""


class Offsets:
    """Row starts of the text in `source`, found as far as they are asked for.

    Safe to use from several threads: one may page while another indexes.
    """

    def __init__(
        self,
        source: Source,
        scanner: Scanner,
        start: int,
        cache: Path | None = None,
        kind: str = "",
    ) -> None:
        """`cache` keeps the index of a large file; `kind` says how its rows are told apart."""
        self.faults: list[Fault] = scanner.faults
        self._source = source
        self._scanner = scanner
        self._read = start
        self._line = 1 + (self._newlines(0, start) if start else 0)
        self._starts: Sequence[int] = array("Q")
        self._marks: Sequence[int] = array("Q")
        self._end: int | None = None
        self._lock = threading.Lock()
        self._cache = cache if source.size >= WORTH_KEEPING else None
        self._key = f"{kind} {source.fingerprint()}" if self._cache is not None else ""
        self._restore()

    @property
    def known(self) -> int:
        """How many rows have been found so far."""
        return len(self._starts)

    @property
    def complete(self) -> bool:
        """Whether the whole file has been looked through."""
        return self._end is not None

    @property
    def done(self) -> int:
        """Bytes of text looked through so far: all of it once `complete`."""
        return self._read

    def reach(self, row: int) -> bool:
        """Look through the file until `row` and its end are known; False when there is none."""
        while self.known <= row + 1 and not self.complete:
            self.advance()
        return row < self.known

    def advance(self) -> bool:
        """Look through one more chunk; False when there was nothing left."""
        with self._lock:
            if self.complete:
                return False
            chunk = self._source.read(self._read, self._read + CHUNK)
            if not chunk:
                self._end = self._scanner.finish()
                self._keep()
                return False
            assert isinstance(self._starts, array)  # a restored index is complete
            starts = self._scanner.feed(chunk)
            self._mark(starts, chunk)
            self._starts.extend(starts)
            self._line += _lines(chunk)
            self._read += len(chunk)
            return True

    def _restore(self) -> None:
        """Take the index from the cache, if it is there."""
        if self._cache is None:
            return
        saved = index_cache.load(self._cache, self._source.path, self._key)
        if saved is not None:
            self._starts, self._marks = saved.starts, saved.marks
            self._end, self._read = saved.end, saved.length
            self.faults = saved.faults

    def _keep(self) -> None:
        """Put the complete index into the cache."""
        if self._cache is None or self._source.fault is not None or self._source.changed():
            return
        assert self._end is not None
        saved = index_cache.Saved(
            self._key, self._end, self._read, self.faults, self._starts, self._marks
        )
        index_cache.save(self._cache, self._source.path, saved)

    def span(self, row: int) -> tuple[int, int]:
        """The bytes of `row`, with what separates it from the next one."""
        start = self._starts[row]
        if row + 1 < len(self._starts):
            return start, self._starts[row + 1]
        return start, self._end if self._end is not None else self._read

    def read(self, start: int, end: int) -> bytes:
        """The text's bytes from `start` to `end`."""
        return self._source.read(start, end)

    def spans(
        self, first: int = 0, last: int | None = None, longest: int | None = None
    ) -> Iterator[tuple[int, bytes]]:
        """Rows from `first` up to `last` with their separators, read in large pieces.

        Of a row of more than `longest` bytes only so many are read, and one more.
        """
        row = first
        while (last is None or row < last) and self.reach(row):
            begin = self._starts[row]
            until = self.known if self.complete else self.known - 1
            until = min(until, self._near(begin + CHUNK, row) + 1)
            until = until if last is None else min(until, last)
            end = self.span(until - 1)[1]
            if longest is not None and until == row + 1:
                end = min(end, begin + longest + 1)
            block = self.read(begin, end)
            if until == row + 1:
                yield row, block  # not a copy: it may be large
                row = until
                continue
            for index in range(row, until):
                start, end = self.span(index)
                yield index, block[start - begin : end - begin]
            row = until

    def _near(self, offset: int, row: int) -> int:
        """The last row that ends before `offset`, at least `row`."""
        return max(row, bisect_right(self._starts, offset, lo=row) - 2)

    def line(self, row: int) -> int:
        """The line, from 1, on which `row` begins."""
        marked = row // MARK * MARK
        return self._marks[row // MARK] + self._newlines(self._starts[marked], self._starts[row])

    def _mark(self, starts: array[int], chunk: bytes) -> None:
        """Note the lines of every `MARK`th of the rows found in `chunk`, at `_read`."""
        assert isinstance(self._marks, array)
        counted, line = self._read, self._line
        for start in starts[-len(self._starts) % MARK :: MARK]:
            if start < counted:  # a number or a text that began in the chunk before
                line -= self._newlines(start, counted)
            else:
                line += chunk.count(b"\n", counted - self._read, start - self._read)
            counted = start
            self._marks.append(line)

    def row_at(self, offset: int) -> int:
        """The row that holds `offset`, or the last one before it; -1 before the first."""
        return bisect_right(self._starts, offset) - 1

    def line_at(self, offset: int) -> int:
        """The line, from 1, of the byte at `offset` (which has been looked through)."""
        row = self.row_at(offset)
        if row < 0:
            return 1 + self._newlines(0, offset)
        return self.line(row) + self._newlines(self._starts[row], offset)

    def _newlines(self, start: int, end: int) -> int:
        return sum(
            self.read(at, min(at + CHUNK, end)).count(b"\n") for at in range(start, end, CHUNK)
        )


def _lines(chunk: bytes) -> int:
    """Line breaks in `chunk`; three times as fast as counting them in the bytes."""
    import numpy as np

    return int(np.count_nonzero(np.frombuffer(chunk, dtype=np.uint8) == 10))


Progress = Callable[[int, int], None]
Cancelled = Callable[[], bool]
