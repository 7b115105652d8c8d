"""Outside text cut to terminal cells, shared by the widgets that draw line by line."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from engine.text import one_line

ELLIPSIS = "…"
_LEAST_MIDDLE = 9
"""Cells below which a name is cut at its end: both parts would say nothing."""
# A cell of text can take several characters (escape sequences, combining
# marks); past this many per cell only the cutting would cost time.
_CHARACTERS_A_CELL = 16


def fit(text: str, width: int, align: str = "left") -> str:
    """`text` on exactly `width` cells: cut with an ellipsis, or padded on one side.

    A double-width character that does not fit whole is left out.

    Args:
        text: must be clean already (`engine.text.one_line`).
        width: in terminal cells.
        align: "left", "right" or "center".
    """
    if width <= 0:
        return ""
    length = cell_len(text)
    if length > width:
        return set_cell_size(text, width - 1) + ELLIPSIS
    before = {"left": 0, "right": width - length, "center": (width - length) // 2}[align]
    return " " * before + set_cell_size(text, width - before)


def tail(text: str, width: int) -> str:
    """The end of `text` on `width` cells: in paths and dotted names it tells most."""
    if cell_len(text) <= width:
        return text
    kept = 0
    for start in range(len(text) - 1, -1, -1):
        kept += cell_len(text[start])
        if kept > width - 1:
            return "…" + text[start + 1 :]
    return text


def middle(text: str, width: int) -> str:
    """`text` on `width` cells without its middle: names begin with a model, end with a number."""
    if cell_len(text) <= width or width < _LEAST_MIDDLE:
        return text
    end = tail(text, width // 2)[1:]  # without its own ellipsis
    return set_cell_size(text, width - 1 - cell_len(end)).rstrip() + ELLIPSIS + end


def shares(wanted: Sequence[int], room: int) -> list[int]:
    """How many of `room` cells each part of a line gets: the longest are cut until all fit."""
    widths, left = list(wanted), room
    by_width = sorted(range(len(widths)), key=widths.__getitem__)
    for before, index in enumerate(by_width):
        widths[index] = min(widths[index], max(left, 0) // (len(widths) - before))
        left -= widths[index]
    return widths


def beyond(text: Text, cells: int) -> Text:
    """`text` without its first `cells` cells; of a wide character that is cut in two, a blank."""
    gone = index = 0
    while index < len(text.plain) and (gone < cells or cell_len(text.plain[index]) == 0):
        gone += cell_len(text.plain[index])
        index += 1
    return Text.assemble(" " * (gone - cells), text[index:]) if gone >= cells else Text()


def clip(text: str, width: int) -> str:
    """The start of outside `text`, cleaned: all that `width` cells can need of it."""
    return one_line(text[: (width + 1) * _CHARACTERS_A_CELL])


def segments(
    cell: str | Text, width: int, align: str, style: Style, console: Console
) -> list[Segment]:
    """A table cell as segments of exactly `width` cells over the style `style`."""
    if isinstance(cell, str):
        return [Segment(fit(clip(cell, width), width, align), style)]
    # Rich leaves a text's own style out where it has no spans.
    own = console.get_style(cell.style) if cell.style else None
    parts = [
        (clip(part, width), style + (extra or own) if extra or own else style)
        for part, extra, control in cell.render(console)
        if control is None
    ]
    length = sum(cell_len(part) for part, _ in parts)
    room = width if length <= width else width - 1
    drawn = []
    for part, part_style in parts:
        taken = min(cell_len(part), room)
        drawn.append(Segment(set_cell_size(part, taken), part_style))
        room -= taken
    if length > width:
        drawn.append(Segment(ELLIPSIS, style))
        return drawn
    before = {"left": 0, "right": room, "center": room // 2}[align]
    return [Segment(" " * before, style), *drawn, Segment(" " * (room - before), style)]
