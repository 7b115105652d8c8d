"""What one's own finished runs tell about a training that is to come.

The runs themselves are another part's affair: whoever calls preflight hands them
in as `Past` (see `engine.joined.own_runs`).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Protocol

import msgspec

from engine.config.checks import deepspeed as check_deepspeed
from engine.config.checks import loaded
from engine.config.checks.start import Start
from engine.config.memory import estimate
from engine.config.memory import parts as memory_parts
from engine.config.memory.estimate import Measured
from engine.config.memory.parts import Training
from engine.config.memory.sizes import Shape
from engine.errors import Failed, Problem
from engine.machine.devices import GpuId
from engine.worker.client import WorkerClient

_LOOKED_AT = 8
"""Runs whose configs are loaded, the newest: some 30 ms each."""


class PastRun(msgspec.Struct, frozen=True):
    """A finished run of this machine."""

    name: str
    config: Path
    """The config that ran."""
    gpus: list[GpuId]
    deepspeed: str
    peak: int | None
    """The largest ``memory`` that it logged, in bytes; None on a CPU."""
    step_seconds: float | None
    """Seconds a step (one micro-batch), in the middle of its last steps."""
    processes: int | None = None
    """On all its nodes; None: one for each of `gpus`."""


class Past(Protocol):
    """What preflight asks of the part that knows the runs."""

    def runs(self) -> Iterator[PastRun]:
        """Finished runs of this machine, newest first."""


class Pace(msgspec.Struct, frozen=True):
    """How fast a run like this one was."""

    run: str
    step_seconds: float


class Told(msgspec.Struct, frozen=True):
    """What the past says."""

    measured: list[Measured] = []
    """Runs of the same model, by the same method; lengths and batches may differ."""
    pace: Pace | None = None
    """Of the newest run with the same work in a step, on the same kind of device."""


class Work(msgspec.Struct, frozen=True):
    """What a step of a training does."""

    model: Shape
    training: Training
    packed: bool
    """Every row of a batch is full."""
    rows: str
    """Where they come from, if they are not packed: the time then depends on their lengths."""
    on_cpu: bool

    def remembers(self, other: Work) -> bool:
        """Whether the other's memory was made of the same things."""
        return other.packed and not other.on_cpu and _ground(self) == _ground(other)


def _ground(work: Work) -> tuple[Shape, Training]:
    one = msgspec.structs.replace(work.training, batch=1, length=1, rank=1, padded=False)
    return work.model, one


def of_start(start: Start, model: Shape, longest: int | None = None) -> Training:
    """What decides the memory of `start`; `longest`: tokens of its longest row, if counted."""
    length = int(start.config.number(f"{start.dataset}.max_length", 2048))
    if not start.packed:
        length = min(length, longest or length)
    return estimate.training(
        start.config,
        kind=model.kind,
        tokens=length * max(1, int(start.config.number("train_dataloader.batch_size", 1))),
        zero=start.zero,
        processes=start.processes,
        deepspeed=start.deepspeed,
    )


def work(start: Start, model: Shape) -> Work:
    """What a step of `start` does, its rows as long as they may be."""
    training = of_start(start, model)
    rows = "" if start.packed else repr(start.config.get(f"{start.dataset}.dataset"))
    return Work(model, training, start.packed, rows, start.on_cpu)


def ask(past: Past, start: Start, model: Shape, worker: WorkerClient) -> Told:
    """Compare `start` with the runs of the past; their configs are loaded in `worker`.

    Args:
        past: the runs.
        start: the training that is to come.
        model: its sizes.
        worker: a warm loader (`loaded.warm`).
    """
    wanted, measured, pace = work(start, model), [], None
    for run in islice(past.runs(), _LOOKED_AT):
        then = _work_of(run, start, worker)
        if then is None:
            continue
        if run.peak is not None and wanted.remembers(then):
            held = memory_parts.peak(then.training, then.model)
            measured.append(Measured(held.total, run.peak))
        if pace is None and run.step_seconds is not None and then == wanted:
            pace = Pace(run.name, run.step_seconds)
    return Told(measured, pace)


def _work_of(run: PastRun, start: Start, worker: WorkerClient) -> Work | None:
    """What a step of a past run did; None where that cannot be told any more."""
    try:
        config = loaded.load(run.config, start.settings, worker=worker)
        setting = check_deepspeed.read(run.deepspeed, start.settings)
    except (Failed, Problem, OSError, SyntaxError, ValueError):  # changed since, or gone
        return None
    then = Start(run.config, config, start.settings, run.gpus, setting, side_by_side=run.processes)
    place = estimate.place(config)
    model = estimate.shape(place) if config.error is None and place is not None else None
    return None if model is None else work(then, model)
