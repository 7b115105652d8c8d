"""Which lines of a log are looked for: by level, by rank, by what is written in them.

Both a filter and a search are a `Sieve`: it goes through the file from its end
to its start, a block at a time, and holds what passes all its tests.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Sequence
from typing import Protocol

from engine.run.failures import goes_on, split
from engine.run.levels import HEAD, INNER, RANK, TRACEBACK, Level, level_at
from engine.run.log_file import Block, LogFile

Line = Callable[[int], str]
"""Gives the text of a line by its number."""
_LOOK_BACK = 200
_FAR_BACK = 20_000
"""Lines before a line that may tell what it belongs to."""


class Test(Protocol):
    """What a line must be like."""

    def may(self, raw: bytes) -> bool:
        """Whether a block with these bytes may hold such a line: quick, and wrong only one way."""

    def passes(self, number: int, line: Line) -> bool:
        """Whether line `number` is such a one."""


class OfLevel:
    """Lines of one of these levels; a traceback is an error as a whole."""

    _WORDS = b"WARN Warn ERROR Error CRITICAL FATAL Exception Interrupt Traceback".split()
    _WORDS += (b"Killed", b"Segmentation", b"Last error:")
    _GLOG = re.compile(rb"[WEF]\d{3,4} ")

    def __init__(self, levels: Sequence[Level]) -> None:
        self._levels = levels

    def may(self, raw: bytes) -> bool:
        """Whether any word is in it, or it may begin inside of a traceback."""
        if raw[:1].isspace() or any(word in raw for word in self._WORDS):
            return True
        return self._GLOG.search(raw) is not None

    def passes(self, number: int, line: Line) -> bool:
        """Whether the line's level is wanted."""
        return level_at(number, line, number - _LOOK_BACK) in self._levels


class OfEvaluation:
    """The evaluation chats, with the model's answers, and validation."""

    _HEAD = re.compile(r"Sample output:|in EvaluateChatHook|\(val\)")

    def may(self, raw: bytes) -> bool:
        """Whether an answer is in it, or may go on in it."""
        if b"EvaluateChatHook" in raw or b"Sample output:" in raw or b"(val)" in raw:
            return True
        first, _, _rest = raw.partition(b"\n")
        return HEAD.match(first.decode("utf-8", errors="replace")) is None

    def passes(self, number: int, line: Line) -> bool:
        """Whether the line, or the record that it goes on, is of an evaluation."""
        for before in range(number, number - _LOOK_BACK, -1):
            text = line(before)
            if head := HEAD.match(text):
                # Of a record of one line, what follows is some other program's.
                found = self._HEAD.match(text, head.end()) or self._HEAD.search(text, head.end())
                return found is not None and (before == number or "Sample" in found[0])
        return False


class OfRank:
    """The lines of one rank, where each line names its own."""

    def __init__(self, rank: int) -> None:
        self.rank = rank

    def may(self, raw: bytes) -> bool:
        """Whether its number is in it."""
        return str(self.rank).encode() in raw

    def passes(self, number: int, line: Line) -> bool:
        """Whether the line is that rank's."""
        return rank_of(line(number)) == self.rank


class Holding:
    """Lines with a text in them; capitals count only if the text has any."""

    def __init__(self, wanted: str) -> None:
        self._wanted = wanted
        self._fold = wanted.islower()
        self._raw = wanted.encode()

    def may(self, raw: bytes) -> bool:
        """Whether the text is in it (or hidden in it by escape sequences)."""
        if b"\x1b" in raw or (self._fold and not self._wanted.isascii()):
            return True
        return self._raw in (raw.lower() if self._fold else raw)

    def passes(self, number: int, line: Line) -> bool:
        """Whether the text is in the line."""
        text = line(number)
        return self._wanted in (text.lower() if self._fold else text)


class Sieve:
    """The numbers of the lines of `file` that pass all `tests`, as far as it was gone through.

    `more` reads, and belongs to the thread that reads the file; `numbers` may
    be looked at from any thread: it grows at both ends and is never sorted anew.
    """

    def __init__(self, file: LogFile, tests: Sequence[Test]) -> None:
        self._file = file
        self._tests = tests
        self.numbers: array[int] = array("q")
        self.low = self.high = file.end
        """The lines from `low` up to `high` have been looked at."""

    @property
    def done(self) -> bool:
        """Whether every line has been looked at."""
        file = self._file
        return file.whole and self.low <= file.first and self.high >= file.end

    def more(self) -> bool:
        """Look at what was appended, else at the block before; False when all is done."""
        if self.high < self._file.end:
            self._below()
            return True
        for block in self._file.blocks(self.low - 1, -1):
            if block.first < self.low:
                found = self._passing(block, block.first, self.low)
                if found:
                    self.numbers = found + self.numbers
                self.low = block.first
                return True
        return False

    def _below(self) -> None:
        for block in self._file.blocks(self.high, 1):
            stop = block.first + block.lines
            if stop > self.high:
                self.numbers.extend(self._passing(block, max(block.first, self.high), stop))
                self.high = stop
                return

    def _passing(self, block: Block, start: int, stop: int) -> array[int]:
        """Those of the lines from `start` to `stop`, which lie in `block`."""
        line = self._file.line
        if self._file.text(start) is None:  # not in memory
            raw = self._file.read(block)
            if not all(test.may(raw) for test in self._tests):
                return array("q")
        return array(
            "q",
            [
                number
                for number in range(start, stop)
                if all(test.passes(number, line) for test in self._tests)
            ],
        )


def rank_of(line: str) -> int | None:
    """The rank that a line names as its own, as torchrun and ``srun --label`` mark them."""
    found = RANK.match(line)
    return int(found[1] or found[2]) if found else None


def ranks(file: LogFile) -> list[int]:
    """The ranks named in the lines that are in memory."""
    texts = map(file.text, range(file.first, file.end))
    found = {rank_of(text) for text in texts if text is not None}
    return sorted(rank for rank in found if rank is not None)


def traceback(line: Callable[[int], str | None], number: int) -> list[str]:
    """The traceback that ends last among the lines up to `number`; [] when none is in memory."""
    for start in range(number, number - _FAR_BACK, -1):
        head = line(start)
        if head is None:
            return []
        if TRACEBACK.match(head):
            break
    else:
        return []
    rank = rank_of(head)
    block = [head]
    error: str | None = None
    more: list[str] = []
    for at in range(start + 1, start + _LOOK_BACK):
        text = line(at)
        if text is None:
            break
        if rank_of(text) != rank:  # another rank's line between ours
            continue
        block.append(text)
        if error is not None:
            more.append(split(text)[1])
        elif not INNER.match(text):
            error = text
        if error is not None and not goes_on(error, more):
            break
    return block
