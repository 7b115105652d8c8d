"""Runs on a real Slurm cluster, which the tests start on this machine themselves.

Most train nothing: a small program stands in for the trainer and behaves as it
does towards the folder. The last ones train the tiny model.
"""

from __future__ import annotations

import json
import os
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from engine.run import control, launch
from engine.run.folder import RunFolder
from engine.run.slurm import client, submission, view
from engine.settings import Settings, Slurm
from engine.workspace import Workspace
from tests.support import slurm_cluster, tiny_config
from tests.support.slurm_cluster import Cluster

pytestmark = pytest.mark.trains

NOTE = """
import json, os, pathlib, sys, time
run = pathlib.Path(sys.argv[sys.argv.index("--work-dir") + 1])
def note(**facts):
    part = run / "trainer.part"
    part.write_text(json.dumps({"first": 0, "steps": 100, "started": time.time()} | facts))
    part.replace(run / "trainer.json")
"""
SAVES = """
note()
while not (run / "stop").exists(): time.sleep(0.02)
note(stopped=7)
"""


@pytest.fixture(scope="session")
def running_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    missing = slurm_cluster.missing()
    if missing:
        reason = f"no {missing[0]} here (Debian's packages slurm-wlm and munge)"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    cluster = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def cluster(running_cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    for name, value in running_cluster.variables.items():
        monkeypatch.setenv(name, value)
    running_cluster.settle()
    return running_cluster


class Starter:
    """Submits runs, and leaves none behind."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.workspace = Workspace(folder)
        self.config = folder / "assistant.py"
        self.config.write_text("lr = 1e-4\n")
        self.runs: list[RunFolder] = []

    def __call__(self, program: str, **wishes: object) -> RunFolder:
        asked = Slurm(**{"gpus": 1, "warning": 0} | wishes)  # type: ignore[arg-type]
        plan = launch.plan(
            self.config,
            workspace=self.workspace,
            settings=Settings(),
            launcher="slurm",
            slurm=asked,
        )
        code = NOTE + textwrap.dedent(program)
        command = ["srun", sys.executable, "-c", code, "--work-dir", str(plan.dir)]
        run = launch.start(msgspec.structs.replace(plan, command=command), Settings())
        self.runs.append(run)
        return run


@pytest.fixture
def submit(cluster: Cluster, tmp_path: Path) -> Iterator[Starter]:
    # Slurm has patterns with % in file names, and its options are words of a shell.
    starter = Starter(tmp_path / "空 间%j")
    yield starter
    for run in starter.runs:
        if run.state.living or run.state.state == "lost":
            control.kill(run)


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def becomes(run: RunFolder, *words: str, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while run.state.state not in words:
        assert time.monotonic() < end, (run.state, (run.path / "slurm.log").read_text())
        time.sleep(0.05)


def test_submit_follow_and_stop_with_a_checkpoint(submit: Starter) -> None:
    run = submit(SAVES + "print(os.environ['CUDA_VISIBLE_DEVICES'])")
    assert run.state.state in ("queued", "starting") and run.job.isdigit()
    becomes(run, "training")
    summary = run.summary()
    assert (summary.launcher, summary.job) == ("slurm", run.job) and summary.host
    order = run.order()
    assert order is not None and order.gpus == [0], "as Slurm gave them, for the gauges"
    control.stop(run)
    end = control.wait(run, 20)
    assert (end.state, end.exit) == ("stopped", 0) and "step 7" in run.summary().reason
    assert run.log.read_text() == "0\n"
    words = [event.state for event in run.events() if event.event == "state"]
    assert words[0] == "starting" and words[-1] == "stopped"
    until(
        lambda: (found := view.find(run.path, now=True)) is not None and found.state == "COMPLETED"
    )


def test_a_failure_has_the_trainers_cause(submit: Starter) -> None:
    run = submit("note(); raise OSError(28, 'No space left on device')")
    assert control.wait(run, 20).state == "failed"
    assert "disk is full" in run.summary().reason


def test_kill_cancels_the_job_and_sees_to_it(submit: Starter) -> None:
    run = submit("note(); time.sleep(600)")
    becomes(run, "training")
    end = control.kill(run)
    assert end.state == "stopped" and "Killed on request" in run.summary().reason
    job = view.find(run.path, now=True)
    assert job is not None and job.state in ("CANCELLED", "COMPLETING")


def test_a_job_cancelled_by_hand(submit: Starter, cluster: Cluster) -> None:
    run = submit("note(); time.sleep(600)")
    becomes(run, "training")
    cluster.ask("scancel", run.job)
    becomes(run, "stopped")
    assert "was cancelled" in run.summary().reason


def test_what_waits_says_why_and_can_be_taken_out(submit: Starter) -> None:
    run = submit("note()", extra=("--begin=now+1hour",))
    until(lambda: "time to begin" in run.summary().reason)
    assert run.state.state == "queued" and "expects to start it at" in run.summary().todo
    assert control.stop(run).state == "stopped"
    assert "taken out" in run.summary().reason


def test_what_slurm_refuses_leaves_no_folder(submit: Starter) -> None:
    for wish, says in (({"gpus": 7}, "not available"), ({"partition": "nope"}, "partition")):
        with pytest.raises(client.Refused, match=says):
            submit("note()", **wish)
    assert not submit.workspace.runs.exists()


def test_the_warning_before_the_time_limit_saves_and_goes_on(
    submit: Starter, cluster: Cluster
) -> None:
    run = submit(SAVES, continues=1)
    becomes(run, "training")
    cluster.ask("scancel", "--signal=USR1", "--batch", run.job)
    becomes(run, "queued")
    until(lambda: cluster.ask("squeue", "-h", "-j", run.job, "-o", "%T") == "PENDING")
    assert "back in Slurm's queue" in run.summary().reason
    (run.path / "iter_7.pth").write_bytes(b"torn")  # half written: not to go on from
    cluster.ask("scontrol", "update", f"JobId={run.job}", "StartTime=now")
    becomes(run, "training")
    assert run.state.attempt == 2
    cluster.ask("scancel", "--signal=USR1", "--batch", run.job)
    becomes(run, "stopped")
    assert "time limit came near" in run.summary().reason, "the settings allow one return"


def test_a_preempted_run_comes_back(submit: Starter, cluster: Cluster) -> None:
    low = submit(SAVES, partition="low", continues=1, extra=("--exclusive", "--nodelist=node1"))
    becomes(low, "training")
    high = submit(SAVES, partition="high", extra=("--exclusive", "--nodelist=node1"))
    becomes(high, "training")
    becomes(low, "queued")
    until(lambda: cluster.ask("squeue", "-h", "-j", low.job, "-o", "%T") == "PENDING")
    assert low.state.state == "queued" and "back in Slurm's queue" in low.summary().reason


def test_a_lost_job_id_is_found_by_name(submit: Starter) -> None:
    run = submit("note(); time.sleep(600)", extra=("--begin=now+1hour",))
    known, job = submission.read(run.path), run.job
    assert known is not None
    submission.write(run.path, msgspec.structs.replace(known, job=""))
    assert run.state.state == "queued" and run.job == job


def test_a_job_that_nobody_knows_is_lost(submit: Starter) -> None:
    run = submit("note(); time.sleep(600)", extra=("--begin=now+1hour",))
    known = submission.read(run.path)
    assert known is not None
    submission.write(run.path, msgspec.structs.replace(known, job="999999"))
    assert run.state.state == "lost" and "does not know job 999999" in run.summary().reason
    submission.write(run.path, known)


def test_a_controller_that_is_down_makes_no_run_lost(submit: Starter, cluster: Cluster) -> None:
    waits = submit("note()", extra=("--begin=now+1hour",))
    runs = submit(SAVES)
    becomes(runs, "training")
    cluster.stop_controller()
    view._queue().forget()
    try:
        assert waits.state.state == "queued"
        assert "does not answer" in waits.summary().reason
        assert runs.state.state == "training", "its own supervisor is there to be seen"
        control.stop(runs)
        assert control.wait(runs, 20).state == "stopped", "by file, without Slurm"
    finally:
        cluster.start_controller()
        view._queue().forget()
    until(lambda: "time to begin" in waits.summary().reason)


def test_the_tiny_model_stops_and_resumes(
    cluster: Cluster, tmp_path: Path, tiny_model: Path
) -> None:
    run = train(tmp_path, tiny_model, nodes=1)
    until(lambda: run.progress().step >= 1 or not run.state.living, 200)
    control.stop(run)
    end = control.wait(run, 60)
    assert (end.state, end.exit) == ("stopped", 0), run.log.read_text()[-3000:]
    saved = run.last_checkpoint()
    assert saved is not None and f"step {saved.step}" in run.summary().reason
    control.resume(run, Settings())
    assert (run.state.attempt, run.record and run.record.launcher) == (2, "slurm")
    end = control.wait(run, 200)
    assert end.state == "finished", run.log.read_text()[-3000:]
    assert list(run.progress().history.step) == list(range(1, 13))


def test_two_nodes_train_together(cluster: Cluster, tmp_path: Path, tiny_model: Path) -> None:
    # Under DeepSpeed: mmengine's own wrapper for several processes wants GPUs.
    run = train(tmp_path, tiny_model, nodes=2, deepspeed="2")
    end = control.wait(run, 300)
    assert end.state == "finished", run.log.read_text()[-3000:]
    assert run.summary().step == run.summary().steps == 6, "each node took half of the samples"
    record = json.loads((run.path / "run.json").read_text())
    assert (record["nodes"], record["processes"]) == (2, 2)
    job = view.find(run.path, now=True)
    assert job is not None and job.nodes == "node[1-2]"


def train(folder: Path, model: Path, nodes: int, deepspeed: str | None = None) -> RunFolder:
    config = tiny_config.write(folder, model)
    plan = launch.plan(
        config,
        workspace=Workspace(folder),
        settings=Settings(),
        deepspeed=deepspeed,
        launcher="slurm",
        nodes=nodes,
        slurm=Slurm(gpus=0, cpus=2, warning=0),
    )
    return launch.start(plan, Settings())
