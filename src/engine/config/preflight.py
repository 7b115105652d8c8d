"""Everything that can be known about a training before a GPU is touched."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from engine.config.checks import compiling as check_compiling
from engine.config.checks import count, loaded
from engine.config.checks import data as check_data
from engine.config.checks import deepspeed as check_deepspeed
from engine.config.checks import gpu as check_gpu
from engine.config.checks import load as check_load
from engine.config.checks import lora as check_lora
from engine.config.checks import model as check_model
from engine.config.checks import place as check_place
from engine.config.checks import rules as check_rules
from engine.config.checks import speed as check_speed
from engine.config.checks import tokenizer as check_tokenizer
from engine.config.checks import values as check_values
from engine.config.checks import versions as check_versions
from engine.config.checks.count import Data
from engine.config.checks.findings import ERROR, INFO, WARNING, Finding
from engine.config.checks.loaded import Loaded
from engine.config.checks.start import Start
from engine.config.memory import sizing
from engine.config.memory.estimate import Estimate
from engine.config.memory.past import Past
from engine.config.memory.sizing import Sizes
from engine.config.text import textfile
from engine.errors import Failed, Problem
from engine.machine import gpu
from engine.machine.devices import GpuId
from engine.settings import Settings
from engine.worker.client import WorkerClient

STAGES = 5
Progress = Callable[[int, int], None]
"""``progress(done, total)``: stages of the check."""
Found = Callable[[Finding], None]
"""Told of each finding at the moment it is made: the cheap ones come within a second or two."""
_CONTENT = (check_rules, check_values, check_model, check_tokenizer, check_lora, check_data)
"""Checks of what the config says; with an error in one there is no use in counting tokens."""
_AROUND = (check_versions, check_gpu, check_deepspeed, check_compiling, check_place)
"""Checks of where and how it is to run."""


class Report(msgspec.Struct, frozen=True):
    """The verdict. What could not be told is None."""

    ok: bool
    """No finding is an error."""
    findings: list[Finding]
    estimate: Estimate | None
    samples: int | None
    """Samples in an epoch, after cutting, dropping and packing."""
    steps: int | None
    """Iterations in all, as XTuner's log counts them."""
    disk_bytes: int | None
    seconds: float | None = None
    """From the first step to the last, as a run of one's own went."""
    seconds_like: str | None = None
    """That run's name."""


class _Flight:
    """The findings so far and what later checks need."""

    def __init__(self, progress: Progress | None, found: Found | None) -> None:
        self.findings: list[Finding] = []
        self.samples: int | None = None
        self.steps: int | None = None
        self.longest: int | None = None
        self.sizes = Sizes()
        self._progress, self._found = progress, found
        self._stage = 0

    def add(self, findings: Iterable[Finding]) -> None:
        for one in findings:
            self.findings.append(one)
            if self._found is not None:
                self._found(one)

    def stage(self) -> None:
        if self._progress is not None:
            self._progress(self._stage, STAGES)
        self._stage += 1

    @property
    def failed(self) -> bool:
        return any(one.level == ERROR for one in self.findings)

    def report(self) -> Report:
        order = (ERROR, WARNING, INFO)
        findings = sorted(self.findings, key=lambda one: order.index(one.level))
        return Report(
            not self.failed,
            findings,
            samples=self.samples,
            steps=self.steps,
            **msgspec.structs.asdict(self.sizes),
        )


