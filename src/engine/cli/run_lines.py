"""How the command line shows a run: in one line, or in several."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from engine import text
from engine.i18n import _

if TYPE_CHECKING:
    from engine.run.folder import RunSummary


def short(summary: RunSummary) -> str:
    """The run in one line."""
    from engine.run.state import MARKS, spoken

    word = spoken(summary.state)
    if summary.state == "queued" and summary.waits:
        word += f" — {summary.waits}"
    parts = [MARKS[summary.state], summary.run, word]
    if summary.state != "queued":
        parts.append(f"{summary.step}/{'?' if summary.steps is None else summary.steps}")
    parts += [f"loss {summary.loss:.4f}"] if summary.loss is not None else []
    parts += [summary.reason] if summary.reason else []
    parts += [f"#{tag}" for tag in summary.tags]
    parts += [text.one_line(summary.note)] if summary.note else []
    return "  ".join(parts)


def others(lines: Sequence[str]) -> Iterator[str]:
    """What is typed on the nodes behind the first, by the lines of all; nothing for one node."""
    if len(lines) > 1:
        yield _("Start this on the other nodes:")
        yield from lines[1:]


def whole(summary: RunSummary) -> Iterator[str]:
    """The run with where it lies, since when, and its checkpoints."""
    yield short(summary)
    if summary.todo:
        yield "   " + summary.todo
    for alarm in summary.alarms:
        yield "   ! " + text.one_line(alarm)
    yield "   " + summary.dir
    if summary.job:
        yield "   " + _("job {job} of Slurm").format(job=summary.job)
    if summary.host and summary.host != platform.node():
        yield "   " + _("on {host}").format(host=summary.host)
    if summary.started is not None:
        began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(summary.started))
        took = "?" if summary.took is None else text.duration(summary.took)
        yield "   " + _("since {time}, {took}").format(time=began, took=took)
    for one in summary.checkpoints:
        loss = "" if one.loss is None else f"loss {one.loss:.4f}"
        half = "" if one.complete else _("half written")
        parts = (one.path.name, text.size(one.bytes), loss, half)
        yield "   " + "  ".join(part for part in parts if part)
