"""The shell's single lines: the machine, the journey, the keys, the run in progress.

Each is a `Line`: one row of text that is drawn again only when it changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.text import Text
from textual import events
from textual.widgets import Static

from engine.i18n import _
from engine.text import duration, one_line, size
from tui.widgets.gauge import bar

if TYPE_CHECKING:
    from engine.machine.gpu import Gpu
    from engine.run.folder import RunSummary
    from tui.watch import Sight

MARKS = {
    "queued": "⏸",
    "starting": "◌",
    "training": "◐",
    "stopping": "◑",
    "finished": "✓",
    "failed": "✗",
    "stopped": "■",
    "lost": "?",
}
"""A run's state as one cell; always shown beside a word or a number, never colour alone."""

ACTIVE = frozenset({"queued", "starting", "training", "stopping"})
STYLES = {"failed": "red", "lost": "red", "finished": "green", "training": "cyan"}


class Line(Static):
    """One row of text. `say` it again as often as you like: equal text costs nothing."""

    DEFAULT_CSS = "Line { height: 1; width: 1fr; }"

    def __init__(self, id: str | None = None, classes: str | None = None) -> None:
        super().__init__("", id=id, classes=classes, markup=False)
        self._said: tuple[str, str] = ("", "")
        self._parts = (Text(), Text())

    def say(self, left: Text | str, right: Text | str = "") -> None:
        """Show `left`, and `right` at the far end; what does not fit is cut from `left`."""
        parts = tuple(Text(part) if isinstance(part, str) else part for part in (left, right))
        self._parts = (parts[0], parts[1])
        key = (parts[0].markup, parts[1].markup)
        if key != self._said:
            self._said = key
            self._draw()

    def _draw(self) -> None:
        left, right = (part.copy() for part in self._parts)
        gap = 1 if right else 0
        room = max(self.size.width - right.cell_len - gap, 0)
        left.truncate(room, overflow="ellipsis", pad=True)
        self.update(Text.assemble(left, " " * gap, right), layout=False)

    def on_resize(self, _event: events.Resize) -> None:
        """The far end has moved."""
        self._draw()


def machine_line(sight: Sight, width: int) -> Text:
    """GPUs while they fit in `width` cells, else one summary; without GPUs the host."""
    if not sight.gpus.gpus:
        host = sight.host
        return Text.assemble(
            (_("no GPU"), "dim"),
            f"  CPU {host.cpu:3.0f}%  ",
            _("memory"),
            f" {bar(host.memory_used, host.memory_total, 6)} ",
            f"{size(host.memory_used)}/{size(host.memory_total)} ",
        )
    cells = Text("  ").join(_gpu(one) for one in sight.gpus.gpus)
    if cells.cell_len + 1 <= width:
        return cells.append(" ")
    count = len(sight.gpus.gpus)
    used = sum(one.used for one in sight.gpus.gpus)
    total = sum(one.total for one in sight.gpus.gpus)
    busy = sum(1 for one in sight.gpus.gpus if (one.util or 0) >= 5)
    return Text(
        f"{count} GPU {bar(used, total, 8)} {size(used)}/{size(total)}  "
        + _("{busy} busy").format(busy=busy)
        + " "
    )


def _gpu(one: Gpu) -> Text:
    text = Text(f"GPU{one.index} {bar(one.used, one.total, 8)} {size(one.used)}/{size(one.total)}")
    if one.util is not None:
        text.append(f" {one.util:3d}%")
    if one.temperature is not None:
        text.append(f" {one.temperature}°", style="red" if one.temperature >= 85 else "")
    return text


def run_line(run: RunSummary) -> Text:
    """One run in one line: mark, name, where it stands."""
    text = Text.assemble((f" {MARKS[run.state]} ", STYLES.get(run.state, "")))
    text.append(one_line(run.run) + "  ")
    if run.alarms:
        text.append("! " + one_line(run.alarms[-1], marks=False) + "  ", style="red")
    if run.step is not None and run.steps:
        text.append(_("step {step}/{steps}").format(step=run.step, steps=run.steps) + "  ")
    if run.loss is not None:
        text.append(f"loss {run.loss:.3f}  ")
    if run.state in ACTIVE and run.eta is not None:
        text.append(_("{time} left").format(time=duration(run.eta)))
    elif run.reason:
        text.append(one_line(run.reason, marks=False), style="dim")
    return text


def tabs_line(titles: list[tuple[str, str]], current: int, width: int) -> Text:
    """The journey: number, name and badge of each step, the current one reversed."""
    room = sum(cell_len(f" {name} {badge} ") + 3 for name, badge in titles) <= width
    text = Text()
    for index, (name, badge) in enumerate(titles):
        shown = f" {index + 1} {name} {badge} " if badge else f" {index + 1} {name} "
        if not room and index != current:
            shown = f" {index + 1} {name} " + (badge[:1] + " " if badge else "")
        text.append(shown, style="reverse bold" if index == current else "")
    return text
