"""What the end of a trainer means, where its exit status alone does not say."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from engine.machine.devices import GpuId
from engine.run import checkpoints, oom, progress, reasons, state
from engine.run.state import Cause, RunState

NO_ROOM = 64 << 10
"""Bytes free below which a trainer that says nothing ended because of that."""


def why(
    folder: Path, now: RunState, status: int | None, memory: oom.Watch, gpus: Sequence[GpuId]
) -> Cause:
    """Why a trainer failed that ended with `status` (None: nobody got it) on `gpus`."""
    tail = reasons.tail(folder / state.LOG, now.log_start)
    cause = memory.explain(reasons.find(tail, status), now.pid)
    cause = _as_the_driver_counts(cause, gpus)
    if cause.code == "oom-gpu-unsized":
        cause = _on_which(cause, gpus)
    if cause.code == "status":  # it says nothing: there may be no room for its last words
        cause = _why_silent(folder) or (cause if status is not None else Cause("no-end"))
    return cause


def _as_the_driver_counts(cause: Cause, gpus: Sequence[GpuId]) -> Cause:
    """`cause` with the driver's number of a GPU: CUDA counts those that the trainer was given."""
    number = cause.values.get("gpu", "")
    if not number.isdigit() or int(number) >= len(gpus):
        return cause
    return Cause(cause.code, {**cause.values, "gpu": str(gpus[int(number)])})


def _on_which(cause: Cause, gpus: Sequence[GpuId]) -> Cause:
    """A full GPU by its number, where it follows from the rank: each has one of its own."""
    rank = cause.values.get("rank", "0" if len(gpus) == 1 else "")
    if not rank.isdigit() or int(rank) >= len(gpus):
        return cause
    return Cause("oom-gpu-of-rank", {**cause.values, "gpu": str(gpus[int(rank)])})


def is_complete(folder: Path) -> bool:
    """Whether a trainer whose exit status nobody got has done what it was to do."""
    facts = progress.read_facts(folder)
    if facts is None:
        return False
    step = max(progress.read(folder).step, checkpoints.noted(folder).step or 0)
    return facts.stopped is not None or step >= facts.steps


def _why_silent(folder: Path) -> Cause | None:
    try:
        disk = os.statvfs(folder)
    except OSError:
        return None
    if disk.f_flag & os.ST_RDONLY:
        return Cause("disk-read-only")
    return Cause("disk-full") if disk.f_bavail * disk.f_frsize < NO_ROOM else None
