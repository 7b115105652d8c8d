"""What is written about a run: its record, its order, its state, its events."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import msgspec

from engine.i18n import N_, _
from engine.machine.devices import GpuId
from engine.run.processes import Identity
from engine.settings import Slurm

Word = Literal[
    "queued", "starting", "training", "stopping", "finished", "failed", "stopped", "lost"
]
_SPOKEN: dict[Word, str] = {
    "queued": N_("queued"),
    "starting": N_("starting"),
    "training": N_("training"),
    "stopping": N_("stopping"),
    "finished": N_("finished"),
    "failed": N_("failed"),
    "stopped": N_("stopped"),
    "lost": N_("lost"),
}
Launcher = Literal["local", "nodes", "slurm"]
"""Who starts the trainer: a supervisor here; the same, with lines for the user to start on
other nodes; a supervisor in a Slurm job."""
MARKS: dict[str, str] = {
    "queued": "⏸",
    "starting": "◌",
    "training": "◐",
    "stopping": "◑",
    "finished": "✓",
    "failed": "✗",
    "stopped": "■",
    "lost": "?",
}
"""A run's state as one cell; always shown beside a word or a number, never colour alone."""
LIVING: frozenset[Word] = frozenset(("queued", "starting", "training", "stopping"))

RECORD = "run.json"
ORDER = "order.json"
STATE = "state.json"
EVENTS = "events.jsonl"
LOG = "trainer.log"
SUPERVISOR_LOG = "supervisor.log"
GPU_METRICS = "metrics/gpu.jsonl"
PULSES = "metrics/nodes"
NOTES = "notes.json"
CONFIG_FOLDER = "config"
STOP = "stop"
KILL = "kill"
FACTS = "trainer.json"
STARTS = "starts"


def spoken(word: Word) -> str:
    """A state in the language in use."""
    return _(_SPOKEN[word])


class Expected(msgspec.Struct, frozen=True):
    """The GPU memory that was reckoned before the start, of each card, in bytes."""

    used: int
    """What the card is to hold: tensors, the allocator's room around them, CUDA itself."""
    allocated: int
    """Of these, tensors at their peak: what XTuner logs as ``memory``."""


class RunRecord(msgspec.Struct, frozen=True):
    """Who started what (``run.json``): written at the start; a resume changes how it runs."""

    run: str
    created: float
    """Seconds since the epoch."""
    user: str
    host: str
    source: str
    """The config file that the run was started from; "" where that is not known any more."""
    config: str
    """The frozen config, relative to the run folder. It is what runs."""
    config_hash: str
    """sha256 of the frozen config."""
    workspace: str
    """The folder that relative paths in the config start from."""
    python: str
    """The training interpreter."""
    gpus: list[GpuId]
    """Numbers as the driver counts; empty on a CPU."""
    processes: int
    deepspeed: str
    command: list[str]
    environment: dict[str, str]
    """What was added to the user's own environment."""
    versions: dict[str, str]
    git: str = ""
    """The workspace's commit, "+changes" when it had some; "" outside of git."""
    launcher: Launcher = "local"
    nodes: int = 1
    slurm: Slurm | None = None
    """What Slurm was asked for; None for the other launchers."""
    source_hash: str = ""
    """sha256 of `source`, where the frozen config has other settings; else ""."""
    then_export: bool = False
    """Whether its last checkpoint becomes a checked model when it has succeeded."""
    expected: Expected | None = None
    """None where nobody reckoned, and on a CPU."""


def is_ours(folder: Path) -> bool:
    """Whether Tunedeck started the run in `folder`, whose record may be gone."""
    return any((folder / name).exists() for name in (RECORD, ORDER, STATE, EVENTS))


def read_record(folder: Path) -> RunRecord | None:
    """Who started the run in `folder`; None when that is not (legibly) written."""
    try:
        return msgspec.json.decode((folder / RECORD).read_bytes(), type=RunRecord)
    except (OSError, msgspec.MsgspecError):
        return None


class Wait(msgspec.Struct, frozen=True):
    """What a queued run waits for. With both, first for the run, then for the GPUs."""

    after: str = ""
    """The folder of the run whose end it waits for; "" for none."""
    needs: Literal["success", "end"] = "success"
    """"end": it goes on whatever became of that run."""
    free: bool = False
    """Until nobody holds memory on its GPUs."""
    place: float = 0.0
    """Its place in the queue: the lowest is first. Seconds since the epoch, unless moved."""


