"""What is asked of Slurm, and what its answers mean, without a cluster."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine import settings, settings_file
from engine.errors import Problem
from engine.joined import before_start, candidates
from engine.run import elsewhere, life, planning, processes, reasons, state
from engine.run.folder import RunFolder
from engine.run.slurm import client, script, states, submission, view
from engine.run.slurm import job as slurm_job
from engine.run.slurm.client import Job
from engine.run.state import RunState, Wait
from engine.settings import Nodes, Settings, Slurm
from engine.workspace import Workspace
from tests.support.nvml import Card, Instance, Nvml, instance_uuid
from tests.support.run_files import write_run


def plan(folder: Path, slurm: Slurm, nodes: int = 2, **wishes: object) -> planning.LaunchPlan:
    (folder / "assistant.py").write_text("lr = 1e-4\n")
    return planning.plan(
        folder / "assistant.py",
        workspace=Workspace(folder),
        settings=Settings(),
        launcher="slurm",
        nodes=nodes,
        slurm=slurm,
        **wishes,  # type: ignore[arg-type]
    )


def options(text: str) -> list[str]:
    return [line[8:] for line in text.splitlines() if line.startswith("#SBATCH ")]


def test_the_script_asks_for_what_the_settings_say(tmp_path: Path) -> None:
    asked = Slurm(
        partition="gpu", time="08:00:00", gpus=4, gpu_type="a100", memory="200G",
        extra=("--reservation=the night",),
    )  # fmt: skip
    found = options(plan(tmp_path, asked).script)
    assert {"--nodes=2", "--ntasks-per-node=1", "--partition=gpu", "--time=08:00:00"} <= set(found)
    assert {"--gpus-per-node=a100:4", "--mem=200G", "--signal=B:USR1@300"} <= set(found)
    assert "--no-requeue" in found and found[-1] == "'--reservation=the night'"
    assert not any(one.startswith(("--account", "--qos", "--cpus")) for one in found)


def test_the_gpus_of_a_job_are_known_by_number_or_uuid(
    nvml: Nvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml.set(Card(uuid="GPU-a"), Card(uuid="GPU-b"), Card(mig=True, instances=[Instance()]))
    mig = instance_uuid(Instance(), 2, 0)
    for given, expected in (("1,0", [1, 0]), ("GPU-b", [1]), (mig, ["2:0"]), ("", [])):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
        assert slurm_job._gpus() == expected


def test_without_a_driver_to_ask_slurms_own_numbers_are_kept(
    nvml: Nvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml.absent()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    assert slurm_job._gpus() == [2, 3]


def test_gpus_as_gres_and_a_way_back_into_the_queue(tmp_path: Path) -> None:
    asked = Slurm(gpus=2, gpu_option="gres", continues=3)
    found = options(plan(tmp_path, asked).script)
    assert {"--gres=gpu:2", "--requeue"} <= set(found)


def test_an_option_cannot_smuggle_in_another_line(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="Slurm cannot be asked"):
        plan(tmp_path, Slurm(partition="gpu\nrm -rf ~"))


def test_the_script_is_bash_and_never_falls_back_to_localhost(tmp_path: Path) -> None:
    folder = tmp_path / "空 间's"
    folder.mkdir()
    made = plan(folder, Slurm())
    subprocess.run(["bash", "-n"], input=made.script, text=True, check=True)
    assert "|| echo" not in made.script and "NodeAddr" in made.script
    other = script.text(folder, script.Shape(2, 1), Slurm(), Nodes(address="{host}-ib", port=29511))
    assert "MASTER_ADDR=''\"$head\"'-ib'" in other and "MASTER_PORT=29511" in other


def test_the_rank_of_a_node_is_read_on_the_node(tmp_path: Path) -> None:
    made = plan(tmp_path, Slurm(gpus=2))
    assert made.processes == 4 and made.command[:2] == ["srun", "--kill-on-bad-exit=1"]
    task = made.command[4]
    assert '--node-rank="$SLURM_NODEID"' in task and task.endswith('"$@"')
    assert "--standalone" not in made.command and "CUDA_VISIBLE_DEVICES" not in made.env
    assert made.env["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert made.shown == f"sbatch {made.dir}/job.sh"


def test_one_process_needs_no_torchrun(tmp_path: Path) -> None:
    made = plan(tmp_path, Slurm(gpus=1), nodes=1)
    assert "engine.train.entry" in made.command and "torch.distributed.run" not in made.command


def test_a_wait_becomes_a_dependency(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    folder = write_run(workspace, "before", "training")
    with pytest.raises(Problem, match="cannot wait for before") as caught:
        plan(tmp_path, Slurm(), wait=Wait(after=str(folder)))
    assert "its own jobs only" in caught.value.why

    record = json.loads((folder / state.RECORD).read_text())
    (folder / state.RECORD).write_text(json.dumps({**record, "launcher": "slurm"}))
    with pytest.raises(Problem, match="cannot wait for before") as caught:
        plan(tmp_path, Slurm(), wait=Wait(after=str(folder)))
    assert "not said yet which job" in caught.value.why

    submission.write(folder, submission.Submission("tunedeck-before", time.time(), "17"))
    made = plan(tmp_path, Slurm(), wait=Wait(after=str(folder)))
    assert {"--dependency=afterok:17", "--kill-on-invalid-dep=yes"} <= set(options(made.script))
    made = plan(tmp_path, Slurm(), wait=Wait(after=str(folder), needs="end"))
    assert "--dependency=afterany:17" in options(made.script)

    over = write_run(workspace, "over", "finished")
    made = plan(tmp_path, Slurm(), wait=Wait(after=str(over)))
    assert not any(one.startswith("--dependency") for one in options(made.script)), (
        "there is no job to wait for"
    )


def test_the_preflight_knows_all_processes_and_disks_that_nodes_may_not_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(tmp_path, monkeypatch, sinfo="node7|gpu*\nnode8|other")
    made = msgspec.structs.replace(plan(tmp_path, Slurm(gpus=8), nodes=4), dir=Path("/dev/shm/run"))
    asked: dict[str, Any] = {}
    monkeypatch.setattr(before_start, "preflight", lambda _config, **told: asked.update(told))
    before_start.look(made, Settings())
    assert (asked["processes"], asked["gpus"], asked["elsewhere"]) == (32, [*range(8)], True)
    [found] = asked["also"]
    assert (found.level, found.code) == ("warning", "disk-unshared")
    assert "/dev/shm/run" in found.what and "tmpfs" in found.why

    answering(tmp_path, monkeypatch, sinfo=f"{platform.node()}|gpu*\nnode8|other")
    before_start.look(made, Settings())
    assert asked["also"] == [], "all nodes of the partition are this machine"
    answering(tmp_path, monkeypatch, sinfo="!Unable to contact slurm controller")
    before_start.look(made, Settings())
    assert asked["also"] == [], "nobody knows"


def test_settings_of_slurm_come_from_the_file_and_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings_file.path().parent.mkdir(parents=True, exist_ok=True)
    settings_file.path().write_text(
        '[slurm]\npartition = "gpu"\ntime = "1:00:00"\nextra = ["--x"]\n'
    )
    monkeypatch.setenv("TUNEDECK_SLURM_PARTITION", "big")
    monkeypatch.setenv("TUNEDECK_SLURM_CONTINUES", "2")
    monkeypatch.setenv("TUNEDECK_SLURM_EXTRA", "--a=1 '--b=x y'")
    found = settings.load().slurm
    assert (found.partition, found.time, found.continues) == ("big", "1:00:00", 2)
    assert found.extra == ("--a=1", "--b=x y")
    monkeypatch.setenv("TUNEDECK_SLURM_EXTRA", "--a='1")
    with pytest.raises(Problem, match="No closing quotation"):
        settings.load()
    monkeypatch.delenv("TUNEDECK_SLURM_EXTRA")
    settings_file.path().write_text('[slurm]\npartitoin = "gpu"\n')
    with pytest.raises(Problem, match=r"slurm\.partition"):
        settings.load()


def test_what_another_job_left_in_the_environment_is_dropped() -> None:
    values = {"SLURM_CONF": "a", "SLURM_JOB_ID": "1", "SBATCH_PARTITION": "x", "HOME": "/root"}
    assert script.environment(values) == {"SLURM_CONF": "a", "HOME": "/root"}


def job(word: str, reason: str = "", nodes: str = "node1", start: float | None = None) -> Job:
    return Job("7", word, reason, nodes, 1000.0, start, 2000.0, "tunedeck-x")


@pytest.mark.parametrize(
    ("told", "before", "word", "says"),
    [
        (job("PENDING", "Resources", ""), "queued", "queued", "until nodes are free"),
        (job("PENDING", "QOSMaxJobs", ""), "queued", "queued", "queue: QOSMaxJobs"),
        (job("PENDING", "PartitionConfig", ""), "queued", "queued", "will never start"),
        (job("PENDING", "QOSMaxNodePerJobLimit", ""), "queued", "queued", "ask for fewer"),
        (job("PENDING", "PartitionTimeLimit", ""), "queued", "queued", "less time"),
        (job("PENDING", "Dependency", ""), "queued", "queued", "for another job"),
        (job("PENDING", "DependencyNeverSatisfied", ""), "queued", "queued", "Stop it. Then"),
        (job("CANCELLED", "DependencyNeverSatisfied", ""), "queued", "failed", "did not succeed"),
        (job("CONFIGURING"), "queued", "queued", "waits in Slurm's queue"),
        (job("RUNNING"), "queued", "starting", ""),
        (job("RUNNING"), "training", "training", ""),
        (job("COMPLETING"), "stopping", "stopping", ""),
        (job("SUSPENDED"), "training", "training", "suspended"),
        (job("COMPLETED"), "training", "finished", ""),
        (job("FAILED", "NonZeroExitCode"), "training", "failed", "FAILED NonZeroExitCode"),
        (job("FAILED", "JobLaunchFailure"), "queued", "failed", "disk that all nodes see"),
        (job("NODE_FAIL", "NodeDown"), "training", "failed", "node of job 7 was lost"),
        (job("OUT_OF_MEMORY"), "training", "failed", "more memory"),
        (job("TIMEOUT", "TimeLimit"), "training", "failed", "time limit"),
        (job("CANCELLED"), "training", "stopped", "cancelled"),
        (job("CANCELLED", "Resources", ""), "queued", "stopped", "taken out"),
        (job("PREEMPTED"), "training", "stopped", "took its nodes away"),
    ],
)
def test_every_state_of_a_job(told: Job, before: str, word: str, says: str) -> None:
    now = states.judge(RunState(before, 0.0), told)  # type: ignore[arg-type]
    assert now.state == word
    assert says in " ".join(reasons.say(now.cause))
    assert states.over(told) == (not now.living)


def test_the_start_that_slurm_expects_is_said() -> None:
    told = job("PENDING", "Priority", "", start=1795552438.0)
    assert (
        "expects to start it at 20"
        in reasons.say(states.judge(RunState("queued", 0.0), told).cause).todo
    )


def test_a_job_id_that_is_used_again_is_not_believed() -> None:
    ours = submission.Submission("tunedeck-x", asked=1000.0, job="7")
    assert ours.means(job("RUNNING"))
    assert not ours.means(msgspec.structs.replace(job("RUNNING"), name="other"))
    assert not ours.means(msgspec.structs.replace(job("RUNNING"), submitted=10.0))
    lost = msgspec.structs.replace(ours, job="")
    assert lost.means(job("RUNNING")), "found by its name"


def test_lines_of_squeue() -> None:
    waits = client._job("5|PENDING|Nodes required are DOWN, DRAINED||17|0|N/A|tunedeck-a|b")
    assert waits is not None and (waits.reason, waits.start) == (
        "Nodes required are DOWN, DRAINED",
        None,
    )
    assert waits.name == "tunedeck-a|b"
    assert client._job("slurm_load_jobs error") is None


# What sacct of Slurm 22.05.8 printed, with a database, of jobs that squeue had forgotten.
@pytest.mark.parametrize(
    ("printed", "word", "says"),
    [
        ("1|COMPLETED|0:0|node1|1795910522|1795910522|1795910523|tunedeck-a", "finished", ""),
        ("2|FAILED|3:0|node1|1795910522|1795910524|1795910524|tunedeck-a",
         "failed", "job 2 failed: FAILED ExitCode=3:0"),
        ("3|FAILED|0:9|node1|1795910522|1795910524|1795910524|tunedeck-a",
         "failed", "FAILED ExitCode=0:9"),
        ("4|CANCELLED by 0|0:0|node1|1795910522|1795910524|1795910526|tunedeck-a",
         "stopped", "job 4 was cancelled"),
        ("5|CANCELLED by 0|0:0|None assigned|1795910522|1795910526|1795910526|tunedeck-a",
         "stopped", "taken out of Slurm's queue"),
        ("7|CANCELLED|0:0|None assigned|1795910522|None|1795910525|tunedeck-a",
         "stopped", "taken out of Slurm's queue"),
        ("9|TIMEOUT|0:0|node2|1795910522|1795910524|1795910612|tunedeck-a",
         "failed", "time limit ended job 9"),
        ("6|PENDING|0:0|None assigned|1795910526|Unknown|Unknown|tunedeck-a",
         "lost", "does not know job 6"),
        ("", "lost", "does not know job 6"),
    ],
)  # fmt: skip
def test_what_the_accounting_tells_of_a_job_that_slurm_has_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, printed: str, word: str, says: str
) -> None:
    answering(tmp_path, monkeypatch, squeue="", sacct=printed)
    number = printed.partition("|")[0] or "6"
    submission.write(tmp_path, submission.Submission("tunedeck-a", 1795910522.0, number))
    now = view.look(tmp_path, RunState("training", 0.0))
    assert (now.state, says in reasons.say(now.cause).reason) == (word, True), now
    if word not in ("lost", "queued"):
        assert now.ended == float(printed.split("|")[6])


def test_the_gpus_of_a_job_are_not_this_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(tmp_path)
    write_run(workspace, "here", "training", gpus=[1])
    record = write_run(workspace, "there", "training", gpus=[0]) / state.RECORD
    record.write_text(record.read_text().replace('"local"', '"slurm"'))
    monkeypatch.setattr(view, "look", lambda _folder, written: written)
    assert RunFolder(record.parent).launcher == "slurm" and RunFolder(record.parent).state.living
    assert candidates.busy_gpus(workspace) == {1}


@pytest.mark.parametrize(
    ("told", "before", "code"),
    [
        (job("PENDING", "Resources", ""), "queued", "slurm-moved"),
        (job("PENDING", "PartitionNodeLimit", ""), "queued", "slurm-never"),
        (job("PENDING", "DependencyNeverSatisfied", ""), "queued", "slurm-never-awaited"),
        (job("FAILED", "NonZeroExitCode"), "queued", "slurm-was-moved"),
        (job("NODE_FAIL", "NodeDown"), "training", "slurm-node"),
        (job("FAILED", "NonZeroExitCode"), "training", "slurm-failed"),
        (job("CANCELLED", "DependencyNeverSatisfied", ""), "queued", "slurm-awaited"),
    ],
)
def test_a_move_is_told_where_the_job_minds_it(
    tmp_path: Path, told: Job, before: str, code: str
) -> None:
    known = submission.Submission("tunedeck-x", 1000.0, "7", told, str(tmp_path / "before"))
    submission.write(tmp_path, known)
    now = view.look(tmp_path, RunState(before, 0.0))  # type: ignore[arg-type]
    assert now.cause is not None and now.cause.code == code


def test_accounting_that_is_not_there_or_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submission.write(tmp_path, submission.Submission("tunedeck-a", 1795910522.0, "6"))
    for said, word, code in (
        ("Slurm accounting storage is disabled", "lost", "slurm-lost"),
        ("sacct: error: Sending PersistInit msg: Connection refused", "training", "slurm-silent"),
    ):
        answering(tmp_path, monkeypatch, squeue="", sacct=f"!{said}")
        now = view.look(tmp_path, RunState("training", 0.0))
        assert now.cause is not None and (now.state, now.cause.code) == (word, code)


def answering(folder: Path, monkeypatch: pytest.MonkeyPatch, **said: str) -> None:
    """Put commands on the path that print what is `said`; behind "!": that they fail with."""
    commands = folder / "bin"
    commands.mkdir(exist_ok=True)
    for name, text in said.items():
        lines = f"cat <<'.'\n{text}\n.\n" if text else ""
        if text.startswith("!"):
            lines = f"cat >&2 <<'.'\n{text[1:]}\n.\nexit 1\n"
        (commands / name).write_text(f"#!/bin/sh\n{lines}")
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    view._queue().forget()


def away(folder: Path, **changes: object) -> RunState:
    me = processes.Identity.of(os.getpid())
    assert me is not None
    other = msgspec.structs.replace(me, host="gpu-07", boot="another", pid=1)
    return RunState("training", time.time(), supervisor=other)


def test_a_run_on_another_machine_lives_as_long_as_it_gives_signs(tmp_path: Path) -> None:
    written = away(tmp_path)
    for age, word in ((1, "training"), (100, "training"), (600, "lost")):
        folder = tmp_path / str(age)
        folder.mkdir()
        (folder / life.FILE).touch()
        then = time.time() - age
        os.utime(folder / life.FILE, (then, then))
        now = elsewhere.look(folder, written, "local")
        assert now is not None and now.state == word
    reason = reasons.say(now.cause).reason
    assert "gpu-07" in reason and "10 minutes" in reason and "restarted" not in reason


def test_a_run_of_this_machine_is_judged_by_its_processes(tmp_path: Path) -> None:
    me = processes.Identity.of(os.getpid())
    (tmp_path / life.FILE).touch()
    gone = RunState("training", time.time(), supervisor=me)
    assert elsewhere.look(tmp_path, gone, "local") is None
