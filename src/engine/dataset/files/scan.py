"""Where the rows of a text file begin, found chunk by chunk without decoding them.

A scanner is fed the file in order and gives back the byte offsets of the rows
that begin in each chunk. It remembers only what crosses a chunk's edge, so that
memory does not grow with the file or with a row. Bytes are looked at with numpy;
Python sees only the places where something is out of the ordinary.
"""

from __future__ import annotations

import re
from array import array
from typing import Any, Protocol

Fault = tuple[int, str]
"""Something wrong between the rows: its byte offset and the reason (to be translated)."""

MAX_FAULTS = 100


class Scanner(Protocol):
    """Finds row starts in one format."""

    faults: list[Fault]

    def feed(self, chunk: bytes) -> array[int]:
        """The offsets of the rows that begin in `chunk`, the next bytes of the file."""

    def finish(self) -> int:
        """The file has ended: the offset behind the last row."""


def offsets(places: Any, base: int) -> array[int]:
    """`places` (a numpy array of integers) counted from `base`, as a scanner gives them."""
    import numpy as np

    return array("Q", (places + base).astype(np.uint64).tobytes())


class LinesScanner:
    """JSON Lines: every line that is not blank is a row."""

    _BLANKS = re.compile(rb"[ \t\r]*")

    def __init__(self, start: int = 0) -> None:
        """`start` is the offset of the first byte that will be fed (behind a BOM)."""
        self.faults: list[Fault] = []
        self._at = start
        self._at_line_start = True  # nothing but spaces since the last line break

    def feed(self, chunk: bytes) -> array[int]:
        """See `Scanner`."""
        import numpy as np

        data = np.frombuffer(chunk, dtype=np.uint8)
        starts = np.flatnonzero(data == 10) + 1
        if self._at_line_start:
            starts = np.concatenate(([0], starts))
        self._at_line_start = len(starts) > 0 and int(starts[-1]) == len(chunk)
        starts = starts[:-1] if self._at_line_start else starts
        first = data[starts]
        if (first <= 32).any():
            starts = self._without_blank(chunk, starts, first)
        found = offsets(starts, self._at)
        self._at += len(chunk)
        return found

    def _without_blank(self, chunk: bytes, starts: Any, first: Any) -> Any:
        """`starts` moved behind the spaces of their lines, blank lines left out."""
        import numpy as np

        starts, first = starts[first != 10], first[first != 10]
        kept = []
        for index in np.flatnonzero(np.isin(first, list(b" \t\r"))).tolist():
            blanks = self._BLANKS.match(chunk, int(starts[index]))
            starts[index] = blanks.end() if blanks else starts[index]
            if starts[index] == len(chunk):
                self._at_line_start = True
                kept.append(index)
            elif chunk[starts[index]] == 10:
                kept.append(index)
        return np.delete(starts, kept)

    def finish(self) -> int:
        """See `Scanner`."""
        return self._at


class TextScanner:
    """Plain text: every line is a row, ended by ``\\n``, ``\\r\\n`` or ``\\r``."""

    def __init__(self, start: int = 0) -> None:
        """`start` is the offset of the first byte that will be fed (behind a BOM)."""
        self.faults: list[Fault] = []
        self._at = start
        self._ended = True  # a line has just ended; a row begins if there is anything more
        self._return = False  # with ``\r``: a ``\n`` still belongs to it

    def feed(self, chunk: bytes) -> array[int]:
        """See `Scanner`."""
        import numpy as np

        data = np.frombuffer(chunk, dtype=np.uint8)
        ends = data == 10
        if b"\r" in chunk:
            returns = data == 13
            returns[:-1] &= ~ends[1:]
            ends = ends | returns
        starts = np.flatnonzero(ends) + 1
        if self._ended:
            begin = int(self._return and chunk[0] == 10)
            starts = np.concatenate(([begin], starts[1:] if begin else starts))
        self._ended = len(starts) > 0 and int(starts[-1]) == len(chunk)
        self._return = chunk[-1] == 13
        starts = starts[:-1] if self._ended else starts
        found = offsets(starts, self._at)
        self._at += len(chunk)
        return found

    def finish(self) -> int:
        """See `Scanner`."""
        return self._at
