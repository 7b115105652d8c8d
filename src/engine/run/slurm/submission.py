"""What a run's folder knows of its Slurm job (``slurm.json``).

It is written before sbatch is asked, so that a job whose id was lost on the way
can be found by its name; and it keeps what Slurm said of the job's end, which
Slurm itself forgets after some minutes.
"""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from engine import files
from engine.run.slurm import client, script
from engine.run.slurm.client import Job

FILE = "slurm.json"
_SKEW = 120.0
"""Seconds by which the clocks of this machine and of the controller may differ."""


class Submission(msgspec.Struct, frozen=True):
    """One job of one run."""

    name: str
    """The job's name, which no other run's jobs have."""
    asked: float
    """When sbatch was started, in seconds since the epoch."""
    job: str = ""
    """Slurm's id; "" while it is not known."""
    end: Job | None = None
    """What Slurm last said of it, when it had ended."""
    folder: str = ""
    """Where the run lay then, which the job's script knows; "" in files of an older version."""

    def means(self, job: Job) -> bool:
        """Whether `job` is this one: ids are used again after a reset, and names by resumes."""
        if job.name != self.name or (self.job and job.id != self.job):
            return False
        return job.submitted is None or job.submitted > self.asked - _SKEW


def read(folder: Path) -> Submission | None:
    """The newest job of the run in `folder`; None when it has none."""
    try:
        return msgspec.json.decode((folder / FILE).read_bytes(), type=Submission)
    except (OSError, msgspec.MsgspecError):
        return None


def write(folder: Path, submission: Submission) -> None:
    """Write it down."""
    files.write_json(folder / FILE, submission)


def submit(folder: Path, text: str) -> str:
    """Submit the batch script `text` for the run in `folder`; return the job's id."""
    with files.replacing(folder / script.SCRIPT, force=True) as file:
        file.write(text.encode())
    made = Submission(script.job_name(folder), time.time(), folder=str(folder))
    write(folder, made)
    job = client.submit(folder / script.SCRIPT)
    write(folder, msgspec.structs.replace(made, job=job))
    return job