class Order(msgspec.Struct, frozen=True):
    """What the supervisor is to do now; replaced at every start (``order.json``)."""

    command: list[str]
    environment: dict[str, str]
    unset: list[str]
    """Variables that the trainer must not inherit."""
    folder: str
    """The trainer's current folder."""
    gpus: list[GpuId]
    resume: str = ""
    """The checkpoint to go on from."""
    wait: Wait | None = None
    """What is waited for before the trainer starts; None starts it at once."""


class Cause(msgspec.Struct, frozen=True):
    """Why a run ended: a rule of `engine.run.reasons` and the values for its sentence."""

    code: str
    values: dict[str, str] = {}


class RunState(msgspec.Struct, frozen=True):
    """How it stands (``state.json``, replaced atomically). Times in seconds since the epoch."""

    state: Word
    changed: float
    attempt: int = 1
    """1 for the first start, one more for each resume."""
    supervisor: Identity | None = None
    trainer: Identity | None = None
    place: str = ""
    """Where the folder lay when the trainer started, which knows it by that path only."""
    started: float | None = None
    """When this attempt's trainer started."""
    ended: float | None = None
    exit: int | None = None
    """The trainer's exit status; minus the signal's number when one ended it."""
    cause: Cause | None = None
    log_start: int = 0
    """Where this attempt begins in trainer.log, in bytes."""

    @property
    def living(self) -> bool:
        """Whether a supervisor is in charge of it."""
        return self.state in LIVING

    @property
    def pid(self) -> int | None:
        """The trainer's process id, while it is known."""
        return self.trainer.pid if self.trainer is not None else None

    def become(self, word: Word, **changes: Any) -> RunState:
        """This state after a change to `word`."""
        return msgspec.structs.replace(self, state=word, changed=time.time(), **changes)


class Alarm(msgspec.Struct, frozen=True):
    """What is wrong with a run while it runs: a row of `engine.run.alarms.table`, and values."""

    code: str
    values: dict[str, str] = {}


AlarmEvent = Literal["alarm", "alarm-over"]


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of ``events.jsonl``."""

    time: float
    event: Literal["state", "start", "checkpoint", "moved"] | AlarmEvent
    state: Word | None = None
    """For "state": what the run became."""
    supervisor: Identity | None = None
    """For "state": who supervises it, where that is new."""
    trainer: Identity | None = None
    """For "state": its trainer, where that is new."""
    step: int | None = None
    """For "checkpoint": the step it was saved after."""
    path: str = ""
    """For "checkpoint": its name in the run folder; for "start": what it goes on from; for
    "moved": where the folder lay before."""
    attempt: int | None = None
    """For "start"."""
    cause: Cause | None = None
    command: list[str] | None = None
    """For "start"."""
    alarm: Alarm | None = None
    """For "alarm" (it is raised) and "alarm-over"."""


def from_events(events: Iterable[Event]) -> RunState | None:
    """How a run stands by its events, for when its state cannot be read; None: they do not say.

    What they do not tell (an exit status, where the log begins) is left out.
    """
    now: RunState | None = None
    attempt = 1
    for event in events:
        if event.event == "start":
            attempt = event.attempt or attempt
        if event.event != "state" or event.state is None:
            continue
        before = now if now is not None and now.attempt == attempt else None
        supervisor = event.supervisor or (now.supervisor if now is not None else None)
        now = RunState(
            event.state,
            changed=event.time,
            attempt=attempt,
            supervisor=supervisor,
            trainer=event.trainer or (before.trainer if before is not None else None),
            started=event.time if event.trainer else before.started if before else None,
            ended=None if event.state in LIVING else event.time,
            cause=event.cause,
        )
    return now


class Facts(msgspec.Struct, frozen=True):
    """What the trainer's hook writes (``trainer.json``)."""

    first: int
    """Steps already made before this attempt."""
    steps: int
    """Steps in all."""
    started: float
    """When its first step began."""
    stopped: int | None = None
    """The step saved because a stop was asked for."""
