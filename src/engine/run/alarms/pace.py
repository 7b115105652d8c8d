"""Alarms that silence tells: no step for long, no first step, a node that is not heard.

What counts as a sign of life is a new point of the curve, for a step; and any
output, or a checkpoint that grows, for everything between the steps. Time is
what was really watched: a machine that slept, or whose clock was set, makes no
alarm.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

from engine.machine.devices import GpuId
from engine.run import state
from engine.run.alarms.signs import Quiet, Working, phase, size
from engine.run.points import History
from engine.run.state import Alarm
from engine.text import duration


class Limit(NamedTuple):
    """Silence that is still normal: `least` seconds, or so many times the usual, if longer."""

    least: float
    times: float

    def over(self, silence: float, usual: float) -> bool:
        """Whether `silence` seconds are more than that."""
        return silence >= max(self.least, self.times * usual)


STALL = Limit(300, 10)
"""Between two points of the curve. Other programs slow a machine down three times over, and an
epoch's end starts new loaders; ten times and five minutes are neither."""
STALL_IDLE = Limit(120, 5)
"""The same where no GPU of the run did anything meanwhile: nothing computes there."""
STALL_LOUD = Limit(1800, 30)
"""The same, whatever is said meanwhile: some libraries complain for ever."""
PAUSES = {"saving": 600.0, "answering": 1200.0}
"""While a checkpoint is saved, without it growing (ZeRO-3 gathers the weights for minutes); and
between two answers of the evaluation (600 tokens, at half a token a second)."""
HANG = 600.0
"""Without a word before the first step, nothing computing: XTuner's longest wordless work,
quantizing and DeepSpeed's start, takes a minute, and then the processor is busy."""
HANG_BUSY = 3600.0
"""The same with something computing: ten steps of six minutes, before the first is logged."""
NODE = 90.0
"""A node's pulse comes every 15 s (`engine.train.pulse`); network disks tell it late."""
_RECENT = 20


class Pace:
    """Stall and hang of one start of a run, from before its trainer starts.

    Args:
        folder: the run's.
        gpus: those it uses here.
        nodes: how many machines it runs on.
    """

    def __init__(self, folder: Path, gpus: list[GpuId], nodes: int) -> None:
        self._folder, self._nodes = folder, nodes
        self._log_start = size(folder / state.LOG)
        self._quiet = Quiet(folder)
        self._working = Working(folder, gpus)
        self._alarm: Alarm | None = None

    def look(self, passed: float, history: History) -> dict[str, Alarm | None]:
        """Which of the alarms "stall" and "hang" holds, `passed` seconds after the last look."""
        self._quiet.look(passed, history)
        if self._alarm is not None and self._waited(self._alarm) == 0:
            self._alarm = None  # what it waited for has come
        if self._alarm is None:
            self._alarm = self._stall(history) if history else self._hang()
        holds = {} if self._alarm is None else {self._alarm.code: self._alarm}
        return {"stall": None, "hang": None} | holds

    def _waited(self, alarm: Alarm) -> float:
        step = alarm.code == "stall" and alarm.values.get("case") not in PAUSES
        return self._quiet.step if step else self._quiet.word

    def _stall(self, history: History) -> Alarm | None:
        quiet, gap = self._quiet, _usual_gap(history)
        silence = min(quiet.step, quiet.word)
        loud = STALL_LOUD.over(quiet.step, gap)
        if not loud and not STALL_IDLE.over(2 * silence, gap):
            self._working.forget()
            return None
        self._working.look()
        at = self._phase()
        if at in PAUSES:
            if quiet.word < PAUSES[at]:
                return None
            return Alarm("stall", {"case": at, "since": _ago(quiet.word)})
        idle = self._working.gpus_idle()
        if not loud and not (STALL_IDLE if idle else STALL).over(silence, gap):
            return None
        values = {"since": _ago(quiet.step), "usual": duration(gap)}
        return Alarm("stall", values | ({"case": "idle"} if idle else {}))

    def _hang(self) -> Alarm | None:
        silence = self._quiet.word
        if 2 * silence < HANG:
            self._working.forget()
            return None
        self._working.look()
        if silence < HANG or (silence < HANG_BUSY and not self._working.all_idle()):
            return None
        waits = self._nodes > 1 and not pulses(self._folder)
        return Alarm("hang", {"case": "nodes" if waits else self._phase(), "since": _ago(silence)})

    def _phase(self) -> str:
        return phase(self._folder / state.LOG, self._log_start)


def pulses(folder: Path) -> dict[int, float]:
    """When each node of the run in `folder` was last heard, by the clock of their common disk."""
    found = {}
    for file in (folder / state.PULSES).glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            found[int(file.name)] = file.stat().st_mtime
    return found


def silent_nodes(folder: Path, nodes: int) -> Alarm | None:
    """Nodes (numbered from 0) whose pulse is far behind the newest one."""
    heard = pulses(folder)
    newest = max(heard.values(), default=0.0)
    silent = [one for one in range(nodes) if newest - heard.get(one, newest) > NODE]
    if not silent:
        return None
    last = time.strftime("%m-%d %H:%M", time.localtime(max(heard[one] for one in silent)))
    return Alarm("node-silent", {"nodes": ", ".join(map(str, silent)), "since": last})


def _usual_gap(history: History) -> float:
    """Seconds between two points of the curve; 0 when that is not known."""
    steps, times = history.step, history["time"]
    last = range(max(1, len(steps) - _RECENT), len(steps))
    gaps = [times[at] * (steps[at] - steps[at - 1]) for at in last] or [times[0] * steps[0]]
    known = [gap for gap in gaps if gap > 0]
    return median(known) if known else 0.0


def _ago(seconds: float) -> str:
    return time.strftime("%m-%d %H:%M", time.localtime(time.time() - seconds))
