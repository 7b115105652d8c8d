"""The supervisor over small programs in the trainer's place: ends, orders, leftovers.

The real one is in test_training.py; what may befall a run, in test_faults_processes.py.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import stat
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import msgspec
import psutil
import pytest

from engine import files
from engine.cli import run_verbs
from engine.cli.main import main
from engine.errors import Failed, Problem
from engine.run import control, launch, planning, processes, reasons, state
from engine.run.folder import RunFolder
from engine.run.state import RunState, Wait
from engine.run.supervisor import Supervisor
from engine.settings import Settings
from tests.support.nvml import GB, Card, Instance, Nvml, instance_uuid
from tests.support.run_files import START, add_steps
from tests.support.starter import STOPS, WITH_WORKER, Starter, gone, training, until, worker

pytestmark = pytest.mark.waits


def test_a_run_to_its_end(start: Starter) -> None:
    run = start("note(); print('hello'); time.sleep(0.5)")
    end = control.wait(run, 10)
    assert (end.state, end.exit, end.cause) == ("finished", 0, None)
    assert run.log.read_text() == "hello\n"
    words = [event.state for event in run.events() if event.event == "state"]
    assert words == ["starting", "training", "finished"]
    assert end.started is not None and end.ended is not None and end.ended > end.started


def test_its_files_are_the_users_alone(start: Starter) -> None:
    run = start("note(); (run / 'mine.txt').write_text('x')")
    control.wait(run, 10)
    for file in run.path.rglob("*"):
        assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0, file
    assert stat.S_IMODE(run.path.stat().st_mode) == 0o700


def test_the_frozen_config_is_what_was_there_at_the_start(start: Starter) -> None:
    plan = start.plan("note(); time.sleep(1)")
    run = launch.start(plan, Settings())
    start.config.write_text("lr = 5\n")
    assert run.config is not None and run.config.read_text() == "lr = 1e-4\n"
    assert run.config.name == "assistant.py"
    control.wait(run, 10)


def test_an_error_becomes_a_reason(start: Starter) -> None:
    run = start("note(); raise OSError(28, 'No space left on device')")
    end = control.wait(run, 10)
    assert (end.state, end.exit) == ("failed", 1)
    assert "disk is full" in run.summary().reason


def test_an_interpreter_that_is_not_there(start: Starter) -> None:
    plan = start.plan("")
    plan = msgspec.structs.replace(plan, command=["/nowhere/python", "x"])
    run = launch.start(plan, Settings())
    assert run.state.state == "failed"
    assert "/nowhere/python" in run.summary().reason


def test_a_trainer_that_makes_no_step_has_not_finished(start: Starter) -> None:
    run = start("while not (run / 'end').exists(): time.sleep(0.02)")
    waits = start("note()", wait=Wait(after=str(run.path)))
    (run.path / "end").touch()
    end = control.wait(run, 10)
    assert (end.state, end.exit) == ("failed", 0)
    said = run.summary()
    assert "without a single step" in said.reason and "interpreter" in said.todo
    assert control.wait(waits, 10).state == "failed", "what waits for its success is not started"
    plan = msgspec.structs.replace(start.plan(""), command=["/bin/true"])
    start.runs.append(run := launch.start(plan, Settings()))
    assert control.wait(run, 10).state == "failed"


LOGS = [sys.executable, "-c", "from engine.cli.main import main; exit(main())", "logs", "-f"]


def test_a_log_is_followed_from_the_queue_on(
    start: Starter, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = start("note()\nwhile not (run / 'end').exists(): time.sleep(0.02)")
    waits = start("note(); print('its turn')", wait=Wait(after=str(first.path)))

    def looked(seconds: float) -> None:
        (first.path / "end").touch()
        time.sleep(seconds)

    monkeypatch.setattr(run_verbs, "time", SimpleNamespace(sleep=looked))
    assert main(["logs", "-f", str(waits.path)]) == 0
    assert capsys.readouterr().out == "its turn\n"


def test_following_a_silent_log_ends_with_its_reader(start: Starter) -> None:
    run = start("note(); print('only this', flush=True); time.sleep(600)")
    with subprocess.Popen([*LOGS, str(run.path)], stdout=subprocess.PIPE) as follower:
        assert follower.stdout is not None and follower.stdout.readline() == b"only this\n"
        follower.stdout.close()
        assert follower.wait(30) == 141
    control.kill(run)


def test_a_killed_trainer_fails_within_five_seconds(start: Starter) -> None:
    run = start(WITH_WORKER + "time.sleep(600)")
    training(run)
    pid = run.state.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    killed = time.monotonic()
    until(lambda: run.state.state == "failed", 5)
    assert time.monotonic() - killed < 5
    assert run.state.exit == -9 and "signal 9" in run.summary().reason
    assert gone(worker(run)), "a worker in its own session must not outlive its launcher"


def test_kill_leaves_no_process(start: Starter) -> None:
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    run = start(stubborn + WITH_WORKER + "time.sleep(600)")
    training(run)
    pid, supervisor = run.state.pid, run.state.supervisor
    assert pid is not None and supervisor is not None
    end = control.kill(run)
    assert end.state == "stopped" and "Killed on request" in reasons.say(end.cause).reason
    assert gone(pid) and gone(worker(run)) and not processes.of_run(run.path)
    until(lambda: not supervisor.alive)


def test_stop_waits_for_the_trainer_to_save(start: Starter) -> None:
    run = start(
        """
        note()
        while not (run / "stop").exists(): time.sleep(0.02)
        time.sleep(1)
        note(stopped=7)
        """
    )
    training(run)
    control.stop(run)
    control.stop(run)  # asking twice changes nothing
    until(lambda: run.state.state == "stopping")
    end = control.wait(run, 10)
    assert (end.state, end.exit) == ("stopped", 0)
    assert "step 7" in run.summary().reason
    assert not (run.path / "stop").exists()


def test_stop_before_the_first_step_ends_at_once(start: Starter) -> None:
    run = start("time.sleep(600)")
    control.stop(run)
    end = control.wait(run, 5)
    assert end.state == "stopped" and "before its first step" in run.summary().reason


def test_a_stop_that_came_too_late_is_a_finish(start: Starter) -> None:
    run = start("note(); time.sleep(1.5)")
    training(run)
    control.stop(run)
    assert control.wait(run, 10).state == "finished"


def test_the_machines_sigterm_means_stop(start: Starter) -> None:
    run = start(
        """
        note()
        while not (run / "stop").exists(): time.sleep(0.02)
        note(stopped=3)
        """
    )
    training(run)
    supervisor = run.state.supervisor
    assert supervisor is not None
    supervisor.send(signal.SIGHUP)
    supervisor.send(signal.SIGTERM)
    assert control.wait(run, 10).state == "stopped"


def test_it_outlives_the_one_who_started_it(start: Starter) -> None:
    plan = start.plan("note(); time.sleep(600)")
    code = (
        "import pickle, sys\n"
        "from engine.run import launch\nfrom engine.settings import Settings\n"
        "launch.start(pickle.load(sys.stdin.buffer), Settings())\n"
        "import os, signal\nos.killpg(0, signal.SIGKILL)"
    )
    app = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, start_new_session=True
    )
    app.communicate(pickle.dumps(plan))
    assert app.returncode == -9
    run = RunFolder(plan.dir)
    start.runs.append(run)
    training(run)
    supervisor = run.state.supervisor
    assert supervisor is not None
    assert os.getsid(supervisor.pid) != os.getsid(0)
    assert psutil.Process(supervisor.pid).terminal() is None


def test_a_dead_supervisor_leaves_a_lost_run_that_can_be_killed(start: Starter) -> None:
    run = start.trains(WITH_WORKER + "time.sleep(600)")
    supervisor, pid = run.state.supervisor, run.state.pid
    assert supervisor is not None and pid is not None
    supervisor.send(signal.SIGKILL)
    until(lambda: run.state.state == "lost")
    assert str(pid) in run.summary().reason and not gone(pid)
    control.kill(run)
    assert not start.left()
    assert run.state.state == "stopped"


def test_another_boot_means_lost(start: Starter) -> None:
    run = start("note(); time.sleep(600)")
    training(run)
    path = run.path / "state.json"
    now = run.written_state()
    assert now is not None and now.supervisor is not None
    control.kill(run)
    # The same pid and start, before a reboot: nobody of ours.
    other = msgspec.structs.replace(now.supervisor, boot="another", pid=os.getpid())
    before = msgspec.structs.replace(now, supervisor=other)
    path.write_bytes(msgspec.json.encode(before))
    assert run.state.state == "lost" and "restarted" in run.summary().reason


def test_a_pid_given_to_another_process_is_not_believed() -> None:
    me = processes.Identity.of(os.getpid())
    assert me is not None and me.alive
    assert not msgspec.structs.replace(me, started=me.started - 1).alive


def test_a_folder_in_use_is_refused(start: Starter) -> None:
    run = start("note(); time.sleep(600)")
    training(run)
    plan = msgspec.structs.replace(start.plan(""), dir=run.path)
    with pytest.raises(Problem, match="in use"):
        launch.start(plan, Settings())
    with pytest.raises(Problem, match="running already"):
        launch.begin(plan, Settings(), attempt=2)
    assert run.state.state == "training"


def test_an_ended_run_cannot_be_stopped_or_killed(start: Starter) -> None:
    run = start("note()")
    control.wait(run, 10)
    for order in (control.stop, control.kill):
        with pytest.raises(Problem, match="ended already"):
            order(run)
    with pytest.raises(Problem, match="no checkpoint"):
        control.resume(run, Settings())


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    (tmp_path / state.STATE).write_text('{"state": "half')
    with pytest.raises(Problem, match=state.STATE):
        RunFolder(tmp_path).summary()
    (tmp_path / state.STATE).unlink()
    (tmp_path / state.RECORD).write_text('{"run": "half')
    [said] = RunFolder(tmp_path).summary().alarms
    assert state.RECORD in said, "all else that is known is told"


def test_a_supervisor_that_cannot_start_says_so(start: Starter, tmp_path: Path) -> None:
    plan = start.plan("")
    plan.dir.mkdir(parents=True)
    (plan.dir / "order.json").mkdir()
    with pytest.raises((Failed, OSError)):
        launch.begin(plan, Settings(), attempt=1)


def test_runs_lie_newest_first_and_elsewhere_too(start: Starter, tmp_path: Path) -> None:
    first = start("note()")
    plan = planning.plan(
        start.config,
        workspace=start.workspace,
        settings=Settings(),
        gpus=[],
        work_dir=tmp_path / "big" / "disk",
    )
    second = launch.start(
        msgspec.structs.replace(plan, command=[sys.executable, "-c", ""]), Settings()
    )
    from engine.run.listing import list_runs, open_run

    assert [run.name for run in list_runs(start.workspace)] == ["disk", "assistant-01"]
    assert open_run(start.workspace, "disk").path == second.path
    assert open_run(start.workspace, str(first.path)).path == first.path
    with pytest.raises(Problem, match="no run nobody"):
        open_run(start.workspace, "nobody")
    for run in (first, second):
        control.wait(run, 10)


def test_resume_freezes_other_settings_and_keeps_the_old(start: Starter, tmp_path: Path) -> None:
    run = start("note(); raise SystemExit(3)")
    assert control.wait(run, 10).state == "failed"
    for step, whole in ((4, True), (8, False)):
        file = run.path / f"iter_{step}.pth"
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("data.pkl", b"0" * 5000)
        if not whole:
            file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(Problem, match=r"cannot go on from iter_8\.pth\. It is half written"):
        control.resume(run, Settings(), checkpoint=run.path / "iter_8.pth")
    with pytest.raises(Problem, match="no checkpoint of"):
        control.resume(run, Settings(), checkpoint=tmp_path / "iter_4.pth")

    control.resume(run, Settings(), config="lr = 5e-5\n")
    now = run.state
    assert (now.state, now.attempt) == ("starting", 2)
    command = msgspec.json.decode((run.path / "order.json").read_bytes())["command"]
    assert command[command.index("--resume") + 1] == str(run.path / "iter_4.pth")
    assert (run.path / "config" / "assistant.py").read_text() == "lr = 5e-5\n"
    assert (run.path / "config" / "assistant.1.py").read_text() == "lr = 1e-4\n"
    with pytest.raises(Problem, match="running already"):
        control.resume(run, Settings())
    control.stop(run)
    assert control.wait(run, 15).state == "stopped"


def test_gpus_are_sampled(start: Starter, nvml: Nvml) -> None:
    run = start("note()")
    control.wait(run, 10)
    order = msgspec.json.decode((run.path / "order.json").read_bytes())
    (run.path / "order.json").write_bytes(msgspec.json.encode(order | {"gpus": [1]}))
    nvml.set(Card(), Card(used=10, total=80, util=55, temperature=40, power=300.5))
    supervisor = Supervisor(run.path)
    (run.path / START / "vis_data").mkdir(parents=True)  # of this start
    supervisor._sample_gpus()
    supervisor._sample_gpus()  # too soon
    [line] = (run.path / "metrics" / "gpu.jsonl").read_text().splitlines()
    gauges = {"index": 1, "used": 10, "total": 80, "util": 55, "temperature": 40, "power": 300.5}
    told = json.loads(line)
    assert told["gpus"] == [gauges] and told["step"] is None
    add_steps(run.path, 0, 3)
    supervisor._watch._look_at_run(2.0)
    supervisor._sampled = 0.0
    supervisor._sample_gpus()
    last = (run.path / "metrics" / "gpu.jsonl").read_text().splitlines()[-1]
    assert json.loads(last)["step"] == 3


def test_a_run_on_a_mig_instance_sees_it_alone_and_is_sampled_there(
    start: Starter, nvml: Nvml
) -> None:
    nvml.set(Card(mig=True, instances=[Instance(used=GB), Instance(used=9 * GB)]))
    visible = "(run / 'visible').write_text(os.environ['CUDA_VISIBLE_DEVICES'])"
    run = start(f"{visible}\nnote()\n{STOPS}", gpus=["0:1"])
    samples = run.path / "metrics" / "gpu.jsonl"
    until(lambda: samples.exists() and samples.read_text().endswith("\n"))
    [card] = json.loads(samples.read_text().splitlines()[0])["gpus"]
    assert (card["used"], card["total"], card["util"]) == (9 * GB, 10 * GB, None)
    assert run.record is not None and run.record.gpus == ["0:1"]
    control.stop(run)
    assert control.wait(run, 15).state == "stopped"
    assert (run.path / "visible").read_text() == instance_uuid(Instance(), 0, 1)


def test_a_driver_that_goes_and_comes_back_leaves_a_gap_in_the_samples(
    start: Starter, nvml: Nvml
) -> None:
    run = start("note()")
    control.wait(run, 10)
    order = msgspec.json.decode((run.path / "order.json").read_bytes())
    (run.path / "order.json").write_bytes(msgspec.json.encode(order | {"gpus": ["0:1"]}))
    supervisor = Supervisor(run.path)
    divided = Card(mig=True, instances=[Instance(), Instance(used=9 * GB)])
    for errors in ({}, {"nvmlDeviceGetCount_v2": "DRIVER_NOT_LOADED"}, {}):
        nvml.set(divided, **errors)
        supervisor._sampled = 0.0
        supervisor._sample_gpus()
    lines = (run.path / "metrics" / "gpu.jsonl").read_text().splitlines()
    assert [json.loads(line)["gpus"][0]["used"] for line in lines] == [9 * GB] * 2


def test_states_are_plain_json(start: Starter) -> None:
    run = start("note()")
    control.wait(run, 10)
    again = msgspec.json.decode((run.path / "state.json").read_bytes(), type=RunState)
    assert again == run.state


FULL = """
import errno, os, sys
from pathlib import Path
from engine import files
from engine.run.supervisor import Supervisor

