"""A run's folder: the only truth about it. It is XTuner's work dir as well."""

from __future__ import annotations

import time
from functools import cached_property
from pathlib import Path

import msgspec

from engine.errors import Problem
from engine.i18n import _
from engine.machine.devices import GpuId
from engine.run import (
    alarms,
    checkpoints,
    elsewhere,
    gpu_samples,
    notes,
    place,
    processes,
    progress,
    reasons,
    state,
    torn,
    waits,
)
from engine.run.checkpoints import Checkpoint
from engine.run.slurm import view as slurm_view
from engine.run.state import Alarm, Cause, Event, Launcher, Order, RunRecord, RunState, Wait, Word

_QUIET = 300.0
"""Seconds without a new line after which a run of plain XTuner counts as ended."""
_GOES_ON = "supervisor-gone-trainer-runs"
"""The code of a lost run's cause whose trainer was left alone."""

_TURNS: dict[Word, int] = {"training": 0, "starting": 1, "stopping": 1, "queued": 2}


class RunSummary(msgspec.Struct, frozen=True):
    """A run in short. Times in seconds since the epoch."""

    run: str
    dir: str
    state: Word
    step: int
    steps: int | None
    loss: float | None
    started: float | None
    ended: float | None
    exit: int | None
    reason: str
    checkpoints: list[Checkpoint]
    todo: str = ""
    """What to do about `reason`."""
    eta: float | None = None
    """Seconds to the last step, at the pace of the last ones."""
    created: float = 0.0
    waits: str = ""
    """For a queued run: what it waits for, in a few words ("after assistant-01")."""
    place: float | None = None
    """For a run in the workspace's queue: the lower, the sooner its turn comes."""
    note: str = ""
    """The user's own words about it."""
    tags: list[str] = []
    archived: bool = False
    """Kept out of the everyday list."""
    alarms: list[str] = []
    """What is wrong with it, a sentence each; once it has ended: with its result."""
    launcher: Launcher = "local"
    job: str = ""
    """Slurm's id for it."""
    host: str = ""
    """The machine that it runs (or ran) on; several nodes: the first."""
    unwatched: bool = False
    """Whether its training goes on though nothing watches it: it can be stopped and killed."""

    @property
    def took(self) -> float | None:
        """Seconds from its start to its end, or till now; None where a clock was set back."""
        if self.started is None:
            return None
        took = (self.ended or time.time()) - self.started
        return took if took >= 0 else None

    @property
    def turn(self) -> tuple[int, float]:
        """Sorts runs: one that trains, those that start or stop, the queue in its order, others."""
        if self.state not in _TURNS:
            return len(_TURNS), 0.0
        return _TURNS[self.state], self.place or 0.0


