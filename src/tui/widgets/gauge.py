"""Gauges as text: a bar costs a few bytes to redraw, where a widget of its own costs hundreds."""

from __future__ import annotations

import math

from textual.content import Content
from textual.widgets import Static

from engine.text import one_line

_LEVELS = "▁▂▃▄▅▆▇"
_UNKNOWN = "╌"


def bar(used: float | None, total: float | None, width: int) -> str:
    """`width` cells that show `used` of `total`: ``▇▇▇▄▁▁▁▁``.

    The cell where the filled part ends shows the rest in sixths. Anything
    above 0 shows, and only a full one looks full. An unknown or senseless
    value (None, NaN, a total of 0) gives a dashed bar.
    """
    if width <= 0:
        return ""
    if used is None or total is None or not (math.isfinite(used) and total > 0):
        return _UNKNOWN * width
    steps = len(_LEVELS) - 1
    whole = width * steps
    filled = round(min(max(used / total, 0.0), 1.0) * whole)
    if 0 < used < total:
        filled = min(max(filled, 1), whole - 1)
    cells, rest = divmod(filled, steps)
    partial = _LEVELS[rest] if rest else ""
    return (_LEVELS[-1] * cells + partial).ljust(width, _LEVELS[0])


class GaugeLine(Static):
    """One line of text that is redrawn only when it changes, and never laid out again."""

    DEFAULT_CSS = """
    GaugeLine {
        height: 1;
        text-wrap: nowrap;
        text-overflow: ellipsis;
        &.-warning { color: $text-warning; }
        &.-error { color: $text-error; text-style: bold; }
    }
    """

    def __init__(
        self,
        text: str | Content = "",
        *,
        name: str | None = None,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        self._shown = _content(text)
        super().__init__(self._shown, name=name, id=id, classes=classes, markup=False)

    def show(self, text: str | Content, level: str = "") -> None:
        """Show `text`; `level` is "", "warning" or "error" and colours the line.

        Colour never speaks alone: the text must say it too.
        """
        for name in ("warning", "error"):
            self.set_class(name == level, f"-{name}")
        content = _content(text)
        # Content compares by its text alone; the spans carry its colours.
        if content == self._shown and content.spans == self._shown.spans:
            return
        self._shown = content
        self.update(content, layout=False)


def _content(text: str | Content) -> Content:
    return text if isinstance(text, Content) else Content(one_line(text))
