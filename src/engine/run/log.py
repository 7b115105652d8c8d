"""A log that grows, read line by line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from engine.text import clean

_BAD = re.compile(r" - (?:ERROR|CRITICAL) - |^(?:ERROR|CRITICAL|FATAL)\b|Fatal Python error")
ERROR = re.compile(
    r"^(?:[A-Za-z_][\w.]*)?(?:Error|Exception|Interrupt|Exit|Failure|ArrowInvalid)(?::|$)"
)
"""The line that ends a traceback."""
RANK = re.compile(r"^\[(?:rank)?\d+\]: ?", re.MULTILINE)
"""How torchrun marks the lines of a rank."""
_LONGEST = 10_000
"""Characters of a line that are kept; nobody reads further, and drawing it would stall."""
LONGEST = 256 << 10
"""Bytes of one line that are looked at, its last; a progress bar can go on for days without
an end, and what is no text may have none at all."""


class LogFollower:
    """New lines of a text file since the last look, safe to show.

    A progress bar, which redraws one line with carriage returns, becomes its
    last state. A last line without an end waits until it is whole; `rest`
    gives it when no more will come.
    """

    def __init__(self, path: Path, tail: int | None = None) -> None:
        """`tail`: begin this many bytes before the file's present end (None: at its start)."""
        self.path = path
        self._offset = 0
        self._rest = b""
        self._skip_first = False
        if tail is not None and path.exists():
            self._offset = max(0, path.stat().st_size - tail)
            self._skip_first = self._offset > 0

    def lines(self, limit: int = 4 << 20) -> list[str]:
        """Whole lines that came since the last call; reads at most `limit` bytes."""
        try:
            with self.path.open("rb") as file:
                if file.seek(0, 2) < self._offset:  # truncated or replaced: start over
                    self._offset, self._rest = 0, b""
                file.seek(self._offset)
                data = file.read(limit)
        except OSError:
            return []
        self._offset += len(data)
        *whole, rest = (self._rest + data).split(b"\n")
        self._rest = rest[-LONGEST:]
        if self._skip_first and whole:
            del whole[0]
            self._skip_first = False
        return [shown_line(line) for line in whole]

    def all(self) -> Iterator[str]:
        """Whole lines up to the file's present end."""
        while True:
            before = self._offset
            yield from self.lines()
            if self._offset == before:
                return

    def rest(self) -> str:
        """The last, unfinished line as it stands."""
        return shown_line(self._rest)


def shown_line(raw: bytes) -> str:
    """A line as it is read: clean, and of a progress bar, which redraws itself, the last state."""
    text = raw.decode("utf-8", errors="replace")
    if text.isascii() and text.isprintable() and len(text) <= _LONGEST:
        return text
    text = text.rstrip("\r").rpartition("\r")[2]
    return clean(text if len(text) <= _LONGEST else text[:_LONGEST] + "…")


class ErrorLines:
    """Picks tracebacks and lines of level ERROR out of a log, line by line."""

    def __init__(self) -> None:
        self._inside = False

    def __call__(self, line: str) -> bool:
        """Whether `line`, the next one of the log, belongs to an error."""
        bare = RANK.sub("", line)
        if bare.startswith("Traceback (most recent call last)"):
            self._inside = True
            return True
        if self._inside:
            # The first line that is not indented names the error, and is the last.
            self._inside = not bare or bare[0].isspace()
            return True
        return bool(_BAD.search(bare) or ERROR.match(bare))
