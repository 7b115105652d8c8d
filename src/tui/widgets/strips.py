"""The shell's single lines: the machine, the journey, the keys, the run in progress.

Each is a `Line`: one row of text that is drawn again only when it changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.text import Text
from textual import events
from textual.geometry import Region
from textual.widgets import Static

from engine.i18n import _
from engine.run.state import LIVING, MARKS
from engine.text import duration, one_line, size
from tui.widgets.gauge import bar

if TYPE_CHECKING:
    from typing_extensions import Self

    from engine.machine.gpu import Gpu
    from engine.machine.host import Host
    from engine.run.folder import RunSummary
    from tui.watch import Sight

STYLES = {"failed": "red", "lost": "red", "finished": "green", "training": "cyan"}


class Line(Static):
    """One row of text. `say` it again as often as you like: equal text costs nothing."""

    DEFAULT_CSS = "Line { height: 1; width: 1fr; }"

    _changed: Region | None = None

    def __init__(self, id: str | None = None, classes: str | None = None) -> None:
        super().__init__("", id=id, classes=classes, markup=False)
        self._said: tuple[str, str] = ("", "")
        self._parts = (Text(), Text())
        self._drawn = Text()

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
        new, old = Text.assemble(left, " " * gap, right), self._drawn
        self._drawn = new
        # A figure has changed, as a rule: what is beside it need not cross the line again.
        self._changed = _difference(old, new) if old.spans == new.spans else None
        self.update(new, layout=False)
        self._changed = None

    def refresh(
        self, *regions: Region, repaint: bool = True, layout: bool = False, recompose: bool = False
    ) -> Self:
        """Draw again; while the text is changed, only where it differs."""
        if self._changed is not None and not regions and not layout:
            regions = (self._changed,)
        return super().refresh(*regions, repaint=repaint, layout=layout, recompose=recompose)

    def on_resize(self, _event: events.Resize) -> None:
        """The far end has moved."""
        self._draw()


def _difference(old: Text, new: Text) -> Region | None:
    """The cells in which two lines of one width differ; None when they are of different width."""
    before, after = old.plain, new.plain
    if cell_len(before) != cell_len(after) or before == after:
        return None
    start = _shared(before, after)
    old_rest, new_rest = before[start:], after[start:]
    same = _shared(old_rest[::-1], new_rest[::-1])
    width = cell_len(new_rest[: len(new_rest) - same])
    # A wide character's half may have changed: one cell more.
    return Region(cell_len(after[:start]), 0, width + 1, 1)


def _shared(one: str, other: str) -> int:
    """How many characters they begin with in common."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


def machine_line(sight: Sight, width: int) -> Text:
    """GPUs, each in as many words as fit in `width` cells, or all in one; else the host."""
    gpus = sight.gpus.gpus
    if not gpus:
        return _host_line(sight.host, width)
    for cell, first in ((_gpu, ""), (_short_gpu, "GPU  ")):
        cells = Text(first).append(Text("  ").join(cell(one) for one in gpus)).append(" ")
        if cells.cell_len <= width:
            return cells
    used, total = sum(one.used for one in gpus), sum(one.total for one in gpus)
    line = f"{len(gpus)} GPU {bar(used, total, 8)} {size(used)}/{size(total)} "
    busy = [_is_busy(one) for one in gpus]
    if None not in busy:
        line += " " + _("{busy} busy").format(busy=sum(map(bool, busy))) + " "
    return Text(line)


def _host_line(host: Host, width: int) -> Text:
    """Where there is no GPU: what runs on the CPU, as much of it as fits."""
    line = Text.assemble((_("no GPU"), "dim"), f"  CPU {5 * round(host.cpu / 5):3d}% ")
    for more in (
        f" {_('memory')} {bar(host.memory_used, host.memory_total, 6)} ",
        f"{size(host.memory_used)}/{size(host.memory_total)} ",
    ):
        if line.cell_len + cell_len(more) > width:
            break
        line.append(more)
    return line


_HOT = 85
"""Degrees Celsius."""


def _gpu(one: Gpu) -> Text:
    text = Text(f"GPU{one.id} {bar(one.used, one.total, 8)} {size(one.used)}/{size(one.total)}")
    if one.util is not None:
        text.append(f" {one.util:3d}%")
    if one.temperature is not None:
        text.append(f" {one.temperature}°", style="red" if one.temperature >= _HOT else "")
    return text


def _short_gpu(one: Gpu) -> Text:
    util = "" if one.util is None else f" {one.util:3d}%"
    hot = one.temperature is not None and one.temperature >= _HOT
    return Text(f"{one.id} {bar(one.used, one.total, 4)}{util}", style="red" if hot else "")


def _is_busy(one: Gpu) -> bool | None:
    """Whether something runs there; None where that is not told (MIG tells its processes only)."""
    if one.util is not None:
        return one.util >= 5
    return None if one.processes is None else bool(one.processes)


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
    if run.state in LIVING and run.eta is not None:
        text.append(_("{time} left").format(time=duration(run.eta)))
    elif run.reason:
        text.append(one_line(run.reason, marks=False), style="dim")
    return text


def keys_line(keys: Sequence[str], width: int) -> str:
    """As many of `keys` as fit, whole; F1 has the others."""
    line = ""
    for at, key in enumerate(keys):
        more = "" if at == len(keys) - 1 else "  …"
        if cell_len(f"{line}  {key}{more}") > width:
            return f"{line}  …"
        line += f"  {key}"
    return line


def tabs_line(titles: list[tuple[str, str]], current: int, width: int) -> Text:
    """The journey: number, name and badge of each step, the current one reversed and whole.

    Of the others as much as there is room for.
    """
    whole = [_tab(number, *title) for number, title in enumerate(titles, 1)]
    shown = list(whole)
    if _cells(shown) > width:
        shown = [_tab(number, name, badge[:1]) for number, (name, badge) in enumerate(titles, 1)]
        shown[current] = whole[current]
    far = sorted(range(len(titles)), key=lambda at: abs(at - current), reverse=True)
    for at in far[:-1]:
        if _cells(shown) > width:
            shown[at] = _tab(at + 1, "", titles[at][1][:1])
    text = Text()
    for at, tab in enumerate(shown):
        text.append(tab, style="reverse bold" if at == current else "")
    return text


def _cells(parts: Sequence[str]) -> int:
    return sum(map(cell_len, parts))


def _tab(number: int, name: str, badge: str) -> str:
    return " ".join(filter(None, (f" {number}", name, badge))) + " "
