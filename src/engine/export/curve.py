"""The losses of a training as a picture beside the model's card (SVG)."""

from __future__ import annotations

import math
from collections.abc import Sequence

_WIDTH, _HEIGHT = 800, 320
_LEFT, _TOP, _RIGHT, _BOTTOM = 70, 20, 20, 40
_WIDE, _TALL = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
_LINES = 4
"""Lines across, the lowest and the highest value among them."""

_Point = tuple[float, float]


def svg(points: Sequence[tuple[int, float]]) -> str:
    """The curve of (step, loss), steps ascending; where a loss is not finite it is broken.

    Of many points each pixel's lowest and highest are kept: a mean would hide a spike.
    """
    values = [loss for _step, loss in points if math.isfinite(loss)]
    low, high = min(values, default=0.0), max(values, default=0.0)
    first, last = (points[0][0], points[-1][0]) if points else (0, 0)
    across, up = _WIDE / max(last - first, 1), _TALL / (high - low or 1)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        'font-family="sans-serif" font-size="13">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
    ]
    for number in range(_LINES if high > low else 1):
        value = high - number * (high - low) / (_LINES - 1)
        y = _TOP + (high - value) * up
        parts.append(f'<path d="M{_LEFT} {y:.1f}h{_WIDE}" stroke="#ddd"/>')
        parts.append(_words(_LEFT - 8, y + 4, "end", f"{value:.4g}"))
    parts.append(_words(_LEFT, _HEIGHT - 14, "start", f"step {first:,}"))
    parts.append(_words(_WIDTH - _RIGHT, _HEIGHT - 14, "end", f"{last:,}"))
    placed = [(_LEFT + (step - first) * across, _TOP + (high - loss) * up) for step, loss in points]
    for stroke in _strokes(placed):
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in stroke)
        parts.append(
            f'<path d="M{line} {line.rpartition(" ")[2]}" fill="none" stroke="#1f77b4" '
            'stroke-width="1.5" stroke-linecap="round"/>'
        )
    return "\n".join([*parts, "</svg>", ""])


def _strokes(points: Sequence[_Point]) -> list[list[_Point]]:
    """The pieces without a gap, each with at most two points in a pixel's column."""
    strokes: list[list[_Point]] = [[]]
    column: list[_Point] = []

    def close() -> None:
        ends = {min(column, key=lambda one: one[1]), max(column, key=lambda one: one[1])}
        strokes[-1] += sorted(ends)
        column.clear()

    for point in points:
        if column and (int(point[0]) != int(column[-1][0]) or not math.isfinite(point[1])):
            close()
        if math.isfinite(point[1]):
            column.append(point)
        elif strokes[-1]:
            strokes.append([])
    if column:
        close()
    return [stroke for stroke in strokes if stroke]


def _words(x: float, y: float, anchor: str, text: str) -> str:
    return f'<text x="{x}" y="{y:.1f}" text-anchor="{anchor}" fill="#333">{text}</text>'
