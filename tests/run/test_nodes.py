"""Several processes on one machine, and on several whose lines the user types: real torchrun.

A small program trains in XTuner's place, with our own answer to the question whether to stop.
XTuner itself in two processes is in test_slurm_training.py.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from engine.run import control, launch, planning, processes, reasons
from engine.run.folder import RunFolder
from engine.run.planning import LaunchPlan
from engine.run.state import Cause
from engine.settings import Nodes, Settings
from engine.worker.client import BOOTSTRAP
from engine.workspace import Workspace
from tests.support import rank_runs, small_trainer

pytestmark = pytest.mark.trains

REAL = [str(BOOTSTRAP), "engine.train.entry"]
SMALL = [str(small_trainer.__file__)]


def until(condition: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def planned(folder: Path, patience: int = 100, **wishes: object) -> LaunchPlan:
    """A start of the small trainer in the real one's place: all else is as it was planned."""
    config = folder / "assistant.py"
    config.write_text("lr = 1e-4\n")
    nodes = Nodes(address="127.0.0.1", patience=patience)
    plan = planning.plan(
        config,
        workspace=Workspace(folder),
        settings=msgspec.structs.replace(Settings(), nodes=nodes),
        gpus=[],
        **wishes,  # type: ignore[arg-type]
    )
    at = plan.command.index(REAL[1]) - 1
    assert plan.command[at : at + 2] == REAL
    lines = [line.replace(shlex.join(REAL), shlex.join(SMALL)) for line in plan.lines]
    command = [*plan.command[:at], *SMALL, *plan.command[at + 2 :]]
    return msgspec.structs.replace(plan, command=command, lines=lines)


Starter = Callable[[LaunchPlan], RunFolder]


@pytest.fixture
def start() -> Iterator[Starter]:
    runs = []

    def started(plan: LaunchPlan) -> RunFolder:
        runs.append(launch.start(plan, Settings()))
        return runs[-1]

    yield started
    for run in runs:
        if run.state.living:
            control.kill(run)


def test_two_processes_stop_together(tmp_path: Path, start: Starter) -> None:
    run = start(planned(tmp_path, processes=2))
    until(lambda: run.state.state == "training", 60)
    assert len(processes.of_run(run.path)) >= 3, "torchrun and its two workers"
    stop(run)
    assert not processes.of_run(run.path)


def befallen(folder: Path, start: Starter, fault: str) -> RunFolder:
    """A run of two ranks, of which `fault` befalls the second."""
    plan = planned(folder, processes=2)
    return start(msgspec.structs.replace(plan, command=[*plan.command, "--fault", fault]))


def test_the_second_rank_is_killed(tmp_path: Path, start: Starter) -> None:
    run = start(planned(tmp_path, processes=2))
    until(lambda: run.state.state == "training", 60)
    pid = rank_runs.ranks(run)[1]
    os.kill(pid, signal.SIGKILL)
    end = control.wait(run, 60)
    assert end.state == "failed", run.log.read_text()[-3000:]
    assert end.cause == Cause("worker-killed", {"pid": str(pid), "rank": "1"})
    assert not processes.of_run(run.path)


@pytest.mark.parametrize(
    ("fault", "code", "rank", "said"),
    [
        ("raises", "exception", 1, "ValueError: a row without an answer: 17"),
        # Who waited says so: the rank that hangs says nothing.
        ("hangs", "gloo-timeout", 0, "Timed out waiting"),
    ],
)
def test_the_second_rank_fails(
    tmp_path: Path, start: Starter, fault: str, code: str, rank: int, said: str
) -> None:
    run = befallen(tmp_path, start, fault)
    end = control.wait(run, 60)
    assert end.state == "failed" and end.cause is not None, run.log.read_text()[-3000:]
    assert (end.cause.code, end.cause.values["rank"]) == (code, str(rank)), end.cause
    shown = reasons.traceback(reasons.tail(run.log, end.log_start), end.cause)
    assert shown[0].startswith(f"[rank{rank}]: Traceback") and said in shown[-1]
    assert not processes.of_run(run.path)


def test_a_node_that_never_comes_ends_the_run_with_its_cause(
    tmp_path: Path, start: Starter
) -> None:
    run = start(planned(tmp_path, patience=3, launcher="nodes", nodes=2))
    end = control.wait(run, 60)
    assert end.state == "failed", run.log.read_text()
    assert end.cause is not None and end.cause.code.startswith("nodes-missing"), (
        end.cause,
        run.log.read_text(),
    )


def test_the_lines_of_two_nodes_make_one_run(tmp_path: Path, start: Starter) -> None:
    plan = planned(tmp_path, launcher="nodes", nodes=2)
    run = start(plan)
    said = tmp_path / "second.log"
    with said.open("wb") as out:
        typed = subprocess.Popen(["bash", "-c", plan.lines[1]], stdout=out, stderr=out)
    try:
        until(lambda: run.state.state == "training", 60)
        assert plan.processes == 2
        stop(run)
        assert typed.wait(30) == 0, "the other node ended as well"
    finally:
        typed.kill()
    step = run.summary().reason.split("step ")[1].split(",")[0]
    assert f"rank 0 of 2 stops after step {step}\n" in run.log.read_text()
    assert f"rank 1 of 2 stops after step {step}\n" in said.read_text()


def stop(run: RunFolder) -> None:
    control.stop(run)
    end = control.wait(run, 30)
    assert (end.state, end.exit) == ("stopped", 0), run.log.read_text()[-3000:]
