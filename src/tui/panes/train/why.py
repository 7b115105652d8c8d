"""Why a run ended as it did: the reason, what to do, and the end of its log."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.text import Text

from engine.i18n import _
from engine.run import queue, reasons
from engine.run.folder import RunFolder
from engine.run.levels import level_at
from engine.run.log import LogFollower
from engine.run.state import spoken
from engine.text import clean
from tui.panes.train.words import clock

TAIL = 64 * 1024
"""Bytes of the log's end that are shown."""
_STYLES = {"error": "red", "warning": "yellow"}


def why_lines(folder: Path) -> Iterator[str | Text]:
    """Lines for a reading screen. Reads files."""
    run = RunFolder(folder)
    at, record = run.summary(), run.record
    yield Text(spoken(at.state) + (f": {clean(at.reason)}" if at.reason else ""), "bold")
    if at.waits:
        yield clean(queue.say(run))
    if at.todo:
        yield clean(at.todo)
    yield ""
    yield _("step {step} of {steps}").format(step=at.step, steps=at.steps or "?")
    if at.ended is not None:
        yield _("ended {time}").format(time=clock(at.ended))
    if at.exit is not None:
        yield _("exit status {status}").format(status=at.exit)
    saved = [one.path.name for one in at.checkpoints if one.complete]
    yield _("checkpoints: {names}").format(names=", ".join(saved) or _("none"))
    for event in run.events():
        if event.event == "moved":
            yield _("moved here from {path}, {time}").format(
                path=clean(event.path), time=clock(event.time)
            )
    if run.torn:
        yield clean(run.torn)
    if said := [*_traceback(run)]:
        yield from ("", *said, "")
    if record is not None:
        yield _("config: {path}").format(path=clean(record.source or str(run.config)))
        yield _("command: {command}").format(command=clean(" ".join(record.command)))
    yield ""
    yield Text(_("The end of {path}").format(path=clean(str(run.log))), "bold")
    yield from _log_end(run)


def _traceback(run: RunFolder) -> Iterator[str | Text]:
    """What the rank said that failed first; the log's end is often another's."""
    now = run.state
    lines = []
    if now.cause is not None and "rank" in now.cause.values:
        lines = reasons.traceback(reasons.tail(run.log, now.log_start), now.cause)
    if now.cause is not None and lines:
        rank = now.cause.values["rank"]
        yield Text(_("The error of rank {rank}").format(rank=clean(rank)), "bold")
        yield from (Text(line, "red") for line in lines)


def _log_end(run: RunFolder) -> Iterator[Text]:
    follower = LogFollower(run.log, tail=TAIL)
    lines = [*follower.lines(), follower.rest()]
    for index, line in enumerate(lines):
        yield Text(line, _STYLES.get(level_at(index, lines.__getitem__), ""))
