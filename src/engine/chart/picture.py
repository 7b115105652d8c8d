"""A chart as a picture: the part, the scale and the smoothing that the screen shows."""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import replace
from math import isfinite

from engine.chart import plot
from engine.chart.series import Series, Shown, part
from engine.text import one_line

WIDTH, HEIGHT = 960, 540
FONTS = (
    "'DejaVu Sans', 'Liberation Sans', 'Noto Sans', 'Noto Sans CJK SC', 'WenQuanYi Zen Hei', "
    "Ubuntu, Cantarell, FreeSans, Roboto, 'Open Sans', Helvetica, Arial, sans-serif"
)
"""What Linux machines have: resvg knows no "sans-serif" but the name that it is told."""
_LEFT, _RIGHT, _BOTTOM = 70, 20, 40
_LINE = 18
"""Height of a name above the plot."""
_WIDE = WIDTH - _LEFT - _RIGHT
_COLOURS = ("#1f77b4", "#d95f02", "#2ca02c", "#9467bd", "#8c564b")
_DASHES = ("", "8 4", "2 3")
_Span = tuple[float, float]


def as_svg(shown: Shown) -> str:
    """The lines with axes and names; spikes stay, values that are not finite are gaps."""
    steps = shown.part.window(shown.whole) or (0.0, 1.0)
    levels = shown.values([level.y for level in shown.levels], smooth=False)
    drawn = _drawn(shown, steps, smooth=True)
    raw = _drawn(shown, steps, smooth=False) if shown.smooth else []
    values = plot.span(levels, *(line.ys for line in (*drawn, *raw)))
    place = _Place(steps, values, top=_LINE * (len(drawn) + 1))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-family="{FONTS}" font-size="13" stroke-linecap="round">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        *_axes(place, shown.log_y),
    ]
    held = [(one, place.y(y)) for one, y in zip(shown.levels, levels, strict=True) if isfinite(y)]
    parts += [_across(y, 'stroke="#888" stroke-dasharray="6 3"') for _level, y in held]
    for index, line in enumerate(raw):
        parts += _paths(line, place, f'stroke="{_colour(index)}" opacity="0.3"')
    for index, line in reversed([*enumerate(drawn)]):
        dash = _DASHES[index % len(_DASHES)]
        style = f'stroke="{_colour(index)}" stroke-width="1.5" stroke-dasharray="{dash}"'
        parts += _paths(line, place, style)
    for index, line in enumerate(drawn):
        down = _LINE * (index + 1)
        parts.append(words(one_line(line.name), _LEFT, down, colour=_colour(index)))
    for level, y in held:
        name = f"{one_line(level.name)} {plot.number(level.y)}"
        parts.append(words(name, WIDTH - _RIGHT - 4, y - 4, "end", "#444"))
    return "\n".join([*parts, "</svg>", ""])


def words(text: str, x: float, y: float, anchor: str = "start", colour: str = "#333") -> str:
    """Text of a picture, to be read on lines too."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" '
        'stroke="white" stroke-width="3" paint-order="stroke">'
        f"{html.escape(text)}</text>"
    )


class _Place:
    """Where a step and a value lie in the picture."""

    def __init__(self, steps: _Span, values: _Span, top: int) -> None:
        self.steps, self.values, self._top = steps, values, top

    def x(self, step: float) -> float:
        start, stop = self.steps
        return _LEFT + ((step - start) / (stop - start) if stop > start else 0.5) * _WIDE

    def y(self, value: float) -> float:
        low, high = self.values
        return self._top + (high - value) / (high - low) * (HEIGHT - self._top - _BOTTOM)


def _drawn(shown: Shown, steps: _Span, smooth: bool) -> list[Series]:
    return [part(replace(one, ys=shown.values(one.ys, smooth)), *steps) for one in shown.series]


def _axes(place: _Place, log_y: bool) -> Iterator[str]:
    for value in plot.ticks(*place.values, 6):
        yield _across(place.y(value), 'stroke="#ddd"')
        said = plot.number(10**value if log_y and abs(value) < 300 else value)
        yield words(said, _LEFT - 8, place.y(value) + 4, "end")
    for value in plot.ticks(*place.steps, 8, least_step=1.0):
        yield words(plot.number(value, 6), place.x(value), HEIGHT - 14, "middle")


def _across(y: float, style: str) -> str:
    return f'<path d="M{_LEFT} {y:.1f}h{_WIDE}" {style}/>'


def _paths(line: Series, place: _Place, style: str) -> Iterator[str]:
    """A path for each piece without a gap; of a single point a dot."""
    start, stop = place.steps
    scale = (stop - start) / (_WIDE - 1)
    for stroke in plot.reduce(line.xs, line.ys, start, stop, _WIDE).strokes:
        points = [
            f"{place.x(start + bin.column * scale):.1f},{place.y(value):.1f}"
            for bin in stroke
            for value in dict.fromkeys((bin.first, bin.low, bin.high, bin.last))
        ]
        yield f'<path d="M{" ".join(points)} {points[-1]}" fill="none" {style}/>'


def _colour(index: int) -> str:
    return _COLOURS[index % len(_COLOURS)]
