"""Runs of small programs in the trainer's place, and who is left of them.

They behave as the trainer does towards the folder (its note, the stop file),
and start in a fraction of a second.
"""

from __future__ import annotations

import os
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from engine.machine.devices import GpuId
from engine.run import control, launch, planning, processes
from engine.run.folder import RunFolder
from engine.run.listing import is_run
from engine.run.planning import LaunchPlan
from engine.run.processes import Identity
from engine.run.state import Wait
from engine.settings import Settings
from engine.workspace import Workspace

NOTE = """
import json, os, pathlib, subprocess, sys, time
run = pathlib.Path(sys.argv[sys.argv.index("--work-dir") + 1])
def note(**facts):
    part = run / "trainer.part"
    part.write_text(json.dumps({"first": 0, "steps": 100, "started": time.time()} | facts))
    part.replace(run / "trainer.json")
"""

WITH_WORKER = """
worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"],
                          start_new_session=True)
(run / "worker.pid").write_text(str(worker.pid))
note()
"""
"""What torchrun does: a worker in a session of its own, which does not mind losing its parent."""

STOPS = """
import zipfile
step = 0
while not (run / "stop").exists():
    time.sleep(0.02)
    try:
        with (run / "steps").open("a") as steps:
            step += steps.write(f"{step + 1}\\n") > 0
    except FileNotFoundError:
        pass
with zipfile.ZipFile(run / f"iter_{step}.pth", "w") as saved:
    saved.writestr("archive/data.pkl", b"")
(run / "last_checkpoint").write_text(saved.filename)
note(stopped=step)
"""
"""Makes steps, and saves when it is asked to stop, all under the path that it was given.

It happens to write nothing in a moment in which there is nothing.
"""


class Starter:
    """Starts runs of a program, and knows who belongs to them."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.config = workspace.root / "assistant.py"
        self.config.write_text("lr = 1e-4\n")
        self.runs: list[RunFolder] = []
        self._marks: set[str] = set()
        self._groups: set[int] = set()

    def plan(
        self, program: str, wait: Wait | None = None, gpus: Sequence[GpuId] = ()
    ) -> LaunchPlan:
        """A start of `program`, which is Python: it finds `run` (its folder) and `note`."""
        plan = planning.plan(
            self.config, workspace=self.workspace, settings=Settings(), gpus=[*gpus], wait=wait
        )
        code = NOTE + textwrap.dedent(program)
        return msgspec.structs.replace(
            plan, command=[sys.executable, "-c", code, "--work-dir", str(plan.dir)]
        )

    def __call__(
        self, program: str, wait: Wait | None = None, gpus: Sequence[GpuId] = ()
    ) -> RunFolder:
        """Start it, or put it into the queue."""
        run = launch.start(self.plan(program, wait, gpus), Settings())
        self.runs.append(run)
        return run

    def trains(self, program: str) -> RunFolder:
        """Start it; return when it has made its first step, and its processes are known."""
        run = self(program)
        training(run)
        self.know(run)
        return run

    def know(self, run: RunFolder) -> None:
        """Remember the process groups that the run's processes are in now."""
        self._marks.add(str(run.path))
        supervisor = run.state.supervisor
        watching = [] if supervisor is None or not supervisor.alive else [supervisor]
        for one in [*watching, *run.processes()]:
            self._groups.add(os.getpgid(one.pid))
        assert os.getpgid(0) not in self._groups

    def left(self) -> list[Identity]:
        """Who is left: in the groups that were known, or with the mark of one of the runs."""
        marks = self._marks | {str(run.path) for run in self.runs}
        pids = {pid for pid, mark in processes.marked() if mark in marks}
        pids |= {pid for pid in _everybody() if _group(pid) in self._groups}
        found = (Identity.of(pid) for pid in pids)
        return [one for one in found if one is not None]


Kind = TypeVar("Kind", bound=Starter)


@contextmanager
def starting(workspace: Workspace, kind: type[Kind]) -> Iterator[Kind]:
    """A `Starter` that leaves no process behind; it fails where only it could clear one away."""
    starter = kind(workspace)
    try:
        yield starter
        for run in starter.runs:
            if is_run(run.path) and (run.state.living or run.state.state == "lost"):
                control.kill(run)
        until(lambda: not starter.left())
    finally:
        processes.end(starter.left(), 0.0)


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Wait for `condition`; fails after so many seconds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def training(run: RunFolder) -> None:
    """Wait until its first step."""
    until(lambda: run.state.state == "training")


def gone(pid: int) -> bool:
    """Whether no process has that id."""
    return Identity.of(pid) is None


def worker(run: RunFolder) -> int:
    """The process id of the worker of `WITH_WORKER`."""
    return int((run.path / "worker.pid").read_text())


def _everybody() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None
