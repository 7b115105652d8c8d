"""How much a training takes: memory, disk, and time as one's own runs took it."""

from __future__ import annotations

from contextlib import nullcontext

import msgspec

from engine.config.checks import loaded
from engine.config.checks.start import Start
from engine.config.memory import estimate, past
from engine.config.memory.estimate import Estimate
from engine.config.memory.parts import Training
from engine.config.memory.past import Past, Told
from engine.config.memory.sizes import Shape
from engine.worker.client import WorkerClient


class Sizes(msgspec.Struct, frozen=True):
    """What could be told; None for what could not."""

    estimate: Estimate | None = None
    disk_bytes: int | None = None
    seconds: float | None = None
    """From the first step to the last."""
    seconds_like: str | None = None
    """The run of one's own that was as fast."""


def of(
    start: Start,
    *,
    steps: int | None,
    longest: int | None,
    runs: Past | None,
    worker: WorkerClient | None,
) -> Sizes:
    """The sizes of a training; nothing for a model of an unknown form.

    Args:
        start: the training.
        steps: iterations in all, where they were counted.
        longest: tokens of the longest row, where they were counted.
        runs: one's own finished runs.
        worker: a warm loader (`loaded.warm`); by default one is started, if there are runs.
    """
    place = estimate.place(start.config)
    planned = plan(start, longest)
    if place is None or planned is None:
        return Sizes()
    training, model = planned
    told = Told()
    if runs is not None:
        with nullcontext(worker) if worker else loaded.warm(start.settings) as loader:
            told = past.ask(runs, start, model, loader)
    needed = estimate.of(training, model, told.measured)
    if not steps:
        return Sizes(needed)
    disk = estimate.disk(start.config, model, steps=steps, folder=place, zero=start.zero)
    pace = told.pace
    if pace is None:
        return Sizes(needed, disk)
    return Sizes(needed, disk, pace.step_seconds * steps, pace.run)


def plan(start: Start, longest: int | None = None) -> tuple[Training, Shape] | None:
    """What decides the memory of `start`; None for a model of an unknown form.

    `longest`: tokens of the longest row, where they were counted.
    """
    place = estimate.place(start.config)
    model = estimate.shape(place) if place is not None else None
    if model is None:
        return None
    return past.of_start(start, model, longest), model
