"""What a run's GPUs did over its steps, from the samples that its supervisor takes.

A sample (a line of ``metrics/gpu.jsonl``) knows the last step that was logged
before it; between two logged steps the samples lie as evenly as they were
taken. After a resume from an earlier step the samples of the lost attempt give
way, as its points do. All cards of a run are told as one: the fullest and the
hottest of them, their mean use, the power of all.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable
from itertools import groupby
from operator import attrgetter
from pathlib import Path

import msgspec

from engine.run import state

_PIECE = 1 << 22
"""Bytes that are read at once."""


class _Card(msgspec.Struct, gc=False):
    """One GPU of a sample, in the units of `engine.machine.gpu.Gpu`."""

    used: int
    total: int
    util: float | None = None
    temperature: float | None = None
    power: float | None = None


class _Sample(msgspec.Struct, gc=False):
    gpus: list[_Card]
    step: int | None = None
    """None until this start of the run has logged one."""


_decoder = msgspec.json.Decoder(_Sample)
_step, _used = attrgetter("step"), attrgetter("used")


def _together(put: Callable[[list[float]], float]) -> Callable[[list[float | None]], float]:
    """`put` of the values that are known; NaN where none is."""

    def together(values: list[float | None]) -> float:
        known = [value for value in values if value is not None]
        return put(known) if known else math.nan

    return together


_TOGETHER = {
    "util": _together(lambda known: sum(known) / len(known)),
    "temperature": _together(max),
    "power": _together(sum),
}
"""What several cards come to."""


class Samples:
    """All samples so far, as parallel arrays; NaN where the card or the driver told nothing."""

    def __init__(self) -> None:
        self.step = array("d")
        """The step at which each was taken, not whole between two that were logged."""
        self.values = {name: array("d") for name in ("used", *_TOGETHER)}
        """used: bytes on the fullest card; util: percent, in the mean; temperature: degrees
        Celsius of the hottest; power: watts of all."""
        self.taken = 0
        """How many there were in all, those of lost attempts too: it grows with each look."""
        self.peak = 0
        """The most bytes that were in use on one card, in lost attempts too."""
        self.total = 0
        """Bytes that this card has."""
        self._last = 0.0
        """The last step that a sample knew."""
        self._waiting = 0
        """Samples at the end that were taken since: the next step tells where they lie."""

    def __len__(self) -> int:
        return len(self.step)

    def add(self, samples: Iterable[_Sample]) -> None:
        """Append them."""
        read = [sample for sample in samples if sample.gpus]
        if not read:
            return
        self.taken += len(read)
        self._append([sample.gpus for sample in read])
        for step, group in groupby(map(_step, read)):
            if step is not None and step != self._last:
                self._reach(step)
            count = sum(1 for _one in group)
            self.step.extend([self._last] * count)
            self._waiting += count

    def _append(self, samples: list[list[_Card]]) -> None:
        fullest = [max(cards, key=_used) for cards in samples]
        top = max(fullest, key=_used)
        if top.used >= self.peak:
            self.peak, self.total = top.used, top.total
        self.values["used"].extend(map(_used, fullest))
        for name, together in _TOGETHER.items():
            take = attrgetter(name)
            self.values[name].extend([together(list(map(take, cards))) for cards in samples])

    def _reach(self, step: int) -> None:
        """A step is logged: spread the samples that waited for it; a lost attempt's give way."""
        settled, start = len(self.step) - self._waiting, self._last
        if step < start:
            keep = bisect_left(self.step, step, 0, settled)
            for column in (self.step, *self.values.values()):
                del column[keep:settled]
            settled, start = keep, self.step[keep - 1] if keep else 0.0
        for number in range(self._waiting):
            share = (number + 1) / (self._waiting + 1)
            self.step[settled + number] = start + (step - start) * share
        self._last, self._waiting = float(step), 0


class Follower:
    """Reads what is new since the last look.

    Args:
        folder: the run's.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / state.GPU_METRICS
        self._offset = 0
        self._samples = Samples()

    def update(self) -> Samples:
        """Read on, and return all of it, the same object again; a torn last line waits."""
        try:
            if self._path.stat().st_size > self._offset:
                self._read_on()
        except OSError:  # on a CPU, or of plain XTuner, there is no such file
            pass
        return self._samples

    def _read_on(self) -> None:
        with self._path.open("rb") as file:
            file.seek(self._offset)
            while piece := file.read(_PIECE) + file.readline():
                lines = piece[: piece.rfind(b"\n") + 1]
                self._samples.add(_parse(lines))
                self._offset += len(lines)


def _parse(lines: bytes) -> Iterable[_Sample]:
    try:
        return _decoder.decode_lines(lines)
    except msgspec.MsgspecError:  # one is cut short, by a full disk
        return filter(None, map(_parse_line, lines.split(b"\n")))


def _parse_line(line: bytes) -> _Sample | None:
    try:
        return _decoder.decode(line)
    except msgspec.MsgspecError:
        return None