class RunFolder:
    """The run in a folder: one of ours, or a work dir of plain XTuner (read only)."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self._follower = progress.Follower(self.path)
        self._gpus = gpu_samples.Follower(self.path)
        self._alarms = alarms.Reader(self.path)
        self._torn = ""

    @property
    def name(self) -> str:
        """What the run is called."""
        return self.record.run if self.record is not None else self.path.name

    @cached_property
    def record(self) -> RunRecord | None:
        """Who started what; None for a work dir of plain XTuner.

        By the other files where it is `torn`. Its workspace is where that lies now.
        """
        written = self._written_record()
        if written is None:
            return None
        workspace = place.workspace_of(self.path, written.workspace)
        return msgspec.structs.replace(written, workspace=workspace)

    def _written_record(self) -> RunRecord | None:
        try:
            data = (self.path / state.RECORD).read_bytes()
            return msgspec.json.decode(data, type=RunRecord)
        except FileNotFoundError as error:
            if not state.is_ours(self.path):
                return None
            self._torn = error.strerror or str(error)
        except OSError as error:
            raise unreadable(self.path, error, state.RECORD) from error
        except msgspec.MsgspecError as error:
            self._torn = str(error)
        return torn.record(self.path, self.order(), self.events())

    @property
    def torn(self) -> str:
        """What is wrong with its record (gone, too), in a sentence; "" when it can be read."""
        if self.record is None or not self._torn:
            return ""
        said = _("{file} cannot be read ({error}); what is told is from the other files.")
        return said.format(file=state.RECORD, error=self._torn)

    @property
    def gpus(self) -> list[GpuId]:
        """The GPUs it is for, as the driver here counts them.

        None for the CPU, for Slurm, which chooses among those of its nodes, or when not known.
        """
        return self.record.gpus if self.record is not None and self.launcher != "slurm" else []

    @property
    def launcher(self) -> Launcher:
        """Who starts its trainer."""
        return self.record.launcher if self.record is not None else "local"

    @property
    def job(self) -> str:
        """Slurm's id for it; "" while it is not known, and for other launchers."""
        return slurm_view.job(self.path) if self.launcher == "slurm" else ""

    @property
    def log(self) -> Path:
        """The trainer's raw output; XTuner's own newest log in a plain work dir."""
        ours = self.path / state.LOG
        if self.record is not None:
            return ours
        return max(self.path.glob("[0-9]*_[0-9]*/[0-9]*_[0-9]*.log"), default=ours)

    @property
    def config(self) -> Path | None:
        """The frozen config, which is what runs; XTuner's copy in a plain work dir."""
        if self.record is not None:
            return self.path / self.record.config
        return next((file for file in sorted(self.path.glob("*.py")) if _is_config(file)), None)

    @property
    def state(self) -> RunState:
        """How it stands now. A run whose supervisor is gone is *lost*, whatever its file says."""
        written = self.written_state()
        if written is None:
            return self._plain_state()
        if not written.living:
            return written
        ordered = written.supervisor is None and self._just_ordered(written)
        if ordered and self.launcher != "slurm":
            return written
        if written.supervisor is not None and written.supervisor.alive:
            return written
        told = elsewhere.look(self.path, written, self.launcher)
        # It may have written the end between our two looks.
        again = self.written_state() or written
        if not again.living:
            return again
        return told or again.become("lost", cause=self._why_lost(again))

    def written_state(self) -> RunState | None:
        """What the supervisor wrote last; None for a plain work dir.

        By the events where the state itself is torn or gone.
        """
        try:
            return msgspec.json.decode((self.path / state.STATE).read_bytes(), type=RunState)
        except FileNotFoundError:
            return state.from_events(self.events())
        except (OSError, msgspec.MsgspecError) as error:
            told = None if isinstance(error, OSError) else state.from_events(self.events())
            if told is not None:
                return told
            raise unreadable(self.path, error, state.STATE) from error

    def order(self) -> Order | None:
        """What its supervisor was told last; None for a plain work dir, or when unreadable."""
        try:
            return msgspec.json.decode((self.path / state.ORDER).read_bytes(), type=Order)
        except (OSError, msgspec.MsgspecError):
            return None

    def wait(self) -> Wait | None:
        """What it waits for, when it stands in the queue (watched by its supervisor or not)."""
        written = self.written_state()
        order = self.order() if written is not None and written.state == "queued" else None
        return order.wait if order is not None else None

    def processes(self) -> list[processes.Identity]:
        """Its processes that live on this machine, wherever the folder was moved since."""
        written = self.written_state()
        if written is None:
            return []
        return processes.of_run(self.path, written.place, written.trainer)

    def progress(self) -> progress.Progress:
        """How far it is; each call reads only what is new."""
        return self._follower.update()

    def gpu_samples(self) -> gpu_samples.Samples:
        """What its GPUs did; each call reads only what is new."""
        return self._gpus.update()

    def events(self) -> list[Event]:
        """What happened, in order. A torn last line is left out."""
        try:
            lines = (self.path / state.EVENTS).read_bytes().split(b"\n")
        except OSError:
            return []
        return [event for event in map(_event, lines) if event is not None]

    def alarms(self) -> list[Alarm]:
        """The alarms that were raised and are not over, in order."""
        return self._alarms.standing(self.state.living)

    def checkpoints(self) -> list[Checkpoint]:
        """Its checkpoints in order of step, with the loss logged before each."""
        return checkpoints.find(self.path, self.progress().history)

    def last_checkpoint(self) -> Checkpoint | None:
        """The newest whole checkpoint: where a resume goes on."""
        whole = [one for one in self.checkpoints() if one.complete]
        return whole[-1] if whole else None

    def summary(self) -> RunSummary:
        """The run in short."""
        now, at = self.state, self.progress()
        words = reasons.say(now.cause)
        noted = notes.read(self.path)
        wait = self.wait()
        return RunSummary(
            run=self.name,
            dir=str(self.path),
            state=now.state,
            step=at.step,
            steps=at.steps,
            loss=at.loss,
            started=now.started,
            ended=now.ended,
            exit=now.exit,
            reason=words.reason,
            checkpoints=checkpoints.find(self.path, at.history),
            todo=words.todo,
            eta=at.eta,
            alarms=[*([self.torn] if self.torn else []), *self._said(now.living)],
            created=self.created(),
            waits=self._waits(wait),
            place=None if wait is None or self.launcher == "slurm" else wait.place,
            note=noted.note,
            tags=noted.tags,
            archived=noted.archived,
            launcher=self.launcher,
            job=self.job,
            host=self._host(now),
            unwatched=now.cause is not None and now.cause.code == _GOES_ON,
        )

    def created(self) -> float:
        """When the run was made, for sorting."""
        try:
            return self.record.created if self.record else self.path.stat().st_mtime
        except (OSError, Problem):
            return 0.0

    def _said(self, living: bool) -> list[str]:
        return [alarms.say(one).reason for one in self._alarms.standing(living)]

    def _why_lost(self, written: RunState) -> Cause:
        wait = self.wait()
        if wait is None:
            return _why_lost(written)
        here = written.supervisor is None or written.supervisor.boot == processes.boot_id()
        code = "waiting-unwatched" if here else "waiting-rebooted"
        return Cause(code, {"wait": waits.brief(wait, self.gpus), "run": self.name})

    def _waits(self, wait: Wait | None) -> str:
        """What it waits for, in a few words; of a Slurm run only what we told Slurm."""
        if wait is None or (self.launcher == "slurm" and waits.over(wait)):
            return ""
        return waits.brief(wait, self.gpus)

    def _host(self, now: RunState) -> str:
        if now.supervisor is not None and now.supervisor.host:
            return now.supervisor.host
        return self.record.host if self.record is not None and self.launcher != "slurm" else ""

    def _just_ordered(self, written: RunState) -> bool:
        """A supervisor is being started, which takes a second or two."""
        return abs(time.time() - written.changed) < 30

    def _plain_state(self) -> RunState:
        """What can be told of a run of plain XTuner: from its steps and its last sign of life."""
        at = self.progress()
        changed = max((file.stat().st_mtime for file in self.path.glob("*/*.log")), default=0.0)
        word: Word
        cause = None
        if at.steps is not None and at.step >= at.steps:
            word = "finished"
        elif abs(time.time() - changed) < _QUIET:  # a sign from the future: the clock was set back
            word = "training" if at.step else "starting"
        else:
            word, cause = "lost", Cause("no-end")
        return RunState(
            word, changed=changed, cause=cause, ended=None if cause is None else changed
        )


def _event(line: bytes) -> Event | None:
    try:
        return msgspec.json.decode(line, type=Event)
    except msgspec.MsgspecError:
        return None


def _why_lost(written: RunState) -> Cause:
    if written.supervisor is None:
        return Cause("never-started")
    if written.supervisor.boot != processes.boot_id():
        return Cause("rebooted")
    if written.trainer is not None and written.trainer.alive:
        return Cause(_GOES_ON, {"pid": str(written.trainer.pid)})
    return Cause("supervisor-gone")


def _is_config(file: Path) -> bool:
    # DeepSpeed's checkpoints bring scripts of their own into the work dir.
    return file.name not in ("zero_to_fp32.py", "zero_to_torch.py")


def unreadable(path: Path, error: Exception, file: str = "") -> Problem:
    """The error for a run in the folder `path` of which `file` cannot be read, or all of it."""
    why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    if isinstance(error, PermissionError):
        todo = _("It may be another user's, whose runs are private.")
    else:
        todo = _("Its files were changed, or another version of Tunedeck wrote them.")
    what = _("Cannot read the run in {path}").format(path=path)
    return Problem(what, f"{file}: {why}" if file else why, todo)
