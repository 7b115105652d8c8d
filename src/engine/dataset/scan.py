"""Where the rows of a text file begin, found chunk by chunk without decoding them.

A scanner is fed the file in order and gives back the byte offsets of the rows
that begin in each chunk. It remembers only what crosses a chunk's edge, so that
memory does not grow with the file or with a row.
"""

from __future__ import annotations

import re
from typing import Protocol

from engine.i18n import N_

Fault = tuple[int, str]
"""Something wrong between the rows: its byte offset and the reason (to be translated)."""

MAX_FAULTS = 100
_SPACE = b" \t\r\n"


class Scanner(Protocol):
    """Finds row starts in one format."""

    faults: list[Fault]

    def feed(self, chunk: bytes) -> list[int]:
        """The offsets of the rows that begin in `chunk`, the next bytes of the file."""

    def finish(self) -> int:
        """The file has ended: the offset behind the last row."""


class LinesScanner:
    """JSON Lines: every line that is not blank is a row."""

    _FIRST = re.compile(rb"[^\n]*\n?")
    _ROW = re.compile(rb"[^ \t\r\n][^\n]*")

    def __init__(self, start: int = 0) -> None:
        """`start` is the offset of the first byte that will be fed (behind a BOM)."""
        self.faults: list[Fault] = []
        self._at = start
        self._in_row = False

    def feed(self, chunk: bytes) -> list[int]:
        """See `Scanner`."""
        begin = 0
        if self._in_row:
            first = self._FIRST.match(chunk)
            begin = first.end() if first else 0
            self._in_row = not chunk[:begin].endswith(b"\n")
        starts = [self._at + row.start() for row in self._ROW.finditer(chunk, begin)]
        if starts and not chunk.endswith(b"\n"):
            last_line = chunk.rfind(b"\n") + 1
            self._in_row = starts[-1] - self._at >= last_line
        self._at += len(chunk)
        return starts

    def finish(self) -> int:
        """See `Scanner`."""
        return self._at


class ArrayScanner:
    """A JSON array: every element is a row.

    Brackets and quotes are found with numpy; Python looks only at the places
    where a row begins or ends. Whether a row is right JSON inside is not asked
    here: a row ends where its brackets are closed.
    """

    _GAP = re.compile(rb'[ \t\r\n]+|,|"[^"\\]*(?:\\.[^"\\]*)*"|"|[^ \t\r\n,"]+', re.S)

    def __init__(self, start: int = 0) -> None:
        """`start` is the offset of the array's opening bracket."""
        self.faults: list[Fault] = []
        self._at = start
        self._held = b""  # a lone backslash at a chunk's end: what it escapes is yet to come
        self._in_string = False
        self._depth = 0
        self._gap = b""  # what has been read since the last row (or bracket) ended
        self._gap_at = start
        self._want_comma = False
        self._after_comma = False
        self._end: int | None = None

    def feed(self, chunk: bytes) -> list[int]:
        """See `Scanner`."""
        import numpy as np

        chunk = self._held + chunk
        plain = chunk.replace(b"\\\\", b"__").replace(b'\\"', b"__")
        self._held = b"\\" if plain.endswith(b"\\") else b""
        if self._held:
            chunk, plain = chunk[:-1], plain[:-1]
        kinds = np.frombuffer(plain.translate(_KINDS), dtype=np.int8)
        places = np.flatnonzero(kinds)
        kinds = kinds[places]
        quotes = kinds == _QUOTE
        inside = (np.cumsum(quotes) + self._in_string) & 1
        self._in_string = bool(inside[-1]) if len(inside) else self._in_string
        keep = (inside == 0) & ~quotes
        places, kinds = places[keep], kinds[keep]
        depths = np.cumsum(kinds, dtype=np.int64) + self._depth
        # A row's first bracket takes the depth from 1 to 2, its last one back to 1.
        edges = (depths <= 1) | ((depths == 2) & (kinds > 0))
        before = self._depth
        self._depth = int(depths[-1]) if len(depths) else before
        starts = self._rows(chunk, places[edges].tolist(), depths[edges].tolist(), before)
        self._at += len(chunk)
        return starts

    def _rows(self, chunk: bytes, places: list[int], depths: list[int], before: int) -> list[int]:
        """The rows that begin at these edges; the gaps between them are looked through."""
        starts: list[int] = []
        free = 0 if before <= 1 else None  # where the text outside of rows begins
        for place, depth in zip(places, depths, strict=True):
            if depth == 2:
                self._between(chunk[free:place], starts, whole=True)
                self._value(self._at + place, starts)
                free = None
                continue
            if free is not None:
                self._between(chunk[free:place], starts, whole=True)
            free = place + 1
            self._gap_at = self._at + free
            if depth == 0 and self._end is None:
                self._close(self._at + place, chunk[place : place + 1])
            elif depth < 0:
                self._fault(self._at + place, N_("a bracket that closes nothing"))
        if free is not None:
            self._between(chunk[free:], starts, whole=False)
        return starts

    def _close(self, offset: int, bracket: bytes) -> None:
        self._end = offset
        if bracket != b"]":
            self._fault(offset, N_("a } where the array's ] should stand"))
        if self._after_comma:
            self._fault(offset, N_("a comma with no row behind it"))

    def _value(self, offset: int, starts: list[int]) -> None:
        if self._end is not None:
            self._fault(offset, N_("text behind the end of the array"))
            return
        if self._want_comma:
            self._fault(offset, N_("a comma is missing between two rows"))
        starts.append(offset)
        self._want_comma, self._after_comma = True, False

    def _between(self, text: bytes, starts: list[int], whole: bool) -> None:
        """Read the text outside of rows: commas, and rows that are no object or array."""
        text = self._gap + text
        self._gap = b""
        if whole and self._want_comma and text.strip(_SPACE) == b",":
            self._want_comma, self._after_comma = False, True  # as nearly always
            return
        done = 0
        for token in self._GAP.finditer(text):
            if not whole and (token[0] == b'"' or (token.end() == len(text) and token[0] != b",")):
                break  # it may go on in the next chunk
            done = token.end()
            self._gap_token(token[0], self._gap_at + token.start(), starts)
        self._gap = text[done:]
        self._gap_at += done

    def _gap_token(self, token: bytes, offset: int, starts: list[int]) -> None:
        if token[0] in _SPACE:
            return
        if token != b",":
            self._value(offset, starts)
        elif self._want_comma and self._end is None:
            self._want_comma, self._after_comma = False, True
        else:
            self._fault(offset, N_("a comma that separates nothing"))

    def _fault(self, offset: int, reason: str) -> None:
        if len(self.faults) < MAX_FAULTS:
            self.faults.append((offset, reason))

    def finish(self) -> int:
        """See `Scanner`."""
        starts: list[int] = []
        self._between(b"", starts, whole=True)
        if self._end is None:
            self._fault(self._at, N_("the file ends before the array is closed"))
            return self._at
        return self._end


_QUOTE = 2
_KINDS = bytes(
    {ord('"'): _QUOTE, ord("["): 1, ord("{"): 1, ord("]"): 255, ord("}"): 255}.get(byte, 0)
    for byte in range(256)
)