append, left = files.append_json, int(sys.argv[2])

def full(path, value):
    global left
    if left:
        left -= 1
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    append(path, value)

files.append_json = full
Supervisor(Path(sys.argv[1])).run()
"""


STEP = """echo '{"first": 0, "steps": 1, "started": 0}' > trainer.json"""


def prepared(folder: Path, command: str) -> Path:
    """A run's folder as launch leaves it to the supervisor; a shell is its trainer."""
    order = state.Order(["sh", "-c", command], {}, [], str(folder), [])
    files.write_json(folder / state.ORDER, order)
    files.write_json(folder / state.STATE, RunState("queued", time.time(), 1))
    return folder


def test_a_disk_that_is_full_at_the_start_leaves_no_orphan_and_no_wrong_cause(
    tmp_path: Path,
) -> None:
    folder = prepared(tmp_path, f"sleep 1.5; {STEP}")
    subprocess.run([sys.executable, "-c", FULL, folder, "4"], check=True, capture_output=True)
    end = RunFolder(folder).written_state()
    assert end is not None and (end.state, end.cause, end.exit) == ("finished", None, 0)
    assert end.trainer is not None and not end.trainer.alive and end.started is not None
    events = [one.event for one in RunFolder(folder).events()]
    assert events[0] == "start", "told late, not never"


