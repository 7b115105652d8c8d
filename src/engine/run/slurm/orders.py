"""Ending a run's job: while it waits, and at once."""

from __future__ import annotations

import time
from pathlib import Path

from engine.run.slurm import client, states, view

PATIENCE = 90.0
"""Seconds in which a job must be gone: Slurm gives it 30 by default, a site may give more."""


def withdraw(folder: Path) -> bool:
    """Take the job out of the queue; False when it does not wait there.

    Raises `client.Silent` when Slurm does not answer.
    """
    job = view.find(folder, now=True)
    if job is None or not states.waiting(job):
        return False
    client.cancel(job.id, pending=True)
    return _gone(folder, 5.0)


def end(folder: Path) -> bool:
    """Cancel the job, and wait until Slurm says that it has ended; False when it has not.

    Raises `client.Silent` when Slurm does not answer.
    """
    job = view.find(folder, now=True)
    if job is None or states.over(job):
        return True
    client.cancel(job.id)
    return _gone(folder, PATIENCE)


def _gone(folder: Path, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        job = view.find(folder, now=True)
        if job is None or states.over(job):
            return True
        time.sleep(0.3)
    return False
