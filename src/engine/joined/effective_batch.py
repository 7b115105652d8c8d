"""The effective batch: from how many samples one step of the optimizer learns.

It decides, with the learning rate, what is learnt. It changes with the number
of processes unless the gradient accumulation makes up for it.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from engine.config.text.reader import ConfigReader
from engine.config.text.source import ConfigSource
from engine.errors import Problem
from engine.run.folder import RunFolder
from engine.run.listing import is_run, list_runs
from engine.run.state import CONFIG_FOLDER
from engine.workspace import Workspace

_BATCH = "train_dataloader.batch_size"
_ACCUMULATION = "optim_wrapper.accumulative_counts"
_VARIABLE = "accumulative_counts"
_SEQUENCE = "sequence_parallel_size"


class Batch(msgspec.Struct, frozen=True):
    """What the effective batch is made of."""

    size: int
    """Samples of one process in one iteration."""
    accumulation: int
    processes: int
    sequence: int = 1
    """Processes that share one sample (XTuner's ``sequence_parallel_size``)."""

    @property
    def effective(self) -> int:
        """Samples that one step of the optimizer learns from."""
        return max(1, self.size * self.accumulation * self.processes // self.sequence)

    def like(self, other: Batch) -> Batch:
        """This with the accumulation that comes nearest to `other`'s effective batch."""
        at_once = self.size * self.processes / self.sequence
        nearest = max(1, round(other.effective / at_once))
        return msgspec.structs.replace(self, accumulation=nearest)


def read(config: ConfigReader, processes: int) -> Batch | None:
    """The batch of a training with `config`; None where the config does not tell."""
    size, accumulation = _whole(config, _BATCH), _whole(config, _ACCUMULATION, 1)
    sequence = _whole(config, _SEQUENCE, 1)
    if size is None or accumulation is None or sequence is None:
        return None
    return Batch(size, accumulation, processes, sequence)


def accumulate(config: ConfigSource, wanted: int) -> None:
    """Let `config` accumulate the gradients of `wanted` iterations.

    A line such as ``accumulative_counts *= sequence_parallel_size`` is taken into
    account. Raises `Problem` where the config has no such setting.
    """
    variable = config.holds(_VARIABLE) and _VARIABLE in config.augmented
    if not variable:
        config.set(_ACCUMULATION, wanted)
        return
    sequence = _whole(config, _SEQUENCE, 1) or 1
    config.set(_VARIABLE, max(1, wanted // sequence))


def before(workspace: Workspace, config: Path) -> Batch | None:
    """The batch of the newest run that was started from the file `config`; None without one.

    A run's own frozen config speaks for that run.
    """
    own = RunFolder(config.parent.parent)
    if config.parent.name == CONFIG_FOLDER and is_run(own.path):
        return of_run(own)
    return next((of_run(run) for run in list_runs(workspace) if _source(run) == config), None)


def of_run(run: RunFolder) -> Batch | None:
    """The batch that a run of our own trained with. Raises `Problem` for a broken run."""
    record, config = run.record, run.config
    if record is None or config is None:
        return None
    return read(ConfigSource.open(config), record.processes)


def _source(run: RunFolder) -> Path | None:
    try:
        return Path(run.record.source) if run.record is not None else None
    except Problem:  # its files were changed: it tells nothing
        return None


def _whole(config: ConfigReader, key: str, default: int | None = None) -> int | None:
    if not config.has(key):
        return default
    value = config.get(key)
    return value if isinstance(value, int) and value > 0 else None