def test_a_kill_on_a_full_disk_ends_everything(tmp_path: Path) -> None:
    folder = prepared(tmp_path, "sleep 600")
    (folder / state.KILL).touch()
    # "start" and "stopping" find no room; the end does.
    subprocess.run(
        [sys.executable, "-c", FULL, folder, "2"], check=True, capture_output=True, timeout=30
    )
    end = RunFolder(folder).written_state()
    assert end is not None and end.state == "stopped"
    assert end.cause is not None and end.cause.code == "killed"
    assert processes.of_run(folder) == []


ALONE = """
import sys
from pathlib import Path
from engine.run import processes, supervisor

supervisor.GRACE = float(sys.argv[2])
processes.adopt_orphans()
supervisor.Supervisor(Path(sys.argv[1])).run()
"""


def supervised(folder: Path, grace: float) -> RunState | None:
    """How the run in `folder` ended, for a supervisor with that much patience."""
    script = [sys.executable, "-c", ALONE, folder, str(grace)]
    subprocess.run(script, check=True, capture_output=True, timeout=30)
    return RunFolder(folder).written_state()


def test_a_worker_left_behind_by_a_good_end_is_ended(tmp_path: Path) -> None:
    folder = prepared(tmp_path, f"setsid sleep 600 & echo $! > worker.pid; {STEP}")
    end = supervised(folder, 0.3)
    assert end is not None and (end.state, end.exit) == ("finished", 0)
    assert gone(int((folder / "worker.pid").read_text())) and not processes.of_run(folder)