def preflight(
    path: Path,
    *,
    settings: Settings,
    gpus: Sequence[GpuId] | None = None,
    elsewhere: bool = False,
    processes: int | None = None,
    deepspeed: str | None = None,
    work_dir: Path | None = None,
    quick: bool = False,
    progress: Progress | None = None,
    found: Found | None = None,
    data: Data | None = None,
    past: Past | None = None,
    worker: WorkerClient | None = None,
    also: Sequence[Finding] = (),
) -> Report:
    """Check the config at `path`. Cheap checks first: with an error, the dear ones are left out.

    Without counting tokens it takes about a second; counting starts the
    dataset worker and reads the whole dataset.

    Args:
        gpus: the GPUs it shall run on; none of them: the CPU; None: one, or the CPU.
        elsewhere: they are other machines' (of a Slurm cluster, say): all that is known of
            them is how many they are.
        processes: how many train side by side, on all nodes; None: one for each of `gpus`.
        deepspeed: as ``xtuner train --deepspeed`` takes it.
        work_dir: where it shall write; it must not be in use. Default: not known yet.
        quick: leave out the counting.
        found: told of each finding as it comes.
        data: looks at every row and counts them (`engine.joined.Rows`); without it only
            the first rows are looked at, and nothing is counted.
        past: one's own finished runs (`engine.joined.own_runs.OwnRuns`): they correct the memory's
            estimate and tell how long it will take.
        worker: a warm loader (`loaded.warm`); by default one is started.
        also: what others have found already.

    Raises `Problem` when the file itself cannot be read.
    """
    flight = _Flight(progress, found)
    flight.add(also)
    flight.add(check_load.syntax(textfile.read(path)))
    flight.add(check_load.path(path, work_dir))
    flight.stage()
    if flight.failed:
        return flight.report()
    config = _load(path, settings, worker, flight)
    flight.stage()
    if config is None:
        return flight.report()
    setting = _deepspeed(deepspeed, settings, flight)
    machine = gpu.read()
    begin = Start(path, config, settings, gpus, setting, work_dir, machine, processes)
    _content(begin, flight)
    usable = not flight.failed
    for module in _AROUND:
        if not (elsewhere and module is check_gpu):
            flight.add(module.check(begin))
    flight.stage()
    if usable and data is not None:
        usable = _every_row(begin, flight, data)
    flight.stage()
    if usable and data is not None and not quick:
        _count(begin, flight, data)
    flight.stage()
    flight.sizes = sizing.of(
        begin, steps=flight.steps, longest=flight.longest, runs=past, worker=worker
    )
    if not elsewhere:
        flight.add(check_gpu.fits(begin, flight.sizes.estimate, flight.longest))
        flight.add(check_deepspeed.host(begin))
        flight.add(check_speed.check(begin, flight.longest))
    if flight.sizes.disk_bytes is not None:
        flight.add(check_place.disk(flight.sizes.disk_bytes, work_dir or path.parent))
    flight.stage()
    return flight.report()


def _load(
    path: Path, settings: Settings, worker: WorkerClient | None, flight: _Flight
) -> Loaded | None:
    """The config as mmengine sees it; None, with the reason among the findings."""
    try:
        config = loaded.load(path, settings, worker=worker)
    except Failed as failed:
        flight.add([check_load.lost(failed)])
        return None
    flight.add(check_load.load_error(config))
    return config if config.error is None else None


def _deepspeed(name: str | None, settings: Settings, flight: _Flight) -> Mapping[str, Any] | None:
    try:
        return check_deepspeed.read(name, settings)
    except Problem as problem:
        flight.add([Finding(ERROR, "deepspeed", problem.what, problem.why, problem.todo)])
        return {}


def _content(begin: Start, flight: _Flight) -> None:
    config = begin.config
    flight.add(check_load.names(config))
    flight.add(check_load.unused(config))
    flight.add(check_load.runs_code(config))
    for module in _CONTENT:
        flight.add(module.check(begin))


def _every_row(begin: Start, flight: _Flight, data: Data) -> bool:
    """Look at all rows' structure; whether they can be counted."""
    before, shape = len(flight.findings), check_data.shape(begin)
    try:
        for file in check_data.files(begin) if shape else ():
            flight.add(data.rows(file, shape or ""))
    except Problem as problem:
        flight.add([Finding(ERROR, "data-broken", problem.what, problem.why, problem.todo)])
    return not any(one.level == ERROR for one in flight.findings[before:])


def _count(begin: Start, flight: _Flight, data: Data) -> None:
    """What XTuner will make of the data; findings about that."""
    order = count.request(begin)
    if isinstance(order, str):
        flight.add([count.unknown(order)])
        return
    try:
        counted = data.count(order)
    except Problem as problem:
        flight.add([count.failed(problem)])
        return
    samples, size, found = count.check(begin, order, counted)
    flight.samples, flight.steps = samples, size.total
    flight.longest = counted.longest or None
    flight.add(found)
