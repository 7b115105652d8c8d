"""The checkpoints of a run, in both forms that XTuner writes."""

from __future__ import annotations

import math
import re
import zipfile
from bisect import bisect_right
from pathlib import Path
from typing import Literal

import msgspec

from engine.run.progress import History

_NAME = re.compile(r"(iter|epoch)_(\d+)\.pth")


class Checkpoint(msgspec.Struct, frozen=True):
    """One checkpoint."""

    path: Path
    step: int
    """The iteration after which it was saved (the epoch, for an ``epoch_N.pth``)."""
    kind: Literal["file", "deepspeed"]
    """A ``.pth`` file, or a folder that DeepSpeed wrote."""
    bytes: int
    complete: bool
    """False while it is being written, and when writing was cut short."""
    loss: float | None = None
    """The loss logged last before it was saved."""


def find(folder: Path, history: History | None = None) -> list[Checkpoint]:
    """The checkpoints in `folder`, in order of step; their loss is looked up in `history`."""
    found = []
    try:
        entries = list(folder.iterdir())
    except OSError:
        return []
    for entry in entries:
        name = _NAME.fullmatch(entry.name)
        if name is not None:
            try:
                found.append(_look(entry, int(name[2]), history))
            except OSError:  # it was removed just now: XTuner keeps only so many
                continue
    return sorted(found, key=lambda one: one.step)


def _look(path: Path, step: int, history: History | None) -> Checkpoint:
    loss = _loss(history, step) if history is not None else None
    if path.is_dir():
        parts = [part for part in path.rglob("*") if part.is_file()]
        size = sum(part.stat().st_size for part in parts)
        # Each rank writes its parts in place; a cut-off zip has no directory at its end.
        states = [part for part in parts if part.suffix == ".pt"]
        complete = any("model_states" in part.name for part in states) and all(
            zipfile.is_zipfile(part) for part in states
        )
        return Checkpoint(path, step, "deepspeed", size, complete, loss)
    return Checkpoint(path, step, "file", path.stat().st_size, zipfile.is_zipfile(path), loss)


def _loss(history: History, step: int) -> float | None:
    at = bisect_right(history.step, step) - 1
    if at < 0 or not math.isfinite(history["loss"][at]):
        return None
    return history["loss"][at]
