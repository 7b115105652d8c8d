"""An export that goes on without the app: its folder, its order, its state.

A job lies in the workspace, under ``.tunedeck/exports``, one folder a checkpoint. Whoever
holds its lock does the work, and nobody else may begin it: after ``kill -9`` or a reboot
nobody does, and the next start finds the steps that are done. What a job makes gets its
name only when it is whole, so nothing has to be tidied up after one.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec

from engine import files
from engine.errors import Failed, Problem, Way
from engine.i18n import _
from engine.settings import Settings
from engine.worker.client import command, environment
from engine.workspace import Workspace

FOLDER = "exports"
ORDER = "order.json"
STATE = "state.json"
CANCEL = "cancel"
LOG = "log"
_LOCK = ".lock"
_PATIENCE = 20.0
"""Seconds that a job has to take its lock over."""
_LEAVE = 10.0
"""Seconds that the process of a job which is done has to leave."""

Step = Literal["convert", "merge", "verify", "gguf", "upload"]
Status = Literal["running", "done", "failed", "cancelled", "lost"]


class Order(msgspec.Struct, frozen=True):
    """What is to be done, step by step. Paths are absolute; "" where a step needs none."""

    checkpoint: str
    steps: tuple[Step, ...]
    adapter: str = ""
    """The adapter's folder, made by "convert". "" when the whole model was trained."""
    base: str = ""
    merged: str = ""
    """The model's folder, made by "merge" (by "convert" when the whole model was trained)."""
    dtype: str = "auto"
    device: str = "auto"
    again: bool = False
    """Whether what is there is replaced."""
    rows: tuple[str, ...] = ()
    """Questions out of the dataset, for "verify"."""
    gguf: str = ""
    upload: str = ""
    public: bool = False
    interpreter: str = ""
    threads: int = 0
    llama_cpp: str = ""

    @property
    def settings(self) -> Settings:
        """The settings that its steps need."""
        return Settings(
            interpreter=self.interpreter, threads=self.threads, llama_cpp=self.llama_cpp
        )


class Said(msgspec.Struct, frozen=True):
    """A problem, as it is said to a person."""

    what: str
    why: str = ""
    todo: str = ""
    details: str = ""
    ways: tuple[Way, ...] = ()


class State(msgspec.Struct, frozen=True):
    """How far it is. `done` and `total` are bytes (for "verify": answers)."""

    status: Status
    step: Step
    began: float
    """When this step began; seconds since the epoch."""
    done: int = 0
    total: int = 0
    said: Said | None = None
    """What went wrong."""
    result: str = ""
    """Of the last step that ended: a path or an address."""

    @property
    def left(self) -> float | None:
        """Seconds until this step ends, as far as its pace tells."""
        took = time.time() - self.began
        if not 0 < self.done < self.total or took < 1:
            return None
        return took * (self.total - self.done) / self.done


class Job:
    """One export, seen from outside."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def order(self) -> Order | None:
        """What it is to do; None when that cannot be read."""
        try:
            return msgspec.json.decode((self.folder / ORDER).read_bytes(), type=Order)
        except (OSError, msgspec.MsgspecError):
            return None

    @property
    def state(self) -> State | None:
        """How it stands: "lost" when nobody works on it any more; None when nobody ever did."""
        held = self.running  # looked at first: it may end in between
        try:
            state = msgspec.json.decode((self.folder / STATE).read_bytes(), type=State)
        except (OSError, msgspec.MsgspecError):
            return None
        if state.status == "running" and not held:
            return msgspec.structs.replace(state, status="lost")
        return state

    @property
    def running(self) -> bool:
        """Whether somebody works on it."""
        try:
            lock = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(lock)
        return False

    def cancel(self) -> None:
        """Ask it to end; what it was making goes."""
        (self.folder / CANCEL).touch(mode=0o600)


def of(workspace: Workspace, checkpoint: Path) -> Job:
    """The job of a checkpoint (or of a finished model), whether there ever was one or not."""
    checkpoint = checkpoint.resolve()
    name = f"{checkpoint.parent.name}-{checkpoint.name}"
    key = hashlib.sha256(str(checkpoint).encode()).hexdigest()[:8]
    return Job(workspace.state / FOLDER / f"{name}-{key}")


def running(workspace: Workspace) -> list[Job]:
    """The jobs of `workspace` that somebody works on."""
    folder = workspace.state / FOLDER
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    return [job for job in map(Job, found) if job.running]


@contextmanager
def begun(workspace: Workspace, order: Order) -> Iterator[tuple[Job, int]]:
    """The job of `order.checkpoint` with its order written, and its lock held.

    Raises `Problem` when somebody works on it already.
    """
    job = of(workspace, Path(order.checkpoint))
    files.private_folder(job.folder)
    lock = os.open(job.folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not _taken(lock, job):
            raise Problem(
                _("{name} is being exported already").format(name=Path(order.checkpoint).name),
                _("Another window, or a run that has ended, began it."),
                _("Wait for its end, or cancel it there."),
            )
        (job.folder / CANCEL).unlink(missing_ok=True)
        files.write_json(job.folder / ORDER, order)
        files.write_json(job.folder / STATE, State("running", order.steps[0], time.time()))
        yield job, lock
    finally:
        os.close(lock)


def _taken(lock: int, job: Job) -> bool:
    """Whether `lock` could be had; that of a job which says that it is done, in a moment."""
    until = time.monotonic() + _LEAVE
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            state = job.state
            if state is None or state.status == "running" or time.monotonic() > until:
                return False
        time.sleep(0.02)  # its process has said its last word and is leaving


def start(workspace: Workspace, order: Order) -> Job:
    """Begin `order` in a process that outlives this one; return when that has taken over.

    Raises `Problem` when the checkpoint is being exported already.
    """
    with begun(workspace, order) as (job, lock):
        log = os.open(job.folder / LOG, os.O_WRONLY | os.O_TRUNC | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # Converting and merging need no training environment: our own Python does them.
            process = subprocess.Popen(
                command(sys.executable, "engine.export.exporter", str(job.folder), str(lock)),
                cwd=workspace.root,
                env=environment(msgspec.structs.replace(order.settings, interpreter="")),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=(lock,),
            )
        finally:
            os.close(log)
        if process.wait(_PATIENCE) != 0:
            said = (job.folder / LOG).read_text(encoding="utf-8", errors="replace").strip()
            raise Failed(_("The export did not start"), said.rpartition("\n")[2], "", said)
    return job
