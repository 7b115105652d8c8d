"""A chart with axes and a legend, row by row."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby
from operator import itemgetter

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style

from engine.chart import plot
from engine.chart.series import Series, Shown, at, part, smoothed
from engine.i18n import _
from engine.text import one_line
from tui.widgets.braille import DASHES, Canvas
from tui.widgets.cells import fit, shares

COLOURS = 5
StyleOf = Callable[[str], Style]
"""The style of a part of the chart: axis, bad, line-0 … line-4; "" is that of all the rest."""
NARROW = 24
"""Cells below which the y axis goes without labels."""
_LEGEND_MARKS = ("──", "╌╌", "··")
_LEVEL_MARK = "┈"
_SHORT_OF_WORDS = 60  # cells below which the legend counts without words
# Who drew a cell, where it was not a line.
_BAD = -2  # the marks of what is not finite
_CURSOR = -3
_RAW = -4  # the line that is not smoothed, below the one that is
_LEVEL = -5
_QUIET = (_CURSOR, _RAW, _LEVEL)
_LEVEL_DASH = 2
_Bad = dict[tuple[int, int], str]


class Drawing:
    """Draws what is `shown`, once.

    Args:
        shown: the lines.
        style: how its parts look.
    """

    def __init__(self, shown: Shown, style: StyleOf) -> None:
        self._shown, self._style = shown, style

    def rows(self, width: int, height: int) -> list[list[Segment]]:
        """The rows of a chart of that size; none where there is no step."""
        shown = self._shown
        steps = shown.part.window(shown.whole)
        if steps is None:
            return []
        legend_rows, axis_rows = int(height >= 4), 2 if height >= 6 else 0
        plot_height = height - legend_rows - axis_rows
        drawn = [part(replace(one, ys=shown.values(one.ys)), *steps) for one in shown.series]
        raw = self._raw(steps)
        levels = shown.values([level.y for level in shown.levels], smooth=False)
        low, high = plot.span(levels, *(one.ys for one in (*drawn, *raw)))
        labels = self._y_labels(low, high, plot_height)
        room = max((len(label) for label in labels.values()), default=0) if width >= NARROW else 0
        canvas = Canvas(max(width - room - 1, 1), plot_height)
        lines, below = (
            [plot.reduce(one.xs, one.ys, *steps, canvas.columns) for one in some]
            for some in (drawn, raw)
        )
        bad = _trace(canvas, lines, below, levels, plot.rows(low, high, canvas.rows))
        rows = [self._legend(sum(line.bad_count for line in lines), width)] if legend_rows else []
        column = self._cursor_column(steps, canvas.width)
        rows += [
            self._plot_row(canvas, y, labels.get(y, ""), room, bad, column)
            for y in range(plot_height)
        ]
        return rows + (self._x_axis(*steps, room, canvas.width) if axis_rows else [])

    def _raw(self, steps: tuple[float, float]) -> list[Series]:
        """The line as it is, which lies below the smoothed one; not where there are several."""
        if not self._shown.smooth or len(self._shown.series) != 1:
            return []
        one = part(self._shown.series[0], *steps)
        return [replace(one, ys=self._shown.values(one.ys, smooth=False))]

    def _cursor_column(self, steps: tuple[float, float], width: int) -> int:
        """The cell of the cursor; -1 where it is not in view."""
        (start, stop), cursor = steps, self._shown.part.cursor
        if cursor is None or not start <= cursor <= stop or stop <= start:
            return -1
        return round((cursor - start) / (stop - start) * (width - 1))

    def _y_labels(self, low: float, high: float, height: int) -> dict[int, str]:
        """The labels of the y axis by their row."""
        row = plot.rows(low, high, height * 4)
        most = max(height // 2, 2)
        if self._shown.log_y and max(-low, high) < 300:  # beyond, powers of ten overflow a float
            values = plot.log_ticks(10.0**low, 10.0**high, most)
            pairs = [(math.log10(value), value) for value in values if value > 0]
        else:
            pairs = [(value, value) for value in plot.ticks(low, high, most)]
        return {row(place) // 4: plot.number(value, 6) for place, value in reversed(pairs)}

    def _plot_row(
        self,
        canvas: Canvas,
        y: int,
        label: str,
        room: int,
        bad: _Bad,
        cursor: int,
    ) -> list[Segment]:
        axis = (label.rjust(room) if room else "") + ("┤" if label else "│")
        row = [Segment(axis, self._style("axis"))]
        cells = [
            (bad[x, y], _BAD) if (x, y) in bad else canvas.cell(x, y) for x in range(canvas.width)
        ]
        if cursor >= 0 and cells[cursor][1] < 0 and cells[cursor][1] != _BAD:
            cells[cursor] = ("│", _CURSOR)
        for owner, run in groupby(cells, key=itemgetter(1)):
            if owner == _BAD:
                style = self._style("bad")
            elif owner in _QUIET:
                style = self._style("axis")
            else:
                style = self._style("") if owner < 0 else self._style(_line(owner))
            row.append(Segment("".join(character for character, _owner in run), style))
        return row

    def _x_axis(self, start: float, stop: float, room: int, width: int) -> list[list[Segment]]:
        line, labels, free = ["─"] * width, [" "] * width, 0
        for value in plot.ticks(start, stop, max(width // 12, 2), least_step=1.0):
            x = round((value - start) / (stop - start) * (width - 1)) if stop > start else 0
            label = plot.number(value, 6)
            left = max(min(x - len(label) // 2, width - len(label)), 0)
            if left < free or left + len(label) > width:
                continue
            line[x] = "┬"
            labels[left : left + len(label)] = label
            free = left + len(label) + 1
        style = self._style("axis")
        return [
            [Segment(" " * room + "└" + "".join(line), style)],
            [Segment(" " * (room + 1) + "".join(labels), style)],
        ]

    def _legend(self, bad_count: int, width: int) -> list[Segment]:
        """One line: the mark, name and value of each series, and what is special.

        The value is the newest, or the one at the cursor.
        """
        notes = []
        if self._shown.part.cursor is not None:
            notes.append(_("step {step}").format(step=round(self._shown.part.cursor)))
        notes += [_("zoomed")] if self._shown.part.length else []
        notes += [_("log")] if self._shown.log_y else []
        notes += [_("smoothed")] if self._shown.smooth else []
        tail = [Segment(" " + " · ".join(notes), self._style("axis"))] if notes else []
        if bad_count:
            words = _("× {count} not drawn") if width >= _SHORT_OF_WORDS else "× {count}"
            joined = " ·" if notes else ""
            tail.insert(0, Segment(f" {words.format(count=bad_count)}{joined}", self._style("bad")))
        room = max(width - sum(segment.cell_length for segment in tail), 0)
        entries = [
            (
                f"{_LEGEND_MARKS[index % len(_LEGEND_MARKS)]} {one_line(series.name)}",
                self._value(series),
                _line(index),
            )
            for index, series in enumerate(self._shown.series)
        ]
        entries += [
            (f"{_LEVEL_MARK} {one_line(level.name)}", f" {plot.number(level.y)}", "axis")
            for level in self._shown.levels
        ]
        # A name that is cut leaves the value whole.
        names = [cell_len(name) for name, _value, _part in entries]
        values = sum(len(value) + 2 for _name, value, _part in entries)
        head = [
            Segment(fit(name, each) + value + "  ", self._style(part))
            for (name, value, part), each in zip(entries, shares(names, room - values), strict=True)
        ]
        gap = max(room - sum(segment.cell_length for segment in head), 0)
        return [*head, Segment(" " * gap, self._style("")), *tail]

    def _value(self, series: Series) -> str:
        """The newest value, or the one at the cursor, after a space; "" where there is none."""
        cursor = self._shown.part.cursor
        value = series.last if cursor is None else at(series, cursor)
        if value is None:
            return ""
        said = f" {plot.number(value)}"
        if cursor is not None and self._shown.smooth:
            smooth = at(Series("", series.xs, smoothed(series.ys)), cursor)
            said += f" ({plot.number(smooth)})" if smooth is not None else ""
        return said


def _line(index: int) -> str:
    return f"line-{index % COLOURS}"


def _trace(
    canvas: Canvas,
    lines: Sequence[plot.Reduced],
    below: Sequence[plot.Reduced],
    levels: Sequence[float],
    row: Callable[[float], int],
) -> _Bad:
    """Draw the levels and the lines, the first last so that it lies on top.

    Returns:
        The marks of values that are not finite, by cell.
    """
    for level in filter(math.isfinite, levels):
        ends = [plot.Bin(column, *[level] * 4) for column in (0, canvas.columns - 1)]
        canvas.stroke(ends, row, _LEVEL, _LEVEL_DASH)
    bad: _Bad = {}
    for line in below:
        for stroke in line.strokes:
            canvas.stroke(stroke, row, _RAW)
    for index in reversed(range(len(lines))):
        for stroke in lines[index].strokes:
            canvas.stroke(stroke, row, index, index % len(DASHES))
        for column, value in lines[index].bad.items():
            at_row = 0 if value == math.inf else canvas.height - 1
            bad[column // 2, at_row] = plot.bad_mark(value)
    return bad
