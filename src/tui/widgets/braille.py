"""Lines of braille dots: two by four of them in a terminal cell."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from engine.chart.plot import Bin

_BITS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
_BLANK = 0x2800
# Dots of the line by its column: all; five of eight; one of three.
DASHES: tuple[Callable[[int], bool], ...] = (
    lambda x: True,
    lambda x: x % 8 < 5,
    lambda x: x % 3 == 0,
)
_SPIKE = 2  # dots; a column that rises further is drawn whole, dashed or not


class Canvas:
    """`width` by `height` cells, each with its dots and the line that drew there last."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._bits = [[0] * width for _row in range(height)]
        self._owners = [[-1] * width for _row in range(height)]

    @property
    def columns(self) -> int:
        """Dots from left to right."""
        return self.width * 2

    @property
    def rows(self) -> int:
        """Dots from top to bottom."""
        return self.height * 4

    def dot(self, x: int, y: int, owner: int) -> None:
        """Set one dot; (0, 0) is at the top left. What lies outside is not drawn."""
        if 0 <= x < self.columns and 0 <= y < self.rows:
            if owner >= 0 > self._owners[y // 4][x // 2]:
                self._bits[y // 4][x // 2] = 0  # what lies below others gives way to them
            self._bits[y // 4][x // 2] |= _BITS[y % 4][x % 2]
            self._owners[y // 4][x // 2] = owner

    def stroke(
        self, bins: Sequence[Bin], row: Callable[[float], int], owner: int, dash: int = 0
    ) -> None:
        """Draw a line without gaps.

        Args:
            bins: what the line does in each column.
            row: the dot row of a value.
            owner: who draws.
            dash: index into `DASHES`.
        """
        on = DASHES[dash]
        for place, this in enumerate(bins):
            if place:
                before = bins[place - 1]
                self._connect(
                    (before.column, row(before.last)), (this.column, row(this.first)), owner, on
                )
            top, bottom = row(this.high), row(this.low)
            if on(this.column) or bottom - top >= _SPIKE or len(bins) == 1:
                for y in range(top, bottom + 1):
                    self.dot(this.column, y, owner)

    def _connect(
        self, start: tuple[int, int], end: tuple[int, int], owner: int, on: Callable[[int], bool]
    ) -> None:
        (x0, y0), (x1, y1) = start, end
        steps = max(x1 - x0, abs(y1 - y0))
        for step in range(1, steps):
            x = x0 + round((x1 - x0) * step / steps)
            if on(x):
                self.dot(x, y0 + round((y1 - y0) * step / steps), owner)

    def cell(self, x: int, y: int) -> tuple[str, int]:
        """The character of a cell and who drew there last; (" ", -1) where nobody did."""
        bits = self._bits[y][x]
        return (chr(_BLANK + bits), self._owners[y][x]) if bits else (" ", -1)
