"""Curves over steps, drawn in braille dots; one line of blocks where there is no room."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from engine.i18n import N_, _
from engine.text import one_line
from tui.widgets import plot
from tui.widgets.braille import DASHES, Canvas
from tui.widgets.cells import fit
from tui.widgets.chart_part import Part
from tui.widgets.series import Series, at, part, smoothed

_COLOURS = 5
_LEGEND_MARKS = ("──", "╌╌", "··")
_BLOCKS = "▁▂▃▄▅▆▇█"
_HUGE = 1e300
_BAD = -2  # owner of the marks of what is not finite
_CURSOR = -3
_RAW = -4  # owner of the line that is not smoothed, below the one that is
_SHORT_OF_WORDS = 60  # cells below which the legend counts without words
_NARROW = 24  # cells below which the y axis goes without labels


class Chart(Widget, can_focus=True):
    """Draws the lines given to `show`. Higher than two lines it has axes and a legend."""

    DEFAULT_CSS = """
    Chart {
        height: 1fr;
        background: $surface;
        color: $foreground;
        & > .chart--axis { color: $text-muted; }
        & > .chart--bad { color: $text-error; text-style: bold; }
        & > .chart--line-0 { color: $text-primary; }
        & > .chart--line-1 { color: $text-warning; }
        & > .chart--line-2 { color: $text-success; }
        & > .chart--line-3 { color: $text-accent; }
        & > .chart--line-4 { color: $text-secondary; }
    }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "chart--axis",
        "chart--bad",
        *(f"chart--line-{n}" for n in range(_COLOURS)),
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "log", N_("Log scale"), id="chart.log"),
        Binding("e", "smooth", N_("Smooth"), id="chart.smooth"),
        Binding("left", "cursor(-1)", N_("Cursor left"), show=False, id="chart.left"),
        Binding("right", "cursor(1)", N_("Cursor right"), show=False, id="chart.right"),
        Binding(
            "shift+left", "cursor(-10)", N_("Cursor far left"), show=False, id="chart.far-left"
        ),
        Binding(
            "shift+right", "cursor(10)", N_("Cursor far right"), show=False, id="chart.far-right"
        ),
        Binding("plus", "zoom(0.5)", N_("Zoom in"), id="chart.in"),
        Binding("equals_sign", "zoom(0.5)", N_("Zoom in"), show=False, id="chart.in-too"),
        Binding("minus", "zoom(2)", N_("Zoom out"), id="chart.out"),
        Binding("left_square_bracket", "pan(-1)", N_("Earlier"), show=False, id="chart.earlier"),
        Binding("right_square_bracket", "pan(1)", N_("Later"), show=False, id="chart.later"),
        Binding("0", "whole", N_("Whole"), show=False, id="chart.whole"),
    ]

    log_y: reactive[bool] = reactive(False)
    """Whether the y axis is logarithmic."""
    smooth: reactive[bool] = reactive(False)
    """Whether the lines are smoothed (exponential moving average)."""

    def __init__(
        self,
        series: Sequence[Series] = (),
        *,
        name: str | None = None,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        super().__init__(name=name, id=id, classes=classes)
        self._series = list(series)
        self._drawn: list[Strip] = []
        self._drawn_for: object = None
        self._part = Part()
        self._styles: dict[str, Style] = {}

    def show(self, series: Sequence[Series]) -> None:
        """Draw these lines instead. The first is drawn on top of the others, unbroken."""
        self._series = list(series)
        self._drawn_for = None
        self.refresh()

    def action_cursor(self, columns: int) -> None:
        """Move the cursor, which shows the values at its step; it comes in at the right."""
        self._part.move_cursor(self._whole(), columns / max(self.size.width - _NARROW // 2, 1))
        self._draw_anew()

    def action_zoom(self, factor: float) -> None:
        """Show a shorter or longer part, around the cursor if there is one, else at the end."""
        self._part.zoom(self._whole(), factor)
        self._draw_anew()

    def action_pan(self, direction: int) -> None:
        """Show what is before or after, by half of what is shown."""
        self._part.pan(self._whole(), direction / 2)
        self._draw_anew()

    def action_whole(self) -> None:
        """Show all of it, without the cursor."""
        self._part = Part()
        self._draw_anew()

    def _whole(self) -> tuple[float, float] | None:
        """The first and the last step there is."""
        ends = [plot.extent(series.xs) for series in self._series if series.xs]
        known = [end for end in ends if end is not None]
        return (min(low for low, _ in known), max(high for _, high in known)) if known else None

    def _draw_anew(self) -> None:
        self._drawn_for = None
        self.refresh()

    def action_log(self) -> None:
        """Switch between a linear and a logarithmic y axis."""
        self.log_y = not self.log_y

    def action_smooth(self) -> None:
        """Switch smoothing on or off."""
        self.smooth = not self.smooth

    def notify_style_update(self) -> None:
        """Colours may have changed."""
        self._drawn_for = None
        super().notify_style_update()

    # Drawing

    def render_line(self, y: int) -> Strip:
        """Line `y`; all lines are made at once and kept until something changes."""
        wanted = (self.size, self.log_y, self.smooth)
        if self._drawn_for != wanted:
            self._drawn = self._draw(*self.size)
            self._drawn_for = wanted
        if y < len(self._drawn):
            return self._drawn[y]
        return Strip.blank(self.size.width, self.rich_style)

    def _draw(self, width: int, height: int) -> list[Strip]:
        self._styles.clear()
        base = self._style()
        rows = self._spark_rows(width, height) if height <= 2 else self._chart_rows(width, height)
        return [Strip(row).adjust_cell_length(width, base).simplify() for row in rows]

    def _style(self, part: str = "") -> Style:
        """The style of a part, looked up once a drawing: a look-up walks up to the screen."""
        if part not in self._styles:
            self._styles[part] = (
                self._style() + self.get_component_rich_style(f"chart--{part}", partial=True)
                if part
                else self.rich_style
            )
        return self._styles[part]

    def _line_style(self, index: int) -> Style:
        return self._style(f"line-{index % _COLOURS}")

    def _empty(self, width: int, height: int) -> list[list[Segment]]:
        words = fit(_("No values yet"), width, "center")
        blank: list[list[Segment]] = [[] for _row in range(height)]
        blank[height // 2] = [Segment(words, self._style("axis"))]
        return blank

    # The chart with axes

    def _chart_rows(self, width: int, height: int) -> list[list[Segment]]:
        steps = self._part.window(self._whole())
        if steps is None:
            return self._empty(width, height)
        legend_rows, axis_rows = int(height >= 4), 2 if height >= 6 else 0
        plot_height = height - legend_rows - axis_rows
        both = self.smooth and len(self._series) == 1  # the raw line lies below the smoothed one
        shown = [part(replace(one, ys=self._values(one)), *steps) for one in self._series]
        values = [series.ys for series in shown]
        raw = [self._values(part(self._series[0], *steps), smooth=False)] if both else []
        low, high = _range(*values, *raw)
        labels = self._y_labels(low, high, plot_height)
        room = max((len(label) for label in labels.values()), default=0) if width >= _NARROW else 0
        canvas = Canvas(max(width - room - 1, 1), plot_height)
        lines = [
            plot.reduce(series.xs, ys, *steps, canvas.columns)
            for series, ys in zip(shown, values, strict=True)
        ]
        below = [plot.reduce(shown[0].xs, ys, *steps, canvas.columns) for ys in raw]
        bad = _trace(canvas, lines, below, low, high)
        rows = [self._legend(sum(line.bad_count for line in lines), width)] if legend_rows else []
        column = self._cursor_column(steps, canvas.width)
        rows += [
            self._plot_row(canvas, y, labels.get(y, ""), room, bad, column)
            for y in range(plot_height)
        ]
        return rows + (self._x_axis(*steps, room, canvas.width) if axis_rows else [])

    def _cursor_column(self, steps: tuple[float, float], width: int) -> int:
        """The cell of the cursor; -1 where it is not in view."""
        (start, stop), cursor = steps, self._part.cursor
        if cursor is None or not start <= cursor <= stop or stop <= start:
            return -1
        return round((cursor - start) / (stop - start) * (width - 1))

    def _values(self, series: Series, smooth: bool = True) -> Sequence[float]:
        """The values as they are drawn: smoothed, and logarithms on a logarithmic axis."""
        ys = smoothed(series.ys) if self.smooth and smooth else series.ys
        return plot.logs(ys) if self.log_y else ys

    def _y_labels(self, low: float, high: float, height: int) -> dict[int, str]:
        """The labels of the y axis by their row."""
        row = _rows(low, high, height * 4)
        most = max(height // 2, 2)
        if self.log_y and max(-low, high) < 300:  # beyond, powers of ten overflow a float
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
        bad: dict[tuple[int, int], str],
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
            elif owner in (_CURSOR, _RAW):
                style = self._style("axis")
            else:
                style = self._style() if owner < 0 else self._line_style(owner)
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
        if self._part.cursor is not None:
            notes.append(_("step {step}").format(step=round(self._part.cursor)))
        notes += [_("zoomed")] if self._part.length else []
        notes += [_("log")] if self.log_y else []
        notes += [_("smoothed")] if self.smooth else []
        tail = [Segment(" " + " · ".join(notes), self._style("axis"))] if notes else []
        if bad_count:
            words = _("× {count} not drawn") if width >= _SHORT_OF_WORDS else "× {count}"
            tail.insert(0, Segment(" " + words.format(count=bad_count), self._style("bad")))
        room = max(width - sum(segment.cell_length for segment in tail), 0)
        entries = [
            f"{_LEGEND_MARKS[index % len(_LEGEND_MARKS)]} {self._label(series)}  "
            for index, series in enumerate(self._series)
        ]
        if sum(map(cell_len, entries)) > room:
            each = max(room // len(entries), 1)
            entries = [
                entry if cell_len(entry) <= each else fit(entry.rstrip(), each - 1) + " "
                for entry in entries
            ]
        head = [Segment(entry, self._line_style(index)) for index, entry in enumerate(entries)]
        gap = max(room - sum(segment.cell_length for segment in head), 0)
        return [*head, Segment(" " * gap, self._style()), *tail]

    def _label(self, series: Series) -> str:
        value = series.last if self._part.cursor is None else at(series, self._part.cursor)
        said = "" if value is None else f" {plot.number(value)}"
        if self._part.cursor is not None and self.smooth and value is not None:
            smooth = at(Series("", series.xs, smoothed(series.ys)), self._part.cursor)
            said += f" ({plot.number(smooth)})" if smooth is not None else ""
        return one_line(series.name) + said

    # One or two lines

    def _spark_rows(self, width: int, height: int) -> list[list[Segment]]:
        first = self._series[0] if self._series else None
        steps = plot.extent(first.xs) if first else None
        if first is None or steps is None:
            return self._empty(width, max(height, 1))
        style = self._line_style(0)
        name = fit(one_line(first.name), min(cell_len(one_line(first.name)), width // 3))
        value = "" if first.last is None else plot.number(first.last)
        if height == 2:
            return [[Segment(f"{name} {value}", style)], self._spark(first, steps, width)]
        room = max(width - cell_len(name) - len(value) - 2, 1)
        return [
            [
                Segment(f"{name} ", style),
                *self._spark(first, steps, room),
                Segment(f" {value}", style),
            ]
        ]

    def _spark(self, series: Series, steps: tuple[float, float], width: int) -> list[Segment]:
        """The highest value in each cell as a block; a cell without points keeps the last one."""
        ys = self._values(series)
        line = plot.reduce(series.xs, ys, *steps, width)
        row = _rows(*_range(ys), len(_BLOCKS))
        cells = [" "] * width
        for stroke in line.strokes:
            ends = [after.column for after in stroke[1:]] + [stroke[-1].column + 1]
            for this, end in zip(stroke, ends, strict=True):
                block = _BLOCKS[len(_BLOCKS) - 1 - row(this.high)]
                cells[this.column : end] = block * (end - this.column)
        style, bad = self._line_style(0), self._style("bad")
        drawn = [Segment(cell, style) for cell in cells]
        for column, value in line.bad.items():
            drawn[column] = Segment(_bad_mark(value), bad)
        return drawn


def _range(*lines: Sequence[float]) -> tuple[float, float]:
    """The least and the greatest of the values; a little apart if they are one."""
    ends = [end for end in map(plot.extent, lines) if end is not None]
    low = min((low for low, _high in ends), default=0.0)
    high = max((high for _low, high in ends), default=1.0)
    # Neither the span nor its inverse may overflow.
    low, high = max(low, -_HUGE), min(high, _HUGE)
    if high - low > max(abs(high) * 1e-9, 1 / _HUGE):
        return low, high
    margin = abs(low) * 0.05 if abs(low) > 1 / _HUGE else 1.0
    return low - margin, high + margin


def _trace(
    canvas: Canvas,
    lines: Sequence[plot.Reduced],
    below: Sequence[plot.Reduced],
    low: float,
    high: float,
) -> dict[tuple[int, int], str]:
    """Draw the lines, the first last so that it lies on top.

    Returns:
        The marks of values that are not finite, by cell.
    """
    row = _rows(low, high, canvas.rows)
    bad: dict[tuple[int, int], str] = {}
    for line in below:
        for stroke in line.strokes:
            canvas.stroke(stroke, row, _RAW)
    for index in reversed(range(len(lines))):
        for stroke in lines[index].strokes:
            canvas.stroke(stroke, row, index, index % len(DASHES))
        for column, value in lines[index].bad.items():
            bad[column // 2, 0 if value == math.inf else canvas.height - 1] = _bad_mark(value)
    return bad


def _rows(low: float, high: float, rows: int) -> Callable[[float], int]:
    """What turns a value between `low` and `high` into a row, 0 at the top."""
    scale = (rows - 1) / (high - low)

    def row(value: float) -> int:
        return min(max(round((high - value) * scale), 0), rows - 1)

    return row


def _bad_mark(value: float) -> str:
    return "×" if math.isnan(value) else "↑" if value > 0 else "↓"
