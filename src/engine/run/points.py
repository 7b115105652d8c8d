"""The points of a run: what XTuner logged at each step."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from itertools import islice
from operator import attrgetter, lt

import msgspec


class Point(msgspec.Struct, gc=False):
    """A line of scalars.json; what is missing in it stays NaN."""

    step: int
    loss: float = math.nan
    lr: float = math.nan
    grad_norm: float = math.nan
    time: float = math.nan
    data_time: float = math.nan
    memory: float = math.nan
    tokens: float = math.nan


FIELDS = ("loss", "lr", "grad_norm", "time", "data_time", "memory", "tokens")


class History:
    """All points so far, as parallel arrays; NaN where XTuner wrote no (or no finite) value."""

    def __init__(self) -> None:
        self.step = array("q")
        self.values = {name: array("d") for name in FIELDS}
        self.named: set[str] = set()
        """Which of `FIELDS` were written at all: there, a NaN is a value and not a gap."""

    def __len__(self) -> int:
        return len(self.step)

    def __getitem__(self, name: str) -> array[float]:
        """The values of one of `FIELDS`, as long as ``step``."""
        return self.values[name]

    def add(self, lines: list[Point]) -> None:
        """Append points; older ones at their steps or later (of a lost attempt) are dropped."""
        steps = [line.step for line in lines]
        if all(map(lt, steps, islice(steps, 1, None))):
            self._append(lines)
        else:
            for line in lines:
                self._append([line])

    def _append(self, lines: list[Point]) -> None:
        """Append points of rising steps."""
        if not lines:
            return
        keep = bisect_left(self.step, lines[0].step)
        del self.step[keep:]
        self.step.extend(line.step for line in lines)
        for name, values in self.values.items():
            del values[keep:]
            values.extend(map(attrgetter(name), lines))
