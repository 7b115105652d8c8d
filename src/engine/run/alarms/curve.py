"""Alarms that the curve tells: not a number, zero, a jump, a learning rate that never rises.

Each check is called with the history so far whenever it has grown, and returns
its alarm as long as it holds. The thresholds have been held against real
histories of XTuner (tests/run/test_alarms_curve.py).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from statistics import median

from engine.run.points import History
from engine.run.state import Alarm

Check = Callable[[History], Alarm | None]

SMOOTHED = 10
"""Steps that a logged value is the mean of (mmengine's window): one bad step shows in ten."""
BAD_LOSSES = SMOOTHED
"""Steps from the first bad loss on: more than one window means more than one bad step, and a
model whose weights are not numbers never gets better by waiting."""
BAD_GRADIENTS = 3 * SMOOTHED
"""float16's loss scaling makes the first gradients overflow on purpose, halving its scale each
time: some ten in a row at the start and single ones later are normal, thirty are not."""
ZERO = 1e-6
"""A model that knows its few samples by heart still has a loss of 1e-4 or so."""
ZERO_STEPS = 2 * SMOOTHED

TAIL_POINTS = 5
TAIL_STEPS = 2 * SMOOTHED
"""A jump is one that lasts: so many points in a row, over so many steps, since one bad batch
lifts a whole window of means."""
REFERENCE = 100
"""Points before the tail that say what is usual; a fifth of them at least."""
NOISE = 8.0
"""Times the usual scatter (from the median deviation, which outliers do not move). The losses
of single samples scatter widely and lopsidedly; five in a row beyond this do not happen."""
RATIO, RISE = 2.0, 0.5
"""And at least twice the usual loss, half a nat more: less may be the data's next chapter."""

DEAD_RATE = 1e-8
"""No schedule for a language model peaks as low: where lr stays below, it is still at the
1e-5th part of itself that XTuner's warm-up starts from."""
DEAD_STEPS = 20
"""From the first point on: by then a warm-up has left its first value behind."""


class Streak:
    """A value that has been bad for some steps on end.

    Args:
        code: the alarm's.
        name: which of the history's values.
        bad: whether one is.
        steps: from the first bad point to the last, at the least.
    """

    def __init__(self, code: str, name: str, bad: Callable[[float], bool], steps: int) -> None:
        self._code, self._name, self._bad, self._steps = code, name, bad, steps
        self._alarm: Alarm | None = None

    def __call__(self, history: History) -> Alarm | None:
        """The alarm while the newest value is bad, and others before it were."""
        values = history[self._name]
        if not values or self._name not in history.named or not self._bad(values[-1]):
            self._alarm = None
        elif self._alarm is None:
            since = self._since(values, history.step)
            if since is not None:
                self._alarm = Alarm(self._code, {"step": str(since)})
        return self._alarm

    def _since(self, values: Sequence[float], steps: Sequence[int]) -> int | None:
        """The step that the streak has lasted from, once it is long enough."""
        at = len(values) - 1
        while at > 0 and self._bad(values[at - 1]):
            at -= 1
            if steps[-1] - steps[at] >= self._steps:
                return steps[at]
        return None


class Spike:
    """The loss has jumped above what it was, and stays there."""

    def __init__(self) -> None:
        self._alarm: Alarm | None = None
        self._back = 0.0

    def __call__(self, history: History) -> Alarm | None:
        """The alarm until the loss has come back at least half of the way."""
        loss, steps = history["loss"], history.step
        if not loss:
            return None
        start = min(len(loss) - TAIL_POINTS, bisect_right(steps, steps[-1] - TAIL_STEPS) - 1)
        if start < 0:
            return None
        tail = [value for value in loss[start:] if math.isfinite(value)]
        if len(tail) < TAIL_POINTS:
            return None  # not a number: that is another alarm
        if self._alarm is not None:
            if median(tail) < self._back:
                self._alarm = None
            return self._alarm
        usual = [value for value in loss[max(0, start - REFERENCE) : start] if math.isfinite(value)]
        if len(usual) < REFERENCE // 5 or _rising(history["lr"], start):
            return None
        before, limit = _limit(usual)
        if min(tail) > limit:
            self._back = (before + limit) / 2
            values = {"step": str(steps[start]), "before": f"{before:.3g}"}
            self._alarm = Alarm("loss-spike", values | {"after": f"{median(tail):.3g}"})
        return self._alarm


def _limit(usual: Sequence[float]) -> tuple[float, float]:
    """What the loss usually is, and the limit above which it has jumped."""
    before = median(usual)
    scatter = 1.4826 * median(abs(value - before) for value in usual)  # sigma, were it normal
    return before, max(before + NOISE * scatter, before + RISE, before * RATIO)


def _rising(rate: Sequence[float], start: int) -> bool:
    """Whether it is still warming up: the loss may do anything then."""
    return rate[-1] > rate[start] * 1.001


def lr_flat(history: History) -> Alarm | None:
    """The learning rate has never risen. Only for a run that begins at its first step."""
    rate, steps = history["lr"], history.step
    if not rate or steps[-1] - steps[0] < DEAD_STEPS:
        return None
    highest = max(rate)
    if highest < DEAD_RATE and rate[-1] <= 1.2 * rate[0]:
        return Alarm("lr-flat", {"lr": f"{highest:.2g}", "steps": str(steps[-1])})
    return None


def checks(fresh: bool) -> dict[str, Check]:
    """Checks for one start of a run, by code.

    Args:
        fresh: whether it begins at step 0. A run that goes on near its end has
            a tiny learning rate by right.
    """
    found: dict[str, Check] = {
        "loss-nan": Streak("loss-nan", "loss", _not_finite, BAD_LOSSES),
        "gradient-nan": Streak("gradient-nan", "grad_norm", _not_finite, BAD_GRADIENTS),
        "loss-zero": Streak("loss-zero", "loss", lambda value: abs(value) < ZERO, ZERO_STEPS),
        "loss-spike": Spike(),
    }
    return found | {"lr-flat": lr_flat} if fresh else found


def _not_finite(value: float) -> bool:
    return not math.isfinite(value)