@pytest.mark.parametrize(
    ("resume", "command", "end"),
    [
        ("iter_4.pth", "echo again >> starts", "finished"),
        ("iter_4.pth", "true", "failed"),
        ("", "echo first >> starts", "failed"),
    ],
    ids=["nothing-left", "no-trainer", "no-step"],
)
def test_without_a_step_only_what_was_complete_has_finished(
    tmp_path: Path, resume: str, command: str, end: str
) -> None:
    folder = prepared(tmp_path, command)
    (folder / state.STARTS).write_text("\n20260101_000000")
    order = RunFolder(folder).order()
    assert order is not None
    files.write_json(folder / state.ORDER, msgspec.structs.replace(order, resume=resume))
    now = supervised(folder, 0.3)
    assert now is not None and (now.state, now.exit) == (end, 0)


def test_after_a_good_end_others_may_end_by_themselves(tmp_path: Path) -> None:
    folder = prepared(tmp_path, f"{STEP}; touch done")
    # Another node's line, typed on this machine: done a moment after the first one is.
    typed = subprocess.Popen(
        ["sh", "-c", "until [ -e done ]; do sleep 0.02; done; sleep 0.5; exit 7"],
        cwd=folder,
        env=os.environ | {processes.MARK: str(folder)},
    )
    end = supervised(folder, 20)
    assert end is not None and (end.state, end.exit) == ("finished", 0)
    assert typed.wait(30) == 7, "it was not let"
