"""A run in words: its line in the list, its head, its figures, its GPUs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from rich.cells import cell_len
from rich.text import Text

from engine.chart.plot import number
from engine.i18n import N_, _
from engine.machine.gpu import Gpu, Gpus
from engine.run.folder import RunSummary
from engine.run.progress import Progress
from engine.run.state import MARKS, Expected, RunRecord, spoken
from engine.text import duration, one_line, size
from tui.panes.train.observer import Curve, Run
from tui.widgets.cells import middle
from tui.widgets.gauge import bar
from tui.widgets.strips import STYLES
from tui.widgets.table import Column, Kind

KINDS: dict[str, Kind] = {
    "queued": "muted",
    "stopped": "muted",
    "finished": "good",
    "failed": "error",
    "lost": "error",
}
_LEAST_NAME = 24
"""Cells that a run's name has in its head, however narrow the screen."""
GAUGES = 4
"""Lines with gauges of GPUs."""
_PROCESSES = 3
"""Processes of a GPU that are named."""
_TREND = 5
"""Points on either side that tell whether the loss falls."""


def columns(wide: bool) -> tuple[Column, ...]:
    """Of the list of runs, which has all the width, or a column beside the run."""
    name = Column(N_("run"), 15 if wide else 24, keeps_end=True)
    return Column("", 3), name, Column(N_("result"))


def row(run: Run, compared: bool, queue: Sequence[float]) -> list[str]:
    """Mark (with + when it is compared), name and result, for the list of runs.

    `queue`: the places of all runs that wait, in order.
    """
    mark = f" {MARKS[run.summary.state]}" + ("+" if compared else "")
    alarms = [f"  ! {one_line(alarm, marks=False)}" for alarm in run.summary.alarms[-1:]]
    return [mark, one_line(run.summary.run), "".join([result(run, queue), *alarms])]


def result(run: Run, queue: Sequence[float]) -> str:
    """What there is to say of a run in a few words."""
    at = run.summary
    word = spoken(at.state)
    if at.state == "training":
        parts = [percent(at) or word]
        parts += [_("{time} left").format(time=duration(at.eta))] if at.eta is not None else []
        parts += [f"loss {at.loss:.3f}"] if at.loss is not None else []
        return "  ".join(parts)
    if at.waits and at.state in ("queued", "lost"):
        if at.state == "queued" and at.place in queue and len(queue) > 1:
            place = queue.index(at.place) + 1
            word = _("queue {place}/{count}").format(place=place, count=len(queue))
        return f"{word}: {one_line(at.waits)}"
    if at.state == "finished":
        return word if at.loss is None else f"loss {at.loss:.3f}"
    if at.state in ("failed", "lost"):
        return f"{word}: {one_line(at.reason, marks=False)}" if at.reason else word
    if at.state == "stopped" and at.step and at.steps:
        return f"{word} {at.step}/{at.steps}"
    return word


def percent(run: RunSummary) -> str:
    """How far it is, "42%"; "" when that is not known."""
    return f"{100 * run.step // run.steps}%" if run.steps else ""


