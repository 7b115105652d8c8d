"""What the terminal shows, so that of a drawing only the cells that differ cross the line.

Textual writes every line of a region that was drawn anew. A run chosen after
another one, a log that has moved on by a line: most cells are as they were.

A drawing of the whole screen is written whole: whatever else wrote on the
terminal (`wall`, the kernel) is gone after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache

from rich.cells import get_character_cell_size
from rich.color import ColorSystem
from rich.console import Console
from rich.style import Style
from textual._compositor import ChopsUpdate, CompositorUpdate, LayoutUpdate
from textual.geometry import Size
from textual.strip import Strip

Ink = tuple[str, "str | None", str]
"""Codes of attributes, foreground and background; a foreground of None: any will do."""
Cell = tuple[str, Ink]
"""A character and its ink; the second half of a wide one is ""."""
_PLAIN: Ink = ("", "", "")
_UNKNOWN: Cell = ("\0", _PLAIN)
_EMOJI = "\N{MAHJONG TILE EAST WIND}"
"""From here on terminals do not agree how wide a character is."""
_MOVE = 5
"""Bytes that a move costs: as many are rather written, though they are there."""
_SHAPES = frozenset("123")
"""Attributes that change the shape of a character, so that a blank has nothing of them."""


class Shown:
    """The cells on the terminal."""

    def __init__(self) -> None:
        self._size = Size(0, 0)
        self._rows: list[list[Cell]] = []

    def forget(self) -> None:
        """Nothing is known of what the terminal shows."""
        self._size = Size(0, 0)

    def of(self, update: CompositorUpdate, size: Size) -> CompositorUpdate:
        """The same drawing on a terminal of `size`, but only what differs of it."""
        if not isinstance(update, (ChopsUpdate, LayoutUpdate)):
            self.forget()
            return update
        return _Difference(self, update, size)

    def write(self, update: ChopsUpdate | LayoutUpdate, size: Size, console: Console) -> str:
        """What brings the terminal from what it shows to `update`."""
        if not _fits(update, size):  # the terminal became smaller since it was made
            self.forget()
            return update.render_segments(console)
        if size != self._size:
            self._size = size
            self._rows = [[_UNKNOWN] * size.width for _row in range(size.height)]
        colours = console._color_system or ColorSystem.TRUECOLOR
        if isinstance(update, LayoutUpdate):
            for y, strips in enumerate(update.strips, update.region.y):
                self._keep(update.region.x, y, strips, colours)
            return update.render_segments(console)
        pen = _Pen()
        for y, start, end, strip in _parts(update):
            cells = _cells(strip, colours)
            if cells is None:
                pen.strip(start, y, strip.render(console))
                cells = [_UNKNOWN] * (end - start)
            else:
                for x, run in _differences(self._rows[y][start:end], cells):
                    pen.cells(start + x, y, run)
            self._rows[y][start:end] = cells
        return pen.written()

    def _keep(self, x: int, y: int, strips: Iterable[Strip], colours: ColorSystem) -> None:
        for strip in strips:
            width = strip.cell_length
            self._rows[y][x : x + width] = _cells(strip, colours) or [_UNKNOWN] * width
            x += width


class _Difference(CompositorUpdate):
    """An update that becomes a difference at the moment when it is written."""

    def __init__(self, shown: Shown, update: ChopsUpdate | LayoutUpdate, size: Size) -> None:
        self._shown, self._update, self._size = shown, update, size

    def render_segments(self, console: Console) -> str:
        """What the terminal is sent."""
        return self._shown.write(self._update, self._size, console)


def _fits(update: ChopsUpdate | LayoutUpdate, size: Size) -> bool:
    """Whether all that `update` draws lies on a terminal of `size`."""
    if isinstance(update, LayoutUpdate):
        return update.region.right <= size.width and update.region.bottom <= size.height
    return all(y < size.height and last <= size.width for y, _first, last in update.spans)


def _parts(update: ChopsUpdate) -> Iterator[tuple[int, int, int, Strip]]:
    """Row, first column, column after the last one and content of what `update` draws."""
    for y, first, last in update.spans:
        for end, (x, strip) in zip(update.chop_ends[y], update.chops[y].items(), strict=False):
            start, stop = max(x, first), min(end, last)
            if strip is not None and start < stop:
                yield y, start, stop, strip.crop(start - x, stop - x)


def _cells(strip: Strip, colours: ColorSystem) -> list[Cell] | None:
    """The cells of a strip; None where a terminal may see other ones."""
    cells: list[Cell] = []
    for text, style, _control in strip:
        inks = _inks(style, colours)
        if inks is None:
            return None
        ink, blank = inks
        if text.isascii():
            cells += [(one, blank if one == " " else ink) for one in text]
            continue
        for one in text:
            width = get_character_cell_size(one)
            if not width or one >= _EMOJI:
                return None
            cells.append((one, blank if one == " " else ink))
            if width == 2:
                cells.append(("", ink))
    return cells


@lru_cache(2048)
def _inks(style: Style | None, colours: ColorSystem) -> tuple[Ink, Ink] | None:
    """The ink of a style, and that of its blanks; None when it has a link, which is more."""
    if style is None:
        return _PLAIN, ("", None, "")
    if style.link:
        return None
    shape = style.without_color.render("\0", color_system=colours).partition("\0")[0]
    attributes = shape[2:-1]
    front, back = (
        "" if colour is None else ";".join(colour.downgrade(colours).get_ansi_codes(not ground))
        for ground, colour in enumerate((style.color, style.bgcolor))
    )
    ink = (attributes, front, back)
    plain = _SHAPES.issuperset(filter(None, attributes.split(";")))
    return ink, ("", None, back) if plain else ink


def _differences(old: list[Cell], new: list[Cell]) -> Iterator[tuple[int, list[Cell]]]:
    """Where `new` differs from `old`: the first column, and the cells to write there."""
    if old == new:
        return
    at, count = 0, len(new)
    while at < count:
        if old[at] == new[at]:
            at += 1
            continue
        start = at - (at > 0 and not new[at][0])  # a wide character is written whole
        ink, near = new[at][1], 0
        stop = at = at + 1
        while at < count and near <= _MOVE:
            character, now = new[at]
            if old[at] != new[at]:
                stop, near = at + 1, 0
            else:
                near += len(character.encode())
            if now[1] is not None or now[2] != ink[2]:  # else a blank, which takes any ink
                near += _MOVE * (now != ink and stop <= at)
                ink = now
            at += 1
        stop += stop < count and not new[stop][0]
        yield start, new[start:stop]
        at = stop


class _Pen:
    """Writes cells, and of codes only those that the terminal has not got."""

    def __init__(self) -> None:
        self._written: list[str] = []
        self._row = -1
        self._ink = _PLAIN

    def cells(self, x: int, y: int, cells: list[Cell]) -> None:
        """Write `cells` from (x, y) on."""
        self._move(x, y)
        for character, ink in cells:
            if ink != self._ink:
                self._take(ink)
            self._written.append(character)

    def strip(self, x: int, y: int, rendered: str) -> None:
        """Write what Textual made of a strip, from (x, y) on."""
        self._take(_PLAIN)
        self._move(x, y)
        self._written.append(rendered)

    def written(self) -> str:
        """All of it."""
        self._take(_PLAIN)
        return "".join(self._written)

    def _move(self, x: int, y: int) -> None:
        self._written.append(f"\x1b[{x + 1}G" if y == self._row else f"\x1b[{y + 1};{x + 1}H")
        self._row = y

    def _take(self, ink: Ink) -> None:
        """Dip into another ink."""
        (shape, front, back), (old_shape, old_front, old_back) = ink, self._ink
        if front is None:
            front = old_front or ""
            shape = old_shape if _SHAPES.issuperset(filter(None, old_shape.split(";"))) else shape
        now = (shape, front, back)
        if now == self._ink:
            return
        if shape != old_shape or now == _PLAIN:
            codes = ["0", *filter(None, now)]
        else:
            codes = [front or "39"] if front != old_front else []
            codes += [back or "49"] if back != old_back else []
        self._written.append(f"\x1b[{';'.join(codes)}m")
        self._ink = now
