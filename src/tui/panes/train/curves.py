"""Which curve is drawn: the quantity that `m` cycles through, of one run or of several."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Sequence
from itertools import pairwise

from engine.chart.series import Level, Series
from engine.i18n import N_, _
from engine.run.state import Expected
from engine.text import one_line
from tui.panes.train.observer import Curve

METRICS = {
    "loss": N_("loss"),
    "lr": N_("learning rate"),
    "grad_norm": N_("gradient norm"),
    "time": N_("seconds a step"),
    "memory": N_("GPU memory, GB"),
    "speed": N_("tokens a second"),
    "util": N_("GPU use, %"),
    "temperature": N_("hottest GPU, °C"),
    "power": N_("GPU power, W"),
}
"""XTuner's name of each quantity, or the GPU samples', and ours; "speed" is reckoned from
XTuner's tokens and times, "memory" is in both."""
_SAMPLED = ("util", "temperature", "power")
_GB = 1e9
_MIB = 1024**2
"""XTuner's unit of memory."""


def series(runs: Sequence[tuple[str, Curve]], metric: str) -> list[Series]:
    """The lines of `metric`: all of one run, the foremost of each (name, curve) of several.

    The first is named by quantity and run, the others by that in which they differ from it.
    """
    lines = [(line, one_line(run)) for run, curve in runs for line in _lines(curve, metric)[:1]]
    if not lines:
        return []
    first, run = lines[0]
    head = Series(f"{first.name} {run}", first.xs, first.ys)
    if len(runs) == 1:
        return [head, *_lines(runs[0][1], metric)[1:]]
    return [head] + [
        Series(other if line.name == first.name else f"{line.name} {other}", line.xs, line.ys)
        for line, other in lines[1:]
    ]


def levels(
    runs: Sequence[tuple[str, Curve]], metric: str, expected: Expected | None
) -> list[Level]:
    """What the lines of one run are held against: for memory the estimate, and the card's size."""
    if metric != "memory" or len(runs) != 1:
        return []
    gpu = runs[0][1].gpu
    found = []
    if expected is not None:
        needed = expected.used if gpu.taken else expected.allocated
        found.append(Level(_("estimated"), needed / _GB))
    return [*found, Level(_("card"), gpu.total / _GB)] if gpu.total else found


def sources(curve: Curve, metric: str) -> tuple[object, ...]:
    """What `metric` is drawn from: while these are the same objects, so are the lines."""
    if metric in _SAMPLED:
        return (curve.gpu,)
    return (curve.step, curve.gpu) if metric == "memory" else (curve.step,)


def following(metric: str, curve: Curve | None) -> str:
    """The next quantity after `metric` of which `curve` has values (loss, if of none)."""
    names = list(METRICS)
    at = names.index(metric)
    for name in (*names[at + 1 :], *names[:at]):
        if curve is not None and _lines(curve, name):
            return name
    return "loss"


def _lines(curve: Curve, metric: str) -> list[Series]:
    """The lines of one run that have values, the foremost first, named by their quantity."""
    name, lines = _(METRICS[metric]), []
    if metric == "memory":
        sampled = curve.gpu.values.get("used", ())
        lines = [
            Series(name, curve.gpu.step, [value / _GB for value in sampled]),
            Series(
                _("tensors, GB"),
                curve.step,
                [value * _MIB / _GB for value in curve.values["memory"]],
            ),
        ]
    elif metric in _SAMPLED:
        lines = [Series(name, curve.gpu.step, curve.gpu.values.get(metric, ()))]
    else:
        values = _speed(curve) if metric == "speed" else curve.values[metric]
        lines = [Series(name, curve.step, values)]
    return [line for line in lines if _has_values(line.ys)]


def _has_values(values: Iterable[float]) -> bool:
    return any(map(math.isfinite, values))


def _speed(curve: Curve) -> array[float]:
    """Tokens a second, point by point; NaN where no tokens were counted, and at the first one."""
    tokens, times = curve.values["tokens"], curve.values["time"]
    speed = array("d", [math.nan] * min(len(tokens), 1))
    pairs = zip(pairwise(tokens), pairwise(curve.step), times[1:], strict=True)
    for (before, now), (last, step), seconds in pairs:
        spent = seconds * (step - last)
        # After a resume the count begins again.
        speed.append((now - before) / spent if now >= before and spent > 0 else math.nan)
    return speed
