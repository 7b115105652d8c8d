"""Signs of life of a run: when it was last heard, where it is, whether anything computes."""

from __future__ import annotations

import re
import time
from pathlib import Path

import psutil

from engine.machine import gpu
from engine.machine.devices import GpuId
from engine.run import checkpoints, processes, state
from engine.run.points import History

BUSY_GPU, BUSY_CORES = 5, 0.5
"""From what percent, or how many cores, on something computes."""
_TAIL = 64 * 1024

_PHASES = {
    "model": rb"- INFO - Config:|Loading checkpoint shards",
    "data": rb"Hooks will be executed|\d+%\|.*examples/s",
    "first_step": rb"Checkpoints will be saved to|before_train in EvaluateChatHook",
    "step": rb"Iter\(train\)",
    "saving": rb"Saving checkpoint at",
    "answering": rb"after_\w+ in EvaluateChatHook|Sample output:|Iter\(val\)",
}
"""What the last of these lines in the log says about where the run is."""
_MARK = re.compile(b"|".join(b"(?P<%s>%s)" % (k.encode(), v) for k, v in _PHASES.items()))


def phase(log: Path, start: int) -> str:
    """Where the run is by the end of its log (its part from byte `start` on); "" if unknown."""
    try:
        with log.open("rb") as file:
            end = file.seek(0, 2)
            begin = max(start, end - _TAIL)
            file.seek(begin)
            data = file.read()
    except OSError:
        return ""
    marks = [found.lastgroup for found in _MARK.finditer(data)]
    if marks:
        return marks[-1] or ""
    return "imports" if begin == start else ""


class Quiet:
    """How long nothing was heard, in watched seconds."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._heard: tuple[object, ...] = ()
        self.step = 0.0
        """Since the last point of the curve."""
        self.word = 0.0
        """Since the last sign of life of any kind."""

    def look(self, passed: float, history: History) -> None:
        """Look for signs of life, `passed` seconds after the last look."""
        at = (len(history), history.step[-1] if history else 0)
        log = size(self._folder / state.LOG)
        heard = (at, log, checkpoints.growing(self._folder))
        self.word = self.word + passed if heard == self._heard else 0.0
        self.step = self.step + passed if self._heard and at == self._heard[0] else 0.0
        self._heard = heard


class Working:
    """Whether anything computed, from when it is first asked until `forget`."""

    def __init__(self, folder: Path, gpus: list[GpuId]) -> None:
        self._folder, self._gpus = folder, gpus
        self._began: tuple[float, float] | None = None
        self._util: list[int | None] = []

    def look(self) -> None:
        """Take a sample: some milliseconds, so only when something seems wrong."""
        if self._began is None:
            self._began = time.monotonic(), _cpu_seconds(self._folder)
        if self._gpus:
            seen = gpu.read(",".join(map(str, self._gpus))).gpus
            self._util += [one.util for one in seen] or [None]

    def forget(self) -> None:
        """All is well again."""
        self._began, self._util = None, []

    def gpus_idle(self) -> bool:
        """Whether no GPU of the run did anything; False when that cannot be told."""
        return bool(self._util) and not self._gpus_busy(unknown=True)

    def all_idle(self) -> bool:
        """Whether neither the run's GPUs nor its processes computed, as far as can be told."""
        if self._began is None or self._gpus_busy(unknown=False):
            return False
        began, seconds = self._began
        passed = time.monotonic() - began
        return passed > 10 and (_cpu_seconds(self._folder) - seconds) / passed < BUSY_CORES

    def _gpus_busy(self, unknown: bool) -> bool:
        return any(unknown if util is None else util > BUSY_GPU for util in self._util)


def size(path: Path) -> int:
    """Bytes of a file; 0 when it is not there."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _cpu_seconds(folder: Path) -> float:
    """What the run's processes on this machine have used of the processor so far."""
    total = 0.0
    for one in processes.of_run(folder):
        try:
            used = psutil.Process(one.pid).cpu_times()
        except psutil.Error:
            continue
        total += used.user + used.system
    return total
