"""A chart as files: the values as CSV, and a picture as SVG and PNG.

Every browser shows the SVG. The PNG is made of it by resvg, which the light
install leaves out; see the extra "pictures".
"""

from __future__ import annotations

import csv
import io
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engine import files
from engine.chart.picture import FONTS, as_svg, words
from engine.chart.series import Series, Shown
from engine.i18n import _
from engine.text import one_line


@dataclass(frozen=True)
class Saved:
    """What was written."""

    path: Path
    """Without the ending."""
    endings: list[str]
    lack: str
    """What keeps the PNG from being made, or from being whole; "" where nothing does."""


def save(folder: Path, shown: Shown) -> Saved:
    """Write all values as ``NAME.csv``, what is seen of them as ``NAME.svg`` and ``NAME.png``.

    The name tells the line and the time. Without resvg there is no PNG.
    """
    files.private_folder(folder)
    name = re.sub(r"[^\w.-]+", "-", one_line(shown.series[0].name)).strip("-") or "chart"
    path = folder / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    svg = as_svg(shown)
    made = {".csv": as_csv(shown.series).encode(), ".svg": svg.encode()}
    try:
        made[".png"] = as_png(svg)
        lack = "" if _has_font() else _("The PNG has no words: there is no font on this machine.")
    except ImportError:
        lack = _("For a PNG as well: pip install resvg-py")
    for ending, content in made.items():
        with files.replacing(path.with_name(path.name + ending)) as file:
            file.write(content)
    return Saved(path, list(made), lack)


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


def as_png(svg: str) -> bytes:
    """A picture of `svg`, twice as large for sharp screens. Raises ImportError without resvg."""
    import resvg_py

    return bytes(resvg_py.svg_to_bytes(svg_string=svg, zoom=2))


def _has_font() -> bool:
    """Whether resvg finds a font to write with."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 20 20" font-family="{FONTS}">'
    return as_png(f"{head}{words('M', 2, 15)}</svg>") != as_png(f"{head}</svg>")
