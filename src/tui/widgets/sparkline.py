"""A line of blocks, where there is no room for a chart."""

from __future__ import annotations

from rich.cells import cell_len
from rich.segment import Segment

from engine.chart import plot
from engine.chart.series import Series, Shown
from engine.text import one_line
from tui.widgets.cells import fit
from tui.widgets.drawing import StyleOf

_BLOCKS = "▁▂▃▄▅▆▇█"


def rows(shown: Shown, style: StyleOf, width: int, height: int) -> list[list[Segment]]:
    """The first line of `shown` with its name and newest value; none where there is no step.

    Args:
        height: with 2 the blocks have a row of their own.
        style: as for `drawing.Drawing`.
    """
    first = shown.series[0] if shown.series else None
    steps = plot.extent(first.xs) if first else None
    if first is None or steps is None:
        return []
    line = style("line-0")
    name = fit(one_line(first.name), min(cell_len(one_line(first.name)), width // 3))
    value = "" if first.last is None else plot.number(first.last)
    if height == 2:
        return [[Segment(f"{name} {value}", line)], _blocks(shown, first, steps, width, style)]
    blocks = _blocks(shown, first, steps, max(width - cell_len(name) - len(value) - 2, 1), style)
    return [[Segment(f"{name} ", line), *blocks, Segment(f" {value}", line)]]


def _blocks(
    shown: Shown, series: Series, steps: tuple[float, float], width: int, style: StyleOf
) -> list[Segment]:
    """The highest value in each cell as a block; a cell without points keeps the last one."""
    ys = shown.values(series.ys)
    line = plot.reduce(series.xs, ys, *steps, width)
    row = plot.rows(*plot.span(ys), len(_BLOCKS))
    cells = [" "] * width
    for stroke in line.strokes:
        ends = [after.column for after in stroke[1:]] + [stroke[-1].column + 1]
        for this, end in zip(stroke, ends, strict=True):
            block = _BLOCKS[len(_BLOCKS) - 1 - row(this.high)]
            cells[this.column : end] = block * (end - this.column)
    drawn = [Segment(cell, style("line-0")) for cell in cells]
    for column, value in line.bad.items():
        drawn[column] = Segment(plot.bad_mark(value), style("bad"))
    return drawn
