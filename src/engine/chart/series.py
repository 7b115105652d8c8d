"""The lines of a chart, and how they are shown."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

from engine.chart import plot
from engine.chart.part import Part, Span

_LEAST_SMOOTHED = 5  # points that an average is taken over


@dataclass(frozen=True)
class Series:
    """A named line. `ys` may hold NaN and infinities: they show as gaps with a mark."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float]

    @property
    def last(self) -> float | None:
        """The newest value, finite or not."""
        return self.ys[-1] if self.ys else None


@dataclass(frozen=True)
class Level:
    """A named value that holds for all steps."""

    name: str
    y: float


@dataclass
class Shown:
    """What a chart shows: the lines, of them which part, and whether logarithmic or smoothed."""

    series: Sequence[Series] = ()
    levels: Sequence[Level] = ()
    part: Part = field(default_factory=Part)
    log_y: bool = False
    smooth: bool = False

    @property
    def whole(self) -> Span | None:
        """The first and the last step there is."""
        ends = [plot.extent(series.xs) for series in self.series if series.xs]
        known = [end for end in ends if end is not None]
        return (min(low for low, _ in known), max(high for _, high in known)) if known else None

    def values(self, ys: Sequence[float], smooth: bool = True) -> Sequence[float]:
        """Values as they are drawn: smoothed, and logarithms on a logarithmic axis."""
        ys = smoothed(ys) if self.smooth and smooth else ys
        return plot.logs(ys) if self.log_y else ys


def part(series: Series, start: float, stop: float) -> Series:
    """`series` from `start` to `stop`, where its line is cut; all of it, where x goes back."""
    xs = series.xs
    if not xs or (xs[0] >= start and xs[-1] <= stop) or xs[0] > xs[-1]:
        return series
    begin, end = bisect_left(xs, start), bisect_right(xs, stop)
    before, after = _cut(series, begin, start), _cut(series, end, stop)
    return Series(
        series.name,
        [*(x for x, _y in before), *xs[begin:end], *(x for x, _y in after)],
        [*(y for _x, y in before), *series.ys[begin:end], *(y for _x, y in after)],
    )


def _cut(series: Series, after: int, x: float) -> list[tuple[float, float]]:
    """The point at `x` of the line that leads to point `after`; none where there is no line."""
    if not 0 < after < len(series.xs):
        return []
    (left, right), (low, high) = (ends[after - 1 : after + 1] for ends in (series.xs, series.ys))
    y = low + (high - low) * ((x - left) / (right - left) if right > left else 1.0)
    return [(x, y)] if math.isfinite(y) else []


def at(series: Series, x: float) -> float | None:
    """The value of the point next to `x`; None before the first and after the last."""
    xs = series.xs
    if not xs or not xs[0] <= x <= xs[-1]:
        return None
    after = min(bisect_left(xs, x), len(xs) - 1)
    before = max(after - 1, 0)
    return series.ys[before if x - xs[before] < xs[after] - x else after]


def smoothed(ys: Sequence[float]) -> Sequence[float]:
    """The moving average over a fiftieth of the points, at least over five of them."""
    return plot.smooth(ys, 1 - 1 / max(len(ys) / 50, _LEAST_SMOOTHED))
