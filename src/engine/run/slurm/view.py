"""How a Slurm run stands, seen from any machine.

The folder comes first: it knows most, and costs Slurm nothing. Slurm is asked
when the folder cannot tell: the job waits, or its supervisor gives no sign of
life. One question serves all runs for some seconds.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import threading
import time
from pathlib import Path

import msgspec

from engine.errors import Problem
from engine.run.processes import leads
from engine.run.slurm import client, states, submission, words
from engine.run.slurm.client import Job
from engine.run.slurm.submission import Submission
from engine.run.state import Cause, RunState

HOLD = 5.0
"""Seconds for which an answer is good."""
HOLD_SILENCE = 30.0
"""Seconds before Slurm is asked again after it did not answer."""
_NO_START = ("slurm-failed", "slurm-launch")
"""How Slurm tells of a job that did not find its folder."""
_SUBMITTING = 90.0
"""Seconds in which a job may be on its way to Slurm."""


def look(folder: Path, written: RunState) -> RunState:
    """How the run in `folder` stands, whose files say `written` (not an end)."""
    known = submission.read(folder)
    if known is None:
        return _lost(written, Cause("never-started"))
    if known.end is not None:
        return _judge(folder, written, known, known.end)
    try:
        job = _find(folder, known)
    except Problem as problem:  # no answer, or no Slurm on this machine
        values = {"job": known.job or known.name, "error": problem.why}
        return msgspec.structs.replace(written, cause=Cause("slurm-silent", values))
    if job is not None:
        return _judge(folder, written, known, job)
    if not known.job and time.time() - known.asked < _SUBMITTING:
        return written
    return _lost(written, Cause("slurm-lost", {"job": known.job or known.name}))


def _judge(folder: Path, written: RunState, known: Submission, job: Job) -> RunState:
    """How the run stands by what Slurm says of its job, which knows one place of the folder.

    A job that runs leaves a link there (`engine.run.place`). One that waits has no process
    to do so, and Slurm changes no script that it has taken. One that waits for ever never
    looks for its folder: what is to be done about that comes first.
    """
    found = states.judge(written, job)
    if not known.folder or leads(known.folder, folder):
        return found
    if found.cause is not None and found.cause.code in words.NEVER:
        return found
    if found.state == "queued":
        code = "slurm-moved"
    elif written.state == "queued" and found.cause is not None and found.cause.code in _NO_START:
        code = "slurm-was-moved"
    else:  # it was moved later, or ended by what Slurm says
        return found
    values = {"job": job.id, "place": shlex.quote(known.folder), "folder": shlex.quote(str(folder))}
    return msgspec.structs.replace(found, cause=Cause(code, values))


def job(folder: Path) -> str:
    """The id of the newest job of the run in `folder`; "" when it has none, or it is not known."""
    known = submission.read(folder)
    return "" if known is None else known.job


def find(folder: Path, *, now: bool = False) -> Job | None:
    """What Slurm knows of the run's newest job; with `now`, asked at this moment.

    Raises `client.Silent` when it does not answer.
    """
    known = submission.read(folder)
    if known is None:
        return None
    if now:
        _queue().forget()
    return known.end or _find(folder, known)


def _find(folder: Path, known: Submission) -> Job | None:
    mine = [one for one in _queue().jobs(known.asked) if known.means(one)]
    # The newest, should the same name have been submitted by hand as well.
    found = max(mine, key=lambda one: one.submitted or 0, default=None)
    if found is None and known.job:
        found = client.accounted(known.job)
        # What the controller does not know neither runs nor waits, whatever is written there.
        usable = found is not None and known.means(found) and states.over(found)
        found = found if usable else None
    if found is None:
        return None
    changed = msgspec.structs.replace(
        known, job=found.id, end=found if states.over(found) else None
    )
    if changed != known:
        with contextlib.suppress(OSError):  # a folder that is only read here
            submission.write(folder, changed)
    return found


def _lost(written: RunState, cause: Cause) -> RunState:
    return msgspec.structs.replace(written, state="lost", cause=cause)


class _Queue:
    """The user's jobs, as Slurm told of them a moment ago."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked = 0.0
        self._until = 0.0
        self._jobs: list[Job] = []
        self._trouble: Problem | None = None

    def jobs(self, since: float) -> list[Job]:
        """All jobs, as they were after `since` and at most `HOLD` seconds ago.

        Raises what asking raised.
        """
        with self._lock:
            if time.monotonic() >= self._until or self._asked < since:
                self._ask()
            if self._trouble is not None:
                raise self._trouble
            return self._jobs

    def forget(self) -> None:
        """Ask anew next time."""
        self._until = 0.0

    def _ask(self) -> None:
        self._asked = time.time()
        try:
            self._jobs, self._trouble = client.jobs(), None
        except Problem as problem:
            self._trouble = problem
        hold = HOLD if self._trouble is None else HOLD_SILENCE
        self._until = time.monotonic() + hold


_QUEUES: dict[str, _Queue] = {}


def _queue() -> _Queue:
    """The cluster that this process's environment leads to."""
    return _QUEUES.setdefault(os.environ.get("SLURM_CONF", ""), _Queue())
