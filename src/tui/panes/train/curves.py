"""Which curve is drawn: the quantity that `m` cycles through, of one run or of several."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable

from engine.i18n import N_
from tui.panes.train.observer import Curve
from tui.widgets.series import Series

METRICS = {
    "loss": N_("loss"),
    "lr": N_("learning rate"),
    "grad_norm": N_("gradient norm"),
    "time": N_("seconds a step"),
    "memory": N_("GPU memory, MB"),
}
"""XTuner's name of each quantity, and ours."""


def series(curves: Iterable[tuple[str, Curve]], metric: str) -> list[Series]:
    """The lines of `metric`, one a run (name, curve), the first on top."""
    return [Series(name, curve.step, curve.values[metric]) for name, curve in curves]


def following(metric: str, curve: Curve | None) -> str:
    """The next quantity after `metric` of which `curve` has values (loss, if of none)."""
    names = list(METRICS)
    at = names.index(metric)
    for name in (*names[at + 1 :], *names[:at]):
        if curve is not None and any(map(math.isfinite, _values(curve, name))):
            return name
    return "loss"


def _values(curve: Curve, name: str) -> array[float]:
    return curve.values[name]
