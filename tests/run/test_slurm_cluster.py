"""Runs on a real Slurm cluster, which the tests start on this machine themselves.

None trains: a small program stands in for the trainer and behaves as it does towards
the folder, for they try our side. The real trainer is in test_slurm_training.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from engine.run import control, launch, planning, reach
from engine.run.folder import RunFolder
from engine.run.slurm import client, submission, view
from engine.run.state import Wait
from engine.settings import Settings, Slurm
from engine.workspace import Workspace
from tests.support.slurm_cluster import Cluster
from tests.support.starter import NOTE, until

pytestmark = pytest.mark.waits

WAITS = """
note()
while not (run / "go").exists(): time.sleep(0.02)
"""
SAVES = """
note()
print("resumes", sys.argv[sys.argv.index("--resume") + 1] if "--resume" in sys.argv else "nothing")
while not (run / "stop").exists(): time.sleep(0.02)
import zipfile
with zipfile.ZipFile(run / "iter_7.pth", "w") as file: file.writestr("archive/data.pkl", b"")
note(stopped=7)
"""
HOLDS = "note(); time.sleep(600)"


class Starter:
    """Submits runs, and leaves none behind."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.workspace = Workspace(folder)
        self.config = folder / "assistant.py"
        self.config.write_text("lr = 1e-4\n")
        self.runs: list[RunFolder] = []

    def plan(self, program: str, wait: Wait | None = None, **wishes: object) -> planning.LaunchPlan:
        asked = Slurm(**{"gpus": 1, "warning": 0} | wishes)  # type: ignore[arg-type]
        plan = planning.plan(
            self.config,
            workspace=self.workspace,
            settings=Settings(),
            launcher="slurm",
            slurm=asked,
            wait=wait,
        )
        code = NOTE + textwrap.dedent(program)
        command = ["srun", sys.executable, "-c", code, "--work-dir", str(plan.dir)]
        return msgspec.structs.replace(plan, command=command)

    def __call__(self, program: str, wait: Wait | None = None, **wishes: object) -> RunFolder:
        run = launch.start(self.plan(program, wait, **wishes), Settings())
        self.runs.append(run)
        return run

    def clear(self) -> None:
        for run in self.runs:
            if run.state.living or run.state.state == "lost":
                control.kill(run)


@pytest.fixture
def submit(cluster: Cluster, tmp_path: Path) -> Iterator[Starter]:
    # Slurm has patterns with % in file names, and its options are words of a shell.
    starter = Starter(tmp_path / "空 间%j")
    yield starter
    starter.clear()


Limited = tuple[RunFolder, RunFolder]


@pytest.fixture(scope="module", autouse=True)
def limited(
    running_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Limited]:
    """Two runs with a limit of a minute: one heeds the warning before it, one does not.

    Slurm has no shorter limit and looks only every half minute, so they are started before
    all tests, and looked at by the last.
    """
    folder = tmp_path_factory.mktemp("limited")
    starter = Starter(folder / "workspace")
    home = {f"XDG_{name}_HOME": str(folder / name) for name in ("CONFIG", "CACHE", "STATE")}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (running_cluster.variables | home).items():
            patch.setenv(name, value)
        asked = {"gpus": 0, "time": "1", "warning": 20, "extra": ("--nodelist=node2",)}
        yield starter(SAVES, **asked), starter(HOLDS, **asked)
        starter.clear()


