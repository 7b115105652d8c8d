"""Where the elements of a JSON array begin."""

from __future__ import annotations

import re
from array import array
from typing import Any

from engine.dataset.files.scan import MAX_FAULTS, Fault, offsets
from engine.i18n import N_

_SPACE = b" \t\r\n"
_QUOTE, _BACKSLASH, _COMMA = 34, 92, 44
_LONGEST_PLAIN_GAP = 64


class ArrayScanner:
    """A JSON array: every element is a row.

    A row ends where its brackets are closed; whether it is right JSON inside is
    not asked here. Brackets and quotes, the rows' edges and the plain gaps
    between rows (a comma and spaces) are found with numpy; any other gap is read
    token by token.
    """

    _GAP = re.compile(rb'[ \t\r\n]+|,|"[^"\\]*(?:\\.[^"\\]*)*"|"|[^ \t\r\n,"]+', re.S)
    _WORD = re.compile(rb'[^ \t\r\n,"\[\]{}]*')

    def __init__(self, start: int = 0) -> None:
        """`start` is the offset of the array's opening bracket."""
        self.faults: list[Fault] = []
        self._at = start
        self._escaping = False  # the last byte was a backslash that escapes the next one
        self._in_string = False
        self._depth = 0
        self._cut = ""  # "string" or "word": a bare row that the chunk's edge cuts in two
        self._want_comma = False
        self._after_comma = False
        self._end: int | None = None
        self._room: Any = None

    def feed(self, chunk: bytes) -> array[int]:
        """See `Scanner`."""
        import numpy as np

        data = np.frombuffer(chunk, dtype=np.uint8)
        quotes = self._quotes(chunk, data)
        free = self._free(chunk, quotes)
        places, signs = self._brackets(data, quotes)
        depths = np.cumsum(signs, dtype=np.int64) + self._depth
        # A row's first bracket takes the depth from 1 to 2, its last one back to 1.
        edges = np.flatnonzero((depths <= 1) | ((depths == 2) & (signs > 0)))
        self._depth = int(depths[-1]) if len(depths) else self._depth
        starts = array("Q")
        self._edges(chunk, data, places[edges], depths[edges], signs[edges], free, starts)
        self._at += len(chunk)
        return starts

    def _rooms(self, size: int) -> Any:
        """Four arrays of `size` bytes, the same ones again and again.

        New ones of this size come straight from the system, and making their
        pages takes longer than everything that is done with them.
        """
        import numpy as np

        if self._room is None or self._room.shape[1] < size:
            self._room = np.empty((4, size), dtype=np.uint8)
        return self._room[:, :size]

    def _brackets(self, data: Any, quotes: Any) -> tuple[Any, Any]:
        """The brackets outside of strings: their places, and 1 for opening, -1 for closing."""
        import numpy as np

        low, wanted, other = self._rooms(len(data))[1:]
        np.bitwise_or(data, 0x20, out=low)  # makes [ and { alike, ] and } too
        wanted, other = wanted.view(bool), other.view(bool)
        np.equal(low, 0x7B, out=wanted)
        np.equal(low, 0x7D, out=other)
        wanted |= other
        wanted |= quotes
        places = np.flatnonzero(wanted)
        kinds = data[places]
        quote = kinds == _QUOTE
        inside = np.cumsum(quote, dtype=np.uint8)
        inside += self._in_string
        inside &= 1
        if len(inside):
            self._in_string = bool(inside[-1])
        keep = np.flatnonzero((inside | quote) == 0)
        return places[keep], 3 - (kinds[keep] >> 1 & 3).astype(np.int8) * 2

    def _quotes(self, chunk: bytes, data: Any) -> Any:
        """A mask of the quotes that no backslash escapes."""
        import numpy as np

        quotes, behind = (room.view(bool) for room in self._rooms(len(data))[:2])
        np.equal(data, _QUOTE, out=quotes)
        behind = np.equal(data[:-1], _BACKSLASH, out=behind[:-1])
        behind &= quotes[1:]
        escaped = np.flatnonzero(behind) + 1
        quotes[escaped] = False
        carried, run = self._escaping, _run(chunk, len(chunk))
        self._escaping = bool((run + (carried and run == len(chunk))) & 1)
        if carried and quotes[0]:
            quotes[0] = False
        # Of several backslashes in a row each second one is escaped itself.
        for place in escaped[(escaped < 2) | (data[escaped - 2] == _BACKSLASH)].tolist():
            run = _run(chunk, place)
            quotes[place] = not (run + (carried and run == place)) & 1
        return quotes

    def _free(self, chunk: bytes, quotes: Any) -> int | None:
        """Where the text outside of rows begins in `chunk`; None when a row goes on."""
        import numpy as np

        if self._depth > 1:
            return None
        if self._cut == "word":
            word = self._WORD.match(chunk)
            end = word.end() if word else 0
            self._cut = "word" if end == len(chunk) else ""
            return end
        if self._cut == "string":
            closing = np.flatnonzero(quotes)[:1].tolist()
            self._cut = "" if closing else "string"
            return closing[0] + 1 if closing else len(chunk)
        return 0

    # -- edges ----------------------------------------------------------------

    def _edges(
        self,
        chunk: bytes,
        data: Any,
        places: Any,
        depths: Any,
        signs: Any,
        free: int | None,
        starts: array[int],
    ) -> None:
        """Note the rows that begin at these edges, and read what stands between them."""
        import numpy as np

        begins = (depths == 2) & (signs > 0)
        plain = self._plain(data, places, depths, begins)
        odd = np.flatnonzero(~plain & (begins | (depths != 1) | (signs > 0)))
        done = 0
        for index in odd.tolist():
            self._many(places[done:index][begins[done:index]], starts)
            if index > done:
                free = None if begins[index - 1] else int(places[index - 1]) + 1
            place = int(places[index])
            if free is not None:
                self._between(chunk, free, place, starts)
            free = self._edge(place, int(depths[index]), chunk, starts)
            done = index + 1
        self._many(places[done:][begins[done:]], starts)
        if len(places) > done:
            free = None if begins[-1] else int(places[-1]) + 1
        if free is not None:
            self._between(chunk, free, None, starts)

    def _plain(self, data: Any, places: Any, depths: Any, begins: Any) -> Any:
        """Which rows begin behind a row, a comma and spaces."""
        import numpy as np

        plain = np.zeros(len(places), dtype=bool)
        if self._end is not None or len(places) < 2 or int(depths.min()) <= 0:
            return plain
        behind = np.flatnonzero(begins[1:] & ~begins[:-1] & (depths[:-1] == 1)) + 1
        first, length = places[behind - 1] + 1, places[behind] - places[behind - 1] - 1
        fine = (length > 0) & (length <= _LONGEST_PLAIN_GAP) & (data[first] == _COMMA)
        for step in range(1, int(length[fine].max()) if fine.any() else 0):
            longer = np.flatnonzero(fine & (length > step))
            byte = data[first[longer] + step]
            fine[longer] = (byte == 32) | (byte == 10) | (byte == 13) | (byte == 9)
        plain[behind] = fine
        return plain

    def _many(self, places: Any, starts: array[int]) -> None:
        """Rows that begin behind plain gaps."""
        if len(places):
            starts.extend(offsets(places, self._at))
            self._want_comma, self._after_comma = True, False

    def _edge(self, place: int, depth: int, chunk: bytes, starts: array[int]) -> int | None:
        """One edge out of the ordinary; where the text outside of rows begins behind it."""
        if depth == 2:
            self._value(self._at + place, starts)
            return None
        if depth == 0 and self._end is None:
            self._close(self._at + place, chunk[place : place + 1])
        elif depth < 0:
            self._fault(self._at + place, N_("a bracket that closes nothing"))
        return place + 1

    def _close(self, offset: int, bracket: bytes) -> None:
        self._end = offset
        if bracket != b"]":
            self._fault(offset, N_("a } where the array's ] should stand"))
        if self._after_comma:
            self._fault(offset, N_("a comma with no row behind it"))

    # -- gaps -----------------------------------------------------------------

    def _between(self, chunk: bytes, begin: int, end: int | None, starts: array[int]) -> None:
        """Read the text outside of rows: commas, and rows that are no object or array.

        Without `end` the text goes up to the chunk's end, which may cut a row in two.
        """
        for token in self._GAP.finditer(chunk, begin, len(chunk) if end is None else end):
            self._token(token[0], self._at + token.start(), starts)
            if end is None and token.end() == len(chunk) and token[0][0] not in b' \t\r\n,"':
                self._cut = "word"
            elif token[0] == b'"':
                self._cut = "string"
                return

    def _token(self, token: bytes, offset: int, starts: array[int]) -> None:
        if token[0] in _SPACE:
            return
        if token != b",":
            self._value(offset, starts)
        elif self._want_comma and self._end is None:
            self._want_comma, self._after_comma = False, True
        else:
            self._fault(offset, N_("a comma that separates nothing"))

    def _value(self, offset: int, starts: array[int]) -> None:
        if self._end is not None:
            self._fault(offset, N_("text behind the end of the array"))
            return
        if self._want_comma:
            self._fault(offset, N_("a comma is missing between two rows"))
        starts.append(offset)
        self._want_comma, self._after_comma = True, False

    def _fault(self, offset: int, reason: str) -> None:
        if len(self.faults) < MAX_FAULTS:
            self.faults.append((offset, reason))

    def finish(self) -> int:
        """See `Scanner`."""
        if self._end is None:
            self._fault(self._at, N_("the file ends before the array is closed"))
            return self._at
        return self._end


def _run(chunk: bytes, end: int) -> int:
    """How many backslashes stand before `end`."""
    place = end
    while place and chunk[place - 1] == _BACKSLASH:
        place -= 1
    return end - place
