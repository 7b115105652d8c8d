"""A log of any size, line by line, read from its end and no further than somebody looks.

A *block* is some 64 kB of whole lines; of each only its place and the number
of its lines are kept. The lines themselves are read when they are wanted, and
those of the newest blocks stay, so that a log of 300 MB costs a few MB.

Lines have numbers, which never change: 0 is the first one that was read at
opening, the earlier ones are negative, as they become known.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

from engine.run.log import LONGEST, shown_line

TAIL = 256 << 10
"""Bytes that are read at opening."""
_BLOCK = 64 << 10
_KEPT = 64
"""Blocks whose lines stay in memory."""
_CHUNK = 1 << 20
"""Bytes that are read at once when the file is gone through."""

Change = Literal["same", "more", "anew", "gone"]


class Block(NamedTuple):
    """Whole lines that lie together."""

    start: int
    """Offset in the file."""
    stop: int
    first: int
    """Number of its first line."""
    lines: int
    """How many."""


class LogFile:
    """The log at `path`.

    One thread may read (`grow`, `before`, `load` and all that goes through the
    file); any other may ask for what is known (`first`, `end`, `text`). What
    reads may take its time; the rest answers at once.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rest = ""
        """The last line as it stands, while it has no end: a progress bar, as a rule."""
        self.epoch = 0
        """How often the numbers began again: the file was cut short or replaced."""
        self._lock = threading.Lock()
        self._blocks: list[Block] = []
        self._firsts: list[int] = []
        self._texts: OrderedDict[int, list[str]] = OrderedDict()
        self._identity: tuple[int, int] | None = None
        self._raw_rest = b""
        self.behind = False
        """Whether the last look left something for the next: so much was appended."""
        self._read_to = 0
        self._rest_from = 0
        self._start = 0

    # What any thread may ask

    @property
    def first(self) -> int:
        """Number of the earliest line known."""
        with self._lock:
            return self._firsts[0] if self._firsts else 0

    @property
    def end(self) -> int:
        """Number after the last whole line."""
        with self._lock:
            return self._blocks[-1].first + self._blocks[-1].lines if self._blocks else 0

    @property
    def whole(self) -> bool:
        """Whether the file is known from its start on."""
        return self._start == 0

    def text(self, number: int) -> str | None:
        """Line `number`, safe to show; None when it is not in memory."""
        with self._lock:
            block = self._block(number)
            lines = self._texts.get(block.start) if block is not None else None
            at = number - block.first if block is not None else 0
            return lines[at] if lines is not None and at < len(lines) else None

    def _block(self, number: int) -> Block | None:
        at = bisect_right(self._firsts, number) - 1
        if at < 0 or number >= self._blocks[at].first + self._blocks[at].lines:
            return None
        return self._blocks[at]

    # What reads

    def grow(self) -> Change:
        """Read what has been appended since the last look, a MB at most.

        Returns:
            "same", "more", "anew" (cut
            short or replaced: numbers begin again) or "gone" (what was read
            stays known).
        """
        try:
            status = self.path.stat()
            identity = (status.st_dev, status.st_ino)
            anew = identity != self._identity or status.st_size < self._read_to
            if not anew and status.st_size == self._read_to:
                return "same"
            with self.path.open("rb") as file:
                if anew:
                    self._begin(file, identity, status.st_size)
                file.seek(self._read_to)
                data = file.read(_CHUNK)
            self.behind = status.st_size > self._read_to + len(data)
        except OSError:
            return "gone"
        self._take(data)
        return "anew" if anew else "more"

    def _begin(self, file: BinaryIO, identity: tuple[int, int], size: int) -> None:
        self.epoch += self._identity is not None
        self._identity = identity
        self._start = self._read_to = max(size - TAIL, 0)
        if self._start:  # begin with a whole line
            file.seek(self._start)
            if cut := file.read(TAIL).find(b"\n") + 1:
                self._start = self._read_to = self._start + cut
            else:  # of one that is longer the end is read, and it is known where it begins
                self._start = _beginning(file, self._start)
        self._rest_from = self._start
        self._raw_rest, self.rest = b"", ""
        with self._lock:
            self._blocks, self._firsts = [], []
            self._texts.clear()

    def _take(self, data: bytes) -> None:
        self._read_to += len(data)
        data = self._raw_rest + data
        begin = self._read_to - len(data)  # of what is in hand; a long rest was cut at its front
        whole = data.rfind(b"\n") + 1
        for start, stop, count in _pieces(data[:whole]):
            self._append(self._rest_from, begin + stop, count, data[start:stop])
            self._rest_from = begin + stop
        self._raw_rest = data[whole:][-LONGEST:]
        self.rest = shown_line(self._raw_rest)

    def _append(self, start: int, stop: int, count: int, raw: bytes) -> None:
        lines = _lines(raw)
        with self._lock:
            last = self._blocks[-1] if self._blocks else None
            if last is not None and stop - last.start <= _BLOCK:
                self._blocks[-1] = Block(last.start, stop, last.first, last.lines + count)
                if last.start in self._texts:
                    self._texts[last.start].extend(lines)
                return
            first = last.first + last.lines if last is not None else 0
            self._blocks.append(Block(start, stop, first, count))
            self._firsts.append(first)
            self._keep(start, lines)

    def before(self) -> bool:
        """Get to know a MB of earlier lines; False when the file's start is known already."""
        stop = self._start
        if not stop:
            return False
        start = max(stop - _CHUNK, 0)
        with self.path.open("rb") as file:
            file.seek(start)
            data = file.read(stop - start)
            cut = data.find(b"\n", 0, -1) + 1 if start else 0
            if start and not cut:  # a line that is longer: it has a block of its own
                start = _beginning(file, start)
                pieces = [(0, stop - start, 1)]
            else:
                start += cut
                pieces = list(_pieces(data[cut:]))
        with self._lock:
            first = (self._firsts[0] if self._firsts else 0) - sum(count for *_, count in pieces)
            blocks = []
            for begin, end, count in pieces:
                blocks.append(Block(start + begin, start + end, first, count))
                first += count
            self._blocks = blocks + self._blocks
            self._firsts = [block.first for block in blocks] + self._firsts
            self._start = start
        return True

    def load(self, number: int) -> bool:
        """Bring line `number` and its neighbours into memory; False when there is none."""
        with self._lock:
            block = self._block(number)
            if block is None or block.start in self._texts:
                return block is not None
        raw = self.read(block)
        with self._lock:
            if self._block(number) == block:
                self._keep(block.start, _lines(raw))
        return True

    def read(self, block: Block) -> bytes:
        """The bytes of a block; of a line that is longer than any block only the end."""
        with self.path.open("rb") as file:
            file.seek(max(block.start, block.stop - LONGEST))
            return file.read(min(block.stop - block.start, LONGEST))

    def line(self, number: int) -> str:
        """Line `number`, from memory or from the file; "" when there is none."""
        text = self.text(number)
        if text is None and self.load(number):
            text = self.text(number)
        return text or ""

    def blocks(self, number: int, step: int) -> Iterator[Block]:
        """The blocks from the one of line `number` on, down (1) or up (-1).

        Upwards it goes on into what was not known yet, to the file's start.
        """
        with self._lock:
            at = min(max(bisect_right(self._firsts, number) - 1, 0), len(self._blocks) - 1)
        while True:
            if at < 0:
                known = len(self._blocks)
                if not known or not self.before():
                    return
                at += len(self._blocks) - known
            with self._lock:
                if not 0 <= at < len(self._blocks):
                    return
                block = self._blocks[at]
            yield block
            with self._lock:  # blocks may have come before it meanwhile
                at = bisect_right(self._firsts, block.first) - 1 + step

    def _keep(self, start: int, lines: list[str]) -> None:
        self._texts[start] = lines
        self._texts.move_to_end(start)
        while len(self._texts) > _KEPT:
            self._texts.popitem(last=False)


def _beginning(file: BinaryIO, inside: int) -> int:
    """Where the line begins that goes on at `inside`."""
    while inside:
        start = max(inside - _CHUNK, 0)
        file.seek(start)
        if at := file.read(inside - start).rfind(b"\n") + 1:
            return start + at
        inside = start
    return 0


def _pieces(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(start, stop, lines) of pieces of `data`, which are whole lines, each about a block long."""
    start = 0
    while start < len(data):
        stop = data.rfind(b"\n", start, start + _BLOCK) + 1
        if stop == 0:  # a line that is longer than a block has one of its own
            stop = data.find(b"\n", start) + 1
        yield start, stop, data.count(b"\n", start, stop)
        start = stop


def _lines(raw: bytes) -> list[str]:
    """The lines of a block, safe to show."""
    return [shown_line(line) for line in raw[:-1].split(b"\n")]