def becomes(run: RunFolder, *words: str, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while run.state.state not in words:
        assert time.monotonic() < end, (run.state, (run.path / "slurm.log").read_text())
        time.sleep(0.05)


def slurm_says(run: RunFolder) -> str:
    found = view.find(run.path, now=True)
    return "" if found is None else found.state


def warn(cluster: Cluster, run: RunFolder) -> None:
    """Warn the run as Slurm does before its time limit."""
    cluster.ask("scancel", "--signal=USR1", "--batch", run.job)


def test_submit_follow_and_stop_with_a_checkpoint(submit: Starter) -> None:
    run = submit("print(os.environ['CUDA_VISIBLE_DEVICES'])" + SAVES)
    assert run.state.state in ("queued", "starting") and run.job.isdigit()
    becomes(run, "training")
    summary = run.summary()
    assert (summary.launcher, summary.job) == ("slurm", run.job) and summary.host
    order = run.order()
    assert order is not None and order.gpus == [0], "as Slurm gave them, for the gauges"
    control.stop(run)
    end = control.wait(run, 20)
    assert (end.state, end.exit) == ("stopped", 0) and "step 7" in run.summary().reason
    assert run.log.read_text() == "0\nresumes nothing\n"
    words = [event.state for event in run.events() if event.event == "state"]
    assert words[0] == "starting" and words[-1] == "stopped"
    until(lambda: slurm_says(run) == "COMPLETED")


def test_a_failure_has_the_trainers_cause_and_the_users_command_is_told(
    submit: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Slurm ends what a job leaves behind: the job must last as long as the command.
    monkeypatch.setenv("TUNEDECK_ALARMS_HOOK", 'sleep 1; echo "$TUNEDECK_STATE" >told')
    run = submit("note(); raise OSError(28, 'No space left on device')")
    assert control.wait(run, 20).state == "failed"
    assert "disk is full" in run.summary().reason
    until(lambda: slurm_says(run) == "FAILED")
    assert (run.path / "told").read_text() == "failed\n"


def test_kill_cancels_the_job_and_sees_to_it(submit: Starter) -> None:
    run = submit(HOLDS)
    becomes(run, "training")
    end = control.kill(run)
    assert end.state == "stopped" and "Killed on request" in run.summary().reason
    job = view.find(run.path, now=True)
    assert job is not None and job.state in ("CANCELLED", "COMPLETING")


def test_a_job_cancelled_by_hand(submit: Starter, cluster: Cluster) -> None:
    run = submit(HOLDS)
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


def test_a_run_that_is_put_back_goes_on_from_its_last_whole_checkpoint(
    submit: Starter, cluster: Cluster
) -> None:
    run = submit(SAVES, continues=1)
    becomes(run, "training")
    warn(cluster, run)
    becomes(run, "queued")
    until(lambda: cluster.ask("squeue", "-h", "-j", run.job, "-o", "%T") == "PENDING")
    assert "back in Slurm's queue" in run.summary().reason
    (run.path / "iter_9.pth").write_bytes(b"torn")  # half written: not to go on from
    cluster.ask("scontrol", "update", f"JobId={run.job}", "StartTime=now")
    becomes(run, "training")
    assert run.state.attempt == 2
    saved = run.path / "iter_7.pth"
    assert run.log.read_text() == f"resumes nothing\nresumes {saved}\n"
    order = run.order()
    assert order is not None and order.resume == str(saved)
    warn(cluster, run)
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


def test_a_run_that_is_moved_while_it_waits_says_what_to_do(
    submit: Starter, cluster: Cluster
) -> None:
    run = submit(SAVES, extra=("--begin=now+1hour",))
    before = run.path
    run = RunFolder(before.rename(submit.workspace.runs / "moved-01"))
    submit.runs[:] = [run]
    waits = run.summary()
    assert waits.state == "queued" and f"will look for it in '{before}'" in waits.reason
    subprocess.run(waits.todo.partition(": ")[2], shell=True, check=True)
    view._queue().forget()
    until(lambda: "time to begin" in run.summary().reason)
    cluster.ask("scontrol", "update", f"JobId={run.job}", "StartTime=now")
    becomes(run, "training")
    control.stop(run)
    assert control.wait(run, 20).state == "stopped" and (run.path / "iter_7.pth").is_file()
    assert [event.event for event in run.events()].count("moved") == 0, "not while it ran"
    until(lambda: not os.path.lexists(before))


def test_a_run_that_can_never_start_says_that_first_wherever_it_was_moved(
    submit: Starter, cluster: Cluster
) -> None:
    run = submit(HOLDS, partition="low", extra=("--begin=now+1hour",))
    run = RunFolder(run.path.rename(submit.workspace.runs / "moved-02"))
    submit.runs[:] = [run]
    limit = ("scontrol", "update", "PartitionName=low")
    cluster.ask(*limit, "MaxTime=1")  # the job asks for more
    try:
        cluster.ask("scontrol", "update", f"JobId={run.job}", "StartTime=now")
        until(lambda: (view._queue().forget(), "will never start" in run.summary().reason)[1])
        assert "less time" in run.summary().todo
    finally:
        cluster.ask(*limit, "MaxTime=INFINITE")
    control.stop(run)
    assert run.state.state == "stopped" and "taken out" in run.summary().reason


def test_a_lost_job_id_is_found_by_name(submit: Starter) -> None:
    run = submit(HOLDS, extra=("--begin=now+1hour",))
    known, job = submission.read(run.path), run.job
    assert known is not None
    submission.write(run.path, msgspec.structs.replace(known, job=""))
    assert run.state.state == "queued" and run.job == job


def test_a_job_that_nobody_knows_is_lost(submit: Starter) -> None:
    run = submit(HOLDS, extra=("--begin=now+1hour",))
    known = submission.read(run.path)
    assert known is not None
    submission.write(run.path, msgspec.structs.replace(known, job="999999"))
    assert run.state.state == "lost" and "does not know job 999999" in run.summary().reason
    submission.write(run.path, known)


def test_a_run_waits_for_another_and_starts_if_that_succeeds_or_in_any_case(
    submit: Starter,
) -> None:
    first = submit(WAITS + "sys.exit(3)")
    strict = submit("note()", Wait(after=str(first.path)))
    easy = submit("note()", Wait(after=str(first.path), needs="end"))
    for run in (strict, easy):
        until(lambda run=run: "for another job" in run.summary().reason)  # type: ignore[misc]
        assert (run.state.state, run.summary().waits) == ("queued", "after assistant-01")
    (first.path / "go").touch()
    becomes(first, "failed")
    becomes(strict, "failed")
    assert "did not succeed" in strict.summary().reason and strict.summary().waits == ""
    becomes(easy, "finished")


def test_a_stopped_run_is_none_that_succeeded(submit: Starter) -> None:
    first = submit(SAVES)
    strict = submit("note()", Wait(after=str(first.path)))
    becomes(first, "training")
    control.stop(first)
    becomes(strict, "failed")
    assert slurm_says(first) == "COMPLETED", "all is well for Slurm"
    assert "assistant-01, which it waited for, was stopped" in strict.summary().reason
    order = control.resume(strict, Settings(), now=True).order()
    assert order is not None and order.wait is None, "it starts all the same"
    becomes(strict, "starting")


def test_a_disk_that_the_nodes_may_not_share_is_told(submit: Starter) -> None:
    here = submit.plan("")
    assert reach.unseen(here, Settings()) == {}, "all nodes are this machine"
    far = msgspec.structs.replace(here, slurm=Slurm(partition="far"), dir=Path("/dev/shm/run"))
    assert reach.unseen(far, Settings())[Path("/dev/shm/run")] == "tmpfs"


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
        cluster.settle()
        view._queue().forget()
    until(lambda: "time to begin" in waits.summary().reason)


def test_the_time_limit_is_told_with_its_remedy(limited: Limited, cluster: Cluster) -> None:
    heeds, ignores = limited
    end = control.wait(heeds, 120)
    assert (end.state, end.exit) == ("stopped", 0)
    assert "came near: stopped after step 7, with a checkpoint" in heeds.summary().reason
    end = control.wait(ignores, 120)
    assert end.state == "failed" and end.cause is not None and end.cause.code == "slurm-time"
    assert "time limit ended job" in ignores.summary().reason
    assert "Set `warning`" in ignores.summary().todo
    until(lambda: slurm_says(ignores) == "TIMEOUT")
