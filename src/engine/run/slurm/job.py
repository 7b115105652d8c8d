"""The supervisor of a run inside its Slurm job.

    python .../bootstrap.py engine.run.slurm.job RUN_DIR

The batch script becomes this process. It does what a run's supervisor does
anywhere, and knows three things more: that USR1 is Slurm's warning before the
time limit, that a SIGTERM is Slurm's as well (a cancelled job, or nodes that go
to another job), and that a job may be started again after it was put back into
the queue. Its exit status is what Slurm keeps of the run's end, and what other
jobs may depend on: 0 when the run has finished or was stopped with a checkpoint.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

import msgspec

from engine import files
from engine.errors import Problem
from engine.machine import gpu
from engine.machine.devices import GpuId
from engine.run import launch, life, processes, state
from engine.run.folder import RunFolder
from engine.run.slurm import awaited, client
from engine.run.state import Cause, Order, RunState, Word
from engine.run.supervisor import Supervisor

_OURS = b"slurm\n"
"""What is in a stop file that Slurm's signals made: a user's is empty."""
_REQUEUED = 900.0
"""Seconds that Slurm has to carry out a requeue, which ends this process."""


class JobSupervisor(Supervisor):
    """One start of one run, in a job."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._job = os.environ["SLURM_JOB_ID"]
        self._warned = False
        self._preempted = False

    def run(self) -> None:
        """Start the trainer and stay until it is gone and the end is written."""
        signal.signal(signal.SIGUSR1, self._on_warning)
        super().run()

    def _on_warning(self, _number: int, _frame: FrameType | None) -> None:
        self._warned = True
        self._ask_to_stop()

    def _on_sigterm(self, _number: int, _frame: FrameType | None) -> None:
        # srun got it too and has ended the trainer: there is only the end to write.
        self._terminated += 1
        self._ask_to_stop()

    def _ask_to_stop(self) -> None:
        file = self.folder / state.STOP
        with contextlib.suppress(OSError):  # a full disk: in a signal's handler nobody catches it
            if not file.exists():
                file.write_bytes(_OURS)
                file.chmod(0o600)

    def refuse(self, cause: Cause) -> None:
        """End without a start."""
        super()._finish("stopped" if cause.code == "slurm-withdrawn" else "failed", None, cause)

    def _finish(self, word: Word, status: int | None, cause: Cause | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if (self.folder / state.KILL).exists():
            word, cause = "stopped", Cause("killed")
        elif word != "finished":
            word, cause = self._verdict(word, cause)
        if word == "queued":
            self._go_back(cause)
        else:
            super()._finish(word, status, cause)

    def _verdict(self, word: Word, cause: Cause | None) -> tuple[Word, Cause | None]:
        """What an end means: Slurm's own doing, or (unchanged) the trainer's or the user's.

        Before a preemption only the trainer gets a signal, so Slurm is asked each time.
        """
        try:
            facts = client.details(self._job)
        except Problem:
            facts = {}
        self._preempted = facts.get("PreemptTime", "None") not in ("None", "Unknown")
        late = self._warned or facts.get("Reason") == "TimeLimit"
        values = {"job": self._job, **(cause.values if cause is not None else {})}
        if not self._preempted and not late:
            ended = self._terminated or facts.get("JobState") in ("COMPLETING", "CANCELLED")
            return ("stopped", Cause("slurm-cancelled", values)) if ended else (word, cause)
        if _restarts() < _continues(self.folder):
            return "queued", Cause("slurm-again", values)
        if self._preempted:
            return "stopped", Cause("slurm-preempted", values)
        if cause is not None and cause.code == "stopped":
            return "stopped", Cause("slurm-time-saved", values)
        return "failed", Cause("slurm-time", values)

    def _go_back(self, cause: Cause | None) -> None:
        """Have the job put back into the queue, and stay until Slurm ends this process for it.

        An exit before that would be the job's end: one that is preempted and exits
        by itself has failed, for Slurm 22.05.
        """
        (self.folder / state.STOP).unlink(missing_ok=True)
        self._become("queued", cause=cause)
        if not self._preempted:
            try:
                client.requeue(self._job)
            except Problem as problem:
                super()._finish("failed", None, Cause("slurm-refused", {"error": problem.why}))
                return
        time.sleep(_REQUEUED)
        super()._finish("failed", None, Cause("slurm-preempted", {"job": self._job}))


def _restarts() -> int:
    return int(os.environ.get("SLURM_RESTART_COUNT") or 0)


def _continues(folder: Path) -> int:
    record = RunFolder(folder).record
    return record.slurm.continues if record is not None and record.slurm is not None else 0


def prepare(folder: Path) -> Cause | None:
    """Make the folder ready for this start of the job; a cause when it is not to run at all."""
    run = RunFolder(folder)
    order, written = run.order(), run.written_state()
    assert order is not None and written is not None
    if order.wait is not None and (cause := awaited.verdict(order.wait)) is not None:
        return Cause(cause.code, {**cause.values, "run": run.name})
    order = msgspec.structs.replace(order, gpus=_gpus(), wait=None)
    if _restarts():
        stop = folder / state.STOP
        if stop.exists() and stop.read_bytes() != _OURS:
            return Cause("slurm-withdrawn")  # the user stopped it while it went back
        stop.unlink(missing_ok=True)
        if _restarts() > _continues(folder):
            values = {"restarts": str(_restarts()), "allowed": str(_continues(folder))}
            return Cause("slurm-restarts", values)
        (folder / state.FACTS).unlink(missing_ok=True)
        order = _going_on(run, order)
        files.write_json(folder / state.STATE, RunState("queued", time.time(), written.attempt + 1))
    files.write_json(folder / state.ORDER, order)
    return None


def _going_on(run: RunFolder, order: Order) -> Order:
    """`order` from the newest whole checkpoint on; as it was when there is none."""
    saved = run.last_checkpoint()
    if saved is None:
        return order
    command = list(order.command)
    if "--resume" in command:
        command[command.index("--resume") + 1] = str(saved.path)
    else:
        command += ["--resume", str(saved.path)]
    return msgspec.structs.replace(order, command=command, resume=str(saved.path))


def _gpus() -> list[GpuId]:
    """The GPUs that Slurm gave to the job on this node, by number or by UUID."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    known: list[GpuId] = [one.id for one in gpu.read(given).gpus]
    # Where the driver cannot be asked, Slurm's numbers are what there is to tell.
    return known or [int(one) for one in given.split(",") if one.isdigit()]


def _lock(folder: Path) -> int:
    """Hold the run as long as this process lives; whoever submitted it may need a moment."""
    lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    until = time.monotonic() + launch.CONFIRM
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except BlockingIOError:
            if time.monotonic() > until:
                sys.exit(f"{folder} is in use: another start of this run has not ended")
        except OSError:  # a network disk without locks
            return lock
        time.sleep(0.1)


def main() -> None:
    """Supervise the run of this job."""
    folder = Path(sys.argv[1])
    os.umask(0o077)
    lock = _lock(folder)
    processes.adopt_orphans()
    life.keep_beating(folder)
    refused = prepare(folder)
    supervisor = JobSupervisor(folder)
    if refused is None:
        supervisor.run()
    else:
        supervisor.refuse(refused)
    os.close(lock)  # the run may be resumed now
    supervisor.leave()
    sys.exit(0 if supervisor.state.state in ("finished", "stopped") else 1)


if __name__ == "__main__":
    main()
