"""The arithmetic of a chart: smoothing, reducing to pixel columns, ticks. No screen, no numpy."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from operator import le
from typing import NamedTuple

_HUGE = 1e300


class Bin(NamedTuple):
    """What a line does within one pixel column."""

    column: int
    first: float
    low: float
    high: float
    last: float


@dataclass
class Reduced:
    """A line as a chart of so many columns can show it.

    Attributes:
        strokes: pieces without a gap, their bins in ascending columns.
        bad: the columns with values that are not finite, and one such value.
        bad_count: how many values are not finite.
    """

    strokes: list[list[Bin]] = field(default_factory=list)
    bad: dict[int, float] = field(default_factory=dict)
    bad_count: int = 0


def reduce(
    xs: Sequence[float], ys: Sequence[float], start: float, stop: float, columns: int
) -> Reduced:
    """The lowest and highest value in each of `columns` pixel columns from `start` to `stop`.

    A mean would hide the spike that one looks for. The line breaks at values
    that are not finite, and where x goes back (a run resumed from an earlier step).
    """
    reduced = Reduced()
    scale = (columns - 1) / (stop - start) if stop > start else 0.0
    if scale and len(xs) > 4 * columns and all(map(le, xs, islice(xs, 1, None))):
        xs, ys = _least_and_greatest(xs, ys, start, scale, columns)
    stroke: list[Bin] = []
    column, first, low, high, last = -1, 0.0, 0.0, 0.0, 0.0
    isfinite = math.isfinite
    for x, y in zip(xs, ys, strict=False):
        if not start <= x <= stop:
            continue
        at = round((x - start) * scale)
        finite = isfinite(y)
        if finite and at == column:
            last = y
            if y < low:
                low = y
            elif y > high:
                high = y
            continue
        if column >= 0:
            stroke.append(Bin(column, first, low, high, last))
        if stroke and (not finite or at < column):
            reduced.strokes.append(stroke)
            stroke = []
        if finite:
            column, first, low, high, last = at, y, y, y, y
        else:
            column = -1
            reduced.bad_count += 1
            if not math.isnan(reduced.bad.get(at, 0.0)):
                reduced.bad[at] = y
    if column >= 0:
        stroke.append(Bin(column, first, low, high, last))
    if stroke:
        reduced.strokes.append(stroke)
    return reduced


def _least_and_greatest(
    xs: Sequence[float], ys: Sequence[float], start: float, scale: float, columns: int
) -> tuple[list[float], list[float]]:
    """At most four points a column that draw the same line: the first, lowest, highest and last.

    By slices, without a step of Python for each point: 100,000 of them in 3 ms.
    A column with values that are not finite keeps all of its points.
    """
    some_xs: list[float] = []
    some_ys: list[float] = []
    begin = bisect_left(xs, start)
    for column in range(columns):
        end = bisect_left(xs, start + (column + 0.5) / scale, begin)
        part = ys[begin:end]
        if len(part) > 4 and math.isfinite(sum(part)):
            some_ys += (part[0], min(part), max(part), part[-1])
            some_xs += (xs[begin],) * 4
        else:
            some_ys += part
            some_xs += xs[begin:end]
        begin = end
    return some_xs, some_ys


def smooth(ys: Iterable[float], weight: float) -> list[float]:
    """The exponential moving average, corrected for its start; what is not finite stays."""
    smoothed, mean, trust = [], 0.0, 0.0
    for y in ys:
        if math.isfinite(y):
            mean = mean * weight + y * (1 - weight)
            trust = trust * weight + (1 - weight)
            y = mean / trust
        smoothed.append(y)
    return smoothed


def logs(ys: Iterable[float]) -> list[float]:
    """Logarithms to base 10; 0 and below lie infinitely far down."""
    log10 = math.log10
    return [log10(y) if y > 0 else (y if math.isnan(y) else -math.inf) for y in ys]


def extent(values: Iterable[float]) -> tuple[float, float] | None:
    """The least and the greatest of the finite `values`; None if there is none."""
    known = values if isinstance(values, Sequence) else list(values)
    if known and math.isfinite(sum(known)):  # the usual case, at the speed of C
        return min(known), max(known)
    finite = [value for value in known if math.isfinite(value)]
    return (min(finite), max(finite)) if finite else None


def span(*lines: Sequence[float]) -> tuple[float, float]:
    """The least and the greatest of the values; a little apart if they are one."""
    ends = [end for end in map(extent, lines) if end is not None]
    low = min((low for low, _high in ends), default=0.0)
    high = max((high for _low, high in ends), default=1.0)
    # Neither the span nor its inverse may overflow.
    low, high = max(low, -_HUGE), min(high, _HUGE)
    if high - low > max(abs(high) * 1e-9, 1 / _HUGE):
        return low, high
    margin = abs(low) * 0.05 if abs(low) > 1 / _HUGE else 1.0
    return low - margin, high + margin


def rows(low: float, high: float, count: int) -> Callable[[float], int]:
    """What turns a value between `low` and `high` into one of `count` rows, 0 at the top."""
    scale = (count - 1) / (high - low)

    def row(value: float) -> int:
        # What lies between two rows is not to waver with the last digit.
        return min(max(round((high - value) * scale + 1e-6), 0), count - 1)

    return row


def bad_mark(value: float) -> str:
    """The mark of a value that is not finite."""
    return "×" if math.isnan(value) else "↑" if value > 0 else "↓"


def ticks(low: float, high: float, most: int, least_step: float = 0.0) -> list[float]:
    """At most `most` round values (multiples of 1, 2 or 5) from `low` to `high`."""
    span = high - low
    if not (span > 0 and math.isfinite(span)) or most < 1:
        return [low]
    step = max(10.0 ** math.floor(math.log10(span / most)), least_step)
    for factor in (1, 2, 5, 10, 20, 50):
        size = step * factor
        begin, end = math.ceil(low / size - 1e-9), math.floor(high / size + 1e-9)
        if end - begin < most:
            return [n * size for n in range(begin, end + 1)] or [low]
    return [low]


def log_ticks(low: float, high: float, most: int) -> list[float]:
    """Round values from `low` to `high`, both above 0, for a logarithmic axis."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1,)):
        found = [f * 10.0**d for d in decades for f in factors if low <= f * 10.0**d <= high]
        if len(found) <= most:
            break
    if len(found) < 2:
        return ticks(low, high, most)
    return found[:: math.ceil(len(found) / most)]


def number(value: float, digits: int = 4) -> str:
    """`value` as short as an axis has room for: 0.731, 12.5k, 1.9e-4, nan."""
    size = abs(value)
    if not math.isfinite(value) or size == 0:
        return f"{value:g}"
    if size >= 1e9 or size < 1e-3:
        mantissa, _, power = f"{value:.{digits - 1}e}".partition("e")
        mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        return f"{mantissa}e{int(power)}"
    for unit, name in ((1e6, "M"), (1e4, "k")):
        if size >= unit:
            return f"{value / (1e6 if name == 'M' else 1e3):.{digits}g}{name}"
    return f"{value:.{digits}g}"
