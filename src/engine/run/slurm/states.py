"""From what Slurm says of a job to how its run stands."""

from __future__ import annotations

import time

import msgspec

from engine.run.slurm import words
from engine.run.slurm.client import Job
from engine.run.state import Cause, RunState, Word

_WAITING = frozenset(
    ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD")
)
_RUNNING = frozenset(
    ("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING")
)
_ENDS: dict[str, tuple[Word, str]] = {
    "FAILED": ("failed", "slurm-failed"),
    "BOOT_FAIL": ("failed", "slurm-failed"),
    "NODE_FAIL": ("failed", "slurm-node"),
    "OUT_OF_MEMORY": ("failed", "slurm-memory"),
    "TIMEOUT": ("failed", "slurm-time"),
    "DEADLINE": ("failed", "slurm-time"),
    "CANCELLED": ("stopped", "slurm-cancelled"),
    "REVOKED": ("stopped", "slurm-cancelled"),
    "PREEMPTED": ("stopped", "slurm-preempted"),
}


def over(job: Job) -> bool:
    """Whether the job has ended for good."""
    return job.state not in _WAITING and job.state not in _RUNNING


def waiting(job: Job) -> bool:
    """Whether the job has no node yet (or not again)."""
    return job.state in _WAITING


def judge(written: RunState, job: Job) -> RunState:
    """How a run stands whose folder tells of no end (`written`) and of which Slurm says `job`."""
    values = {"job": job.id, "state": job.state, "reason": job.reason, "nodes": job.nodes}
    if waiting(job):
        return _with(written, "queued", _why_it_waits(written, job, values))
    if job.state in ("SUSPENDED", "STOPPED"):
        return _with(written, written.state, Cause("slurm-suspended", values))
    if job.state == "RUNNING" and written.state == "queued":
        return _with(written, "starting", None)
    if job.state in _RUNNING:
        return written
    ended = job.end or time.time()
    if job.state == "COMPLETED":
        return _with(written, "finished", None, ended)
    word, code = _ENDS.get(job.state, ("failed", "slurm-failed"))
    if job.reason == words.NEVER_SATISFIED:
        word, code = "failed", "slurm-awaited"
    elif word == "stopped" and not job.nodes:
        code = "slurm-withdrawn"
    elif job.reason == "JobLaunchFailure":
        code = "slurm-launch"
    return _with(written, word, Cause(code, values), ended)


def _why_it_waits(written: RunState, job: Job, values: dict[str, str]) -> Cause:
    if job.start is not None:
        start = time.strftime("%Y-%m-%d %H:%M", time.localtime(job.start))
        values = values | {"start": start}
    if code := words.never(job.reason):
        return Cause(code, values)
    if written.supervisor is not None:  # it ran before
        return Cause("slurm-again", values)
    return Cause(words.waits(job.reason, "start" in values), values)


def _with(
    written: RunState, word: Word, cause: Cause | None, ended: float | None = None
) -> RunState:
    return msgspec.structs.replace(written, state=word, cause=cause, ended=ended)
