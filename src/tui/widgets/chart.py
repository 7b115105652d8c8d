"""Curves over steps, drawn in braille dots; one line of blocks where there is no room."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from engine.chart.part import Part
from engine.chart.series import Level, Series, Shown
from engine.i18n import N_, _
from tui.widgets import sparkline
from tui.widgets.cells import fit
from tui.widgets.drawing import COLOURS, NARROW, Drawing


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
        *(f"chart--line-{n}" for n in range(COLOURS)),
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "log", N_("log scale"), id="chart.log"),
        Binding("e", "smooth", N_("smooth"), id="chart.smooth"),
        Binding("left", "cursor(-1)", N_("cursor left"), show=False, id="chart.left"),
        Binding("right", "cursor(1)", N_("cursor right"), show=False, id="chart.right"),
        Binding(
            "shift+left", "cursor(-10)", N_("cursor far left"), show=False, id="chart.far-left"
        ),
        Binding(
            "shift+right", "cursor(10)", N_("cursor far right"), show=False, id="chart.far-right"
        ),
        Binding("plus", "zoom(0.5)", N_("zoom in"), id="chart.in"),
        Binding("equals_sign", "zoom(0.5)", N_("zoom in"), show=False, id="chart.in-too"),
        Binding("minus", "zoom(2)", N_("zoom out"), id="chart.out"),
        Binding("left_square_bracket", "pan(-1)", N_("earlier"), show=False, id="chart.earlier"),
        Binding("right_square_bracket", "pan(1)", N_("later"), show=False, id="chart.later"),
        Binding("0", "whole", N_("whole"), show=False, id="chart.whole"),
    ]

    log_y: reactive[bool] = reactive(False, repaint=False)
    """Whether the y axis is logarithmic."""
    smooth: reactive[bool] = reactive(False, repaint=False)
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
        self._shown = Shown(series)
        self._drawn: list[Strip] = []
        self._drawn_for: object = None
        self._styles: dict[str, Style] = {}

    def show(self, series: Sequence[Series], levels: Sequence[Level] = ()) -> None:
        """Draw these lines instead. The first is drawn on top of the others, unbroken.

        Args:
            series: the lines.
            levels: values to hold them against, drawn below them.
        """
        self._shown.series, self._shown.levels = series, levels
        self._draw_anew()

    @property
    def shown(self) -> Shown:
        """What is drawn, and how."""
        return self._shown

    def action_cursor(self, columns: int) -> None:
        """Move the cursor, which shows the values at its step; it comes in at the right."""
        share = columns / max(self.size.width - NARROW // 2, 1)
        self._shown.part.move_cursor(self._shown.whole, share)
        self._draw_anew()

    def action_zoom(self, factor: float) -> None:
        """Show a shorter or longer part, around the cursor if there is one, else at the end."""
        self._shown.part.zoom(self._shown.whole, factor)
        self._draw_anew()

    def action_pan(self, direction: int) -> None:
        """Show what is before or after, by half of what is shown."""
        self._shown.part.pan(self._shown.whole, direction / 2)
        self._draw_anew()

    def action_whole(self) -> None:
        """Show all of it, without the cursor."""
        self.forget_part()
        self._draw_anew()

    def forget_part(self) -> None:
        """Show all of what is shown next, without the cursor."""
        self._shown.part = Part()

    def action_log(self) -> None:
        """Switch between a linear and a logarithmic y axis."""
        self.log_y = not self.log_y

    def action_smooth(self) -> None:
        """Switch smoothing on or off."""
        self.smooth = not self.smooth

    def watch_log_y(self) -> None:
        """Draw with the other axis."""
        self._shown.log_y = self.log_y
        self._draw_anew()

    def watch_smooth(self) -> None:
        """Draw the other lines."""
        self._shown.smooth = self.smooth
        self._draw_anew()

    def notify_style_update(self) -> None:
        """Colours may have changed."""
        self._drawn_for = None
        super().notify_style_update()

    # Drawing

    def _draw_anew(self) -> None:
        self._drawn_for = None
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """Line `y`; all lines are made at once and kept until something changes."""
        if self._drawn_for != self.size:
            self._drawn = self._draw(*self.size)
            self._drawn_for = self.size
        if y < len(self._drawn):
            return self._drawn[y]
        return Strip.blank(self.size.width, self.rich_style)

    def _draw(self, width: int, height: int) -> list[Strip]:
        self._styles.clear()
        if height <= 2:
            rows = sparkline.rows(self._shown, self._style, width, height)
        else:
            rows = Drawing(self._shown, self._style).rows(width, height)
        if not rows:
            rows = [[] for _row in range(max(height, 1))]
            words = fit(_("No values yet"), width, "center")
            rows[height // 2] = [Segment(words, self._style("axis"))]
        base = self._style()
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
