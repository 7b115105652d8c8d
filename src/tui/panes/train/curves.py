"""Which curve is drawn: the quantity that `m` cycles through, of one run or of several."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable
from itertools import pairwise

from engine.i18n import N_
from tui.panes.train.observer import Curve
from tui.widgets.series import Series

METRICS = {
    "loss": N_("loss"),
    "lr": N_("learning rate"),
    "grad_norm": N_("gradient norm"),
    "time": N_("seconds a step"),
    "memory": N_("GPU memory, MB"),
    "speed": N_("tokens a second"),
}
"""XTuner's name of each quantity, and ours; "speed" is reckoned from its tokens and times."""


def series(curves: Iterable[tuple[str, Curve]], metric: str) -> list[Series]:
    """The lines of `metric`, one a run (name, curve), the first on top."""
    return [Series(name, curve.step, _values(curve, metric)) for name, curve in curves]


def following(metric: str, curve: Curve | None) -> str:
    """The next quantity after `metric` of which `curve` has values (loss, if of none)."""
    names = list(METRICS)
    at = names.index(metric)
    for name in (*names[at + 1 :], *names[:at]):
        if curve is not None and any(map(math.isfinite, _values(curve, name))):
            return name
    return "loss"


def _values(curve: Curve, name: str) -> array[float]:
    return _speed(curve) if name == "speed" else curve.values[name]


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
