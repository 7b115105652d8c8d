"""The lines of a chart."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from tui.widgets import plot

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


def part(series: Series, start: float, stop: float) -> Series:
    """The points of `series` from `start` to `stop`; all of them, where x goes back."""
    xs = series.xs
    if not xs or (xs[0] >= start and xs[-1] <= stop) or xs[0] > xs[-1]:
        return series
    begin, end = bisect_left(xs, start), bisect_right(xs, stop)
    return Series(series.name, xs[begin:end], series.ys[begin:end])


def at(series: Series, x: float) -> float | None:
    """The value of the point next to `x`."""
    xs = series.xs
    if not xs:
        return None
    after = min(bisect_left(xs, x), len(xs) - 1)
    before = max(after - 1, 0)
    return series.ys[before if x - xs[before] < xs[after] - x else after]


def smoothed(ys: Sequence[float]) -> Sequence[float]:
    """The moving average over a fiftieth of the points, at least over five of them."""
    return plot.smooth(ys, 1 - 1 / max(len(ys) / 50, _LEAST_SMOOTHED))