def head(run: Run, width: int) -> tuple[Text, str]:
    """Name, state and step; and when it ends or has ended. A long name leaves room for them."""
    at = run.summary
    text = Text(f" {MARKS[at.state]} ", style=STYLES.get(at.state, ""))
    text.append(middle(one_line(at.run), max(width // 3, _LEAST_NAME)), style="bold")
    text.append(f"  {spoken(at.state)}")
    if at.steps:
        text.append(f" {at.step}/{at.steps}  {percent(at)}")
    elif at.step:
        text.append(f" {at.step}")
    if at.alarms:
        text.append("  ! " + one_line(at.alarms[-1], marks=False), style="red")
    if at.reason and at.state in ("failed", "lost"):
        text.append("  " + one_line(at.reason, marks=False), STYLES.get(at.state, ""))
    noted = [*(f"#{one_line(tag)}" for tag in at.tags), one_line(at.note)]
    text.append("  " + " ".join(noted) if any(noted) else "", "dim")
    return text, "  ".join([*_times(run), ""])


def _times(run: Run) -> Iterator[str]:
    at = run.summary
    if at.eta is not None and at.state == "training":
        yield _("{time} left").format(time=duration(at.eta))
    if at.started is None:
        return
    if run.living:
        yield _("since {time}").format(time=clock(at.started))
    elif at.ended is not None:
        if at.took is not None:
            yield _("took {time}").format(time=duration(at.took))
        yield _("until {time}").format(time=clock(at.ended))


def clock(seconds: float) -> str:
    """A time of day; with the date when it is not today's."""
    then, now = time.localtime(seconds), time.localtime()
    same_day = then[:3] == now[:3]
    return time.strftime("%H:%M" if same_day else "%m-%d %H:%M", then)


def figures(at: Progress, curve: Curve | None, expected: Expected | None, width: int) -> Text:
    """The newest values; those that are not known are left out.

    Args:
        at: where the run stands.
        curve: its points and samples.
        expected: the GPU memory that was reckoned for it.
        width: cells; where they are too few, what is least looked for gives way.
    """
    parts: dict[str, str] = {}
    if at.loss is not None:
        parts["loss"] = f"loss {at.loss:.4g}{_trend(curve)}"
    elif at.step:
        parts["loss"] = _("! loss is not a number")
    if at.lr is not None:
        parts["lr"] = f"lr {number(at.lr, 3)}"
    if at.grad_norm:
        parts["grad"] = _("grad {value}").format(value=f"{at.grad_norm:.3g}")
    if at.step_time is not None:
        parts["pace"] = _("{seconds} s/step").format(seconds=f"{at.step_time:.3g}")
    if at.tokens_per_s is not None:
        parts["speed"] = _("{count} tok/s").format(count=thousands(at.tokens_per_s))
    if memory := peak(at, curve, expected):
        parts["memory"] = memory
    for gives_way in ("", "grad", "lr", "speed", "pace"):
        parts.pop(gives_way, None)
        for gap in ("   ", "  "):
            line = " " + gap.join(parts.values())
            if cell_len(line) <= width:
                return Text(line)
    return Text(line)


def peak(at: Progress, curve: Curve | None, expected: Expected | None) -> str:
    """The most GPU memory that was in use, against the card's size and the estimate; or ""."""
    gpu = curve.gpu if curve is not None else None
    if gpu is not None and gpu.total:
        words = _("peak {peak} of {total} GB").format(peak=_gb(gpu.peak), total=_gb(gpu.total))
        needed = expected.used if expected is not None else None
    elif at.memory:
        words = _("peak {peak} GB in tensors").format(peak=_gb(at.memory))
        needed = expected.allocated if expected is not None else None
    else:
        return ""
    return words + ("" if needed is None else _(", estimated {size}").format(size=_gb(needed)))


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f}"


def _trend(curve: Curve | None) -> str:
    """An arrow that says whether the loss falls or rises, over its last points."""
    values = curve.values["loss"] if curve is not None else ()
    if len(values) < 2 * _TREND:
        return ""
    last, before = sum(values[-_TREND:]), sum(values[-2 * _TREND : -_TREND])
    return " ↓" if last < before else " ↑" if last > before else ""


def thousands(value: float) -> str:
    """3.1k, 842."""
    return f"{value / 1000:.1f}k" if value >= 1000 else f"{value:.0f}"


def gauges(gpus: Gpus | None, record: RunRecord | None, user: str) -> list[str]:
    """Lines, `GAUGES` at most, for the GPUs that the run uses (all, for a run that is not ours).

    One a line; where they are more than lines, two, with less to say of each.
    """
    seen = gpus.gpus if gpus is not None else []
    ours = [one for one in seen if record is None or one.id in record.gpus]
    if len(ours) <= GAUGES:
        return [_gauge(one, user) for one in ours]
    cells = [_short_gauge(one) for one in ours]
    width = max(map(cell_len, cells))
    cells = [cell + " " * (width - cell_len(cell)) for cell in cells]
    lines = [" ".join(cells[at : at + 2]) for at in range(0, len(cells), 2)]
    more = len(cells) - 2 * GAUGES
    return lines[:GAUGES] if more <= 0 else [*lines[: GAUGES - 1], f"{lines[GAUGES - 1]} (+{more})"]


def _gauge(one: Gpu, user: str) -> str:
    parts = [f" GPU{one.id} {bar(one.used, one.total, 8)} {size(one.used)}/{size(one.total)}"]
    parts += [_("util {percent}%").format(percent=one.util)] if one.util is not None else []
    parts += [f"{one.temperature}°"] if one.temperature is not None else []
    parts += [f"{one.power:.0f}W"] if one.power is not None else []
    users = {process.user or "?" for process in one.processes or []}
    parts.append(" ".join(_("me") if name == user else one_line(name) for name in sorted(users)))
    return "  ".join(parts)


def _short_gauge(one: Gpu) -> str:
    parts = [f" GPU{one.id} {bar(one.used, one.total, 6)} {size(one.used)}/{size(one.total)}"]
    parts += [f"{one.util:3d}%"] if one.util is not None else []
    parts += [f"{one.temperature}°"] if one.temperature is not None else []
    return " ".join(parts)


def free_gpu(one: Gpu, user: str) -> str:
    """A GPU as one to choose: what is free there, and whose processes it has."""
    free = _("GPU{index}  {free} free of {total}").format(
        index=one.id, free=size(one.total - one.used), total=size(one.total)
    )
    parts = [free]
    if one.processes is None:
        parts.append(_("(processes cannot be listed)"))
    for process in (one.processes or [])[:_PROCESSES]:
        who = _("me") if process.user == user else process.user or "?"
        memory = "" if process.memory is None else " " + size(process.memory)
        parts.append(f"{one_line(who)}: {one_line(process.name) or process.pid}{memory}")
    parts += ["…"] if len(one.processes or []) > _PROCESSES else []
    return "  ".join([*parts, one_line(one.name)])
