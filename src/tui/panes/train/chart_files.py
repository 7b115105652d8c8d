"""A chart as files: the values as CSV, and a picture as SVG and PNG.

Every browser shows the SVG. The PNG is made of it by resvg, which the light
install leaves out; see the extra "pictures".
"""

from __future__ import annotations

import csv
import html
import io
import math
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine import files
from engine.i18n import _
from engine.text import one_line
from tui.widgets import plot
from tui.widgets.series import Level, Series

WIDTH, HEIGHT = 960, 540
_LEFT, _TOP, _RIGHT, _BOTTOM = 70, 24, 20, 40
_COLOURS = ("#1f77b4", "#d95f02", "#2ca02c", "#9467bd", "#8c564b")
_DASHES = ("", "8 4", "2 3")
_Place = Callable[[float, float], tuple[float, float]]


@dataclass(frozen=True)
class Saved:
    """What was written."""

    paths: list[Path]
    lack: str
    """What keeps the PNG from being made, or whole; "" where nothing does."""


def save(folder: Path, lines: Sequence[Series], levels: Sequence[Level], log_y: bool) -> Saved:
    """Write ``NAME.csv``, ``NAME.svg`` and, with resvg, ``NAME.png`` into `folder`.

    The name tells the line and the time.
    """
    files.private_folder(folder)
    name = re.sub(r"[^\w.-]+", "-", one_line(lines[0].name)).strip("-") or "chart"
    stem = f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    svg = as_svg(lines, levels, log_y)
    made = {".csv": as_csv(lines).encode(), ".svg": svg.encode()}
    try:
        made[".png"] = as_png(svg)
        lack = "" if _has_font() else _("The PNG has no words: there is no font on this machine.")
    except ImportError:
        lack = _("For a PNG as well: pip install 'tunedeck[pictures]'")
    paths = [folder / f"{stem}{ending}" for ending in made]
    for path, content in zip(paths, made.values(), strict=True):
        with files.replacing(path) as file:
            file.write(content)
    return Saved(paths, lack)


def as_csv(lines: Sequence[Series]) -> str:
    """A row for each step, a column for each line; empty where a line has no point."""
    columns = [dict(zip(line.xs, line.ys, strict=True)) for line in lines]
    steps = sorted({step for column in columns for step in column})
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["step", *(one_line(line.name) for line in lines)])
    for step in steps:
        writer.writerow([step, *(column.get(step, "") for column in columns)])
    return out.getvalue()


def as_svg(lines: Sequence[Series], levels: Sequence[Level], log_y: bool) -> str:
    """The lines with axes and names; spikes stay, values that are not finite are gaps."""
    start, stop = plot.extent([x for line in lines for x in line.xs]) or (0.0, 1.0)
    *shown, held = (
        plot.logs(ys) if log_y else ys
        for ys in (*(line.ys for line in lines), [level.y for level in levels])
    )
    low, high = plot.span(*shown, held)
    wide, tall = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - start) / (stop - start) if stop > start else 0.5
        return _LEFT + across * wide, _TOP + (high - y) / (high - low) * tall

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
    ]
    for value in plot.ticks(low, high, 6):
        _x, y = place(start, value)
        label = plot.number(10**value if log_y and abs(value) < 300 else value)
        parts.append(f'<path d="M{_LEFT} {y:.1f}h{wide}" stroke="#ddd"/>')
        parts.append(_words(label, _LEFT - 8, y + 4, "end"))
    for value in plot.ticks(start, stop, 8, least_step=1.0):
        x, _y = place(value, low)
        parts.append(_words(plot.number(value, 6), x, HEIGHT - 14, "middle"))
    for level, height in zip(levels, held, strict=True):
        if math.isfinite(height):
            _x, y = place(start, height)
            parts.append(
                f'<path d="M{_LEFT} {y:.1f}h{wide}" stroke="#888" stroke-dasharray="6 3"/>'
            )
            name = f"{one_line(level.name)} {plot.number(level.y)}"
            parts.append(_words(name, WIDTH - _RIGHT - 4, y - 4, "end", "#666"))
    for index, (line, ys) in enumerate(zip(lines, shown, strict=True)):
        colour = _COLOURS[index % len(_COLOURS)]
        dash = _DASHES[index % len(_DASHES)]
        style = f'fill="none" stroke="{colour}" stroke-width="1.5" stroke-dasharray="{dash}"'
        parts += [
            f'<path d="M{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}" {style}/>'
            for points in _strokes(line, ys, (start, stop), place)
        ]
        parts.append(
            _words(one_line(line.name), _LEFT + 12, _TOP + 18 * (index + 1), colour=colour)
        )
    return "\n".join([*parts, "</svg>", ""])


def as_png(svg: str) -> bytes:
    """A picture of `svg`, twice as large for sharp screens. Raises ImportError without resvg."""
    import resvg_py

    return bytes(resvg_py.svg_to_bytes(svg_string=svg, zoom=2))


def _has_font() -> bool:
    """Whether resvg finds a font to write with."""
    blank = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 20 20">{}</svg>'
    return as_png(blank.format(_words("M", 2, 15))) != as_png(blank.format(""))


def _strokes(
    line: Series, ys: Sequence[float], steps: tuple[float, float], place: _Place
) -> list[list[tuple[float, float]]]:
    columns = WIDTH - _LEFT - _RIGHT
    scale = (steps[1] - steps[0]) / max(columns - 1, 1)
    strokes = []
    for stroke in plot.reduce(line.xs, ys, *steps, columns).strokes:
        points = []
        for bin in stroke:
            x = steps[0] + bin.column * scale
            values = dict.fromkeys((bin.first, bin.low, bin.high, bin.last))
            points += [place(x, value) for value in values if math.isfinite(value)]
        strokes.append(points)
    return strokes


def _words(text: str, x: float, y: float, anchor: str = "start", colour: str = "#333") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">'
        f"{html.escape(text)}</text>"
    )
