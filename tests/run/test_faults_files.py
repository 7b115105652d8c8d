"""Faults of files: torn, cut short, gone, no room, not to be written, slow. See docs/faults.md."""

from __future__ import annotations

import errno
import json
import math
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from engine import files
from engine.cli import run_lines
from engine.errors import Problem
from engine.run import (
    beside,
    control,
    history,
    launch,
    life,
    planning,
    processes,
    progress,
    queue,
    state,
)
from engine.run.alarms import reading
from engine.run.folder import RunFolder
from engine.run.listing import list_runs
from engine.run.state import Event, Order, RunState, Wait
from engine.settings import Settings
from engine.workspace import Workspace
from tests.support import mounts, run_files
from tests.support.starter import STOPS, Starter, gone, starting, training, until, worker

NOTED = """
worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"],
                          start_new_session=True)
(run / "worker.pid").write_text(str(worker.pid))
note()
time.sleep(600)
"""


@contextmanager
def files_end_at(size: int) -> Iterator[None]:
    """No file of this process grows beyond `size` bytes: the kernel cuts the write short."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# Torn


@pytest.mark.parametrize("room", [1, 20, -1], ids=["a byte", "some", "all but the end"])
def test_half_a_line_spoils_no_other(tmp_path: Path, room: int) -> None:
    path = tmp_path / state.EVENTS
    first, second, third = (Event(n, "checkpoint", path=f"iter_{n}.pth") for n in (1, 2, 3))
    files.append_json(path, first)
    line = path.stat().st_size
    with files_end_at(line + (room % line)), pytest.raises(OSError, match="too large"):
        files.append_json(path, second)
    assert path.stat().st_size == line + (room % line), "half of it got in"
    events, offset = reading.read(tmp_path, 0)
    assert events == [first]
    files.append_json(path, third)
    whole = [event for event in RunFolder(tmp_path).events() if event != second]
    assert whole == [first, third]
    assert reading.read(tmp_path, offset)[0][-1] == third, "who read the half reads on"


@pytest.mark.parametrize("text", ["", '{"state": "trai', "null", None], ids=repr)
@pytest.mark.parametrize("supervised", [True, False], ids=["supervised", "supervisor dead"])
def test_a_torn_state_is_told_by_the_events(
    start: Starter,
    text: str | None,
    supervised: bool,
) -> None:
    run = start(NOTED)
    training(run)
    before, path = run.written_state(), run.path / state.STATE
    assert before is not None and before.supervisor is not None and before.pid is not None
    if not supervised:
        before.supervisor.send(signal.SIGKILL)
        until(lambda: run.state.state == "lost")
    path.unlink() if text is None else path.write_text(text)
    [listed] = list_runs(start.workspace)
    now = listed.state
    assert listed.summary().state == now.state == ("training" if supervised else "lost")
    assert (now.supervisor, now.trainer, now.attempt) == (before.supervisor, before.trainer, 1)
    control.kill(listed)
    assert gone(before.pid) and gone(worker(run)) and not processes.of_run(run.path)
    assert json.loads(path.read_bytes())["state"] == "stopped", "whole again"


@pytest.mark.parametrize("text", ["", '{"run": "assist', "null", None], ids=repr)
def test_a_torn_record_hides_no_run(start: Starter, text: str | None) -> None:
    run = start("note()\n" + STOPS)
    training(run)
    before, path = run.record, run.path / state.RECORD

    def tear() -> None:
        path.unlink() if text is None else path.write_text(text)

    tear()
    [listed] = list_runs(start.workspace)
    now, told = listed.summary(), listed.record
    assert before is not None and told is not None
    assert (now.run, now.state, now.launcher) == ("assistant-01", "training", "local")
    [said] = now.alarms
    assert "run.json cannot be read" in said and said in "\n".join(run_lines.whole(now))
    unknown = {"source": "", "versions": {}, "git": "", "created": told.created}
    assert told == msgspec.structs.replace(before, **unknown)
    assert before.created <= told.created <= before.created + 60
    assert control.wait(listed, 0).living and control.stop(listed).state in ("stopping", "stopped")
    assert control.wait(listed, 20).state == "stopped"
    assert not control.resume(listed, Settings()).torn, "written anew"
    control.kill(listed)
    tear()
    (run.path / state.ORDER).unlink()
    with pytest.raises(Problem, match=r"run\.json cannot be read"):
        control.resume(RunFolder(run.path), Settings())


@pytest.mark.parametrize(
    "wishes",
    [{}, {"processes": 2}, {"processes": 4, "launcher": "nodes", "nodes": 2}, {"deepspeed": "2"}],
    ids=str,
)
def test_a_torn_record_is_told_by_the_order(tmp_path: Path, wishes: dict[str, Any]) -> None:
    workspace = Workspace(tmp_path)
    config = tmp_path / "assistant.py"
    config.write_text("lr = 1e-4\n")
    plan = planning.plan(config, workspace=workspace, settings=Settings(), gpus=[], **wishes)
    beside.lay(config, config.read_bytes(), plan.dir / state.CONFIG_FOLDER)
    (plan.dir / state.CONFIG_FOLDER / "a_module.py").write_text("")
    order = Order(plan.command, plan.env, [], str(plan.workspace), plan.gpus)
    files.write_json(plan.dir / state.ORDER, order)
    files.append_json(plan.dir / state.EVENTS, Event(5.0, "state", "queued"))
    (plan.dir / state.RECORD).write_text("{")
    told = RunFolder(plan.dir).record
    assert told is not None and told.created == 5.0 and told.config == "config/assistant.py"
    for name in ("command", "gpus", "processes", "nodes", "launcher", "deepspeed"):
        assert getattr(told, name) == getattr(plan, name), name
    assert (told.python, told.workspace) == (Settings().python, str(plan.workspace))


def test_a_torn_order_of_a_run_that_waits(start: Starter) -> None:
    first = start("note(); time.sleep(600)")
    plan = start.plan("note()")
    second = launch.start(
        msgspec.structs.replace(plan, wait=Wait(after=str(first.path))), Settings()
    )
    start.runs.append(second)
    (second.path / state.ORDER).write_text("")
    assert second.summary().state == "queued"
    with pytest.raises(Problem, match="does not wait"):
        queue.move(start.workspace, second, -1)
    assert control.stop(second).state in ("queued", "stopped")
    assert control.wait(second, 10).state == "stopped", "its supervisor knows what it waits for"


# The clock


def test_a_clock_set_back_mixes_no_attempts(tmp_path: Path) -> None:
    """A name like these is local time: every autumn an hour comes twice."""
    first, second = "20261025_025500", "20261025_020500"
    for name, steps in ((first, range(1, 31)), (second, range(11, 16))):
        data = tmp_path / name / "vis_data"
        data.mkdir(parents=True)
        lines = [{"step": n, "loss": 1.0 if name == first else 0.5, "time": 0.1} for n in steps]
        (data / "scalars.json").write_text("".join(json.dumps(one) + "\n" for one in lines))
    (tmp_path / state.STARTS).write_text(f"\n{first}\n2026102\n{second}")
    at = progress.read(tmp_path)
    assert list(at.history.step) == list(range(1, 16)) and at.step == 15
    assert list(at.history["loss"]) == [1.0] * 10 + [0.5] * 5
    (tmp_path / state.STARTS).unlink()
    assert progress.read(tmp_path).step == 30, "the names alone say otherwise"


def test_a_start_notes_its_folder(trained_run: RunFolder) -> None:
    [folder] = progress.starts(trained_run.path)
    assert (trained_run.path / state.STARTS).read_text().split() == [folder.name]


def test_times_from_the_future_are_no_signs_of_life(tmp_path: Path) -> None:
    """What was written before the clock was set back looks as if it came in an hour."""
    data = tmp_path / "20261124_210407" / "vis_data"
    data.mkdir(parents=True)
    log = data.parent / "20261124_210407.log"
    log.write_text("Iter(train) [3/100]\n")
    (data / "scalars.json").write_text('{"step": 3, "loss": 1.0, "time": 0.1}\n')
    assert RunFolder(tmp_path).state.state == "training"
    os.utime(log, (time.time() + 3600,) * 2)
    assert RunFolder(tmp_path).state.state == "lost"


class Clock:
    """The module ``time`` of one who looks: the wall's clock can be set, the other only goes on."""

    def __init__(self) -> None:
        self.passed = self.set = 0.0

    def time(self) -> float:
        return time.time() + self.passed + self.set

    def monotonic(self) -> float:
        return self.passed


@pytest.mark.parametrize("by", [-86400, 86400], ids=["back", "forward"])
def test_a_clock_that_is_set_neither_kills_nor_revives_a_run_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: float
) -> None:
    clock = Clock()
    monkeypatch.setattr(life, "time", clock)
    sign = tmp_path / life.FILE
    sign.touch()
    assert life.age(tmp_path) == pytest.approx(0, abs=5)
    for _sign in range(3):
        clock.passed += 60
        os.utime(sign, (clock.time(),) * 2)
        clock.set = by
        assert life.age(tmp_path) == 0, "it has changed: there was a sign"
    clock.passed += life.SILENT + 1
    age = life.age(tmp_path)
    assert age is not None and age > life.SILENT, "nothing has changed since"


def test_a_dead_run_elsewhere_is_seen_under_a_clock_that_was_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    clock.set = -86400
    monkeypatch.setattr(life, "time", clock)
    (tmp_path / life.FILE).touch()
    os.utime(tmp_path / life.FILE, (time.time() - 600,) * 2)
    age = life.age(tmp_path)
    assert age == pytest.approx(600, abs=60), "by the file server's clock, at the first look"
    os.utime(tmp_path / life.FILE, (time.time() + 86400,) * 2)  # that one was set back, too
    first = life.age(tmp_path)
    clock.passed += life.SILENT + 1
    again = life.age(tmp_path)
    assert first == 0 and again is not None and again > life.SILENT
    assert [one.name for one in tmp_path.iterdir()] == [life.FILE]


def test_a_clock_set_back_while_it_trains_tells_no_time_below_nothing(tmp_path: Path) -> None:
    folder = run_files.write_run(Workspace(tmp_path), "one", "finished", step=100)
    ended = RunFolder(folder)
    assert ended.summary().took == pytest.approx(95)
    before = ended.written_state()
    assert before is not None and before.started is not None
    back = msgspec.structs.replace(before, ended=before.started - 3500)
    files.write_json(folder / state.STATE, back)
    summary = ended.summary()
    assert summary.took is None
    [since] = [line for line in run_lines.whole(summary) if "since" in line]
    assert since.endswith(", ?")


@pytest.mark.parametrize("time", [-3600.0, math.nan, math.inf])
def test_no_time_is_left_below_nothing(tmp_path: Path, time: float) -> None:
    folder = run_files.write_run(Workspace(tmp_path), "one", "training")
    with (folder / run_files.START / "vis_data" / "scalars.json").open("a") as scalars:
        scalars.write(json.dumps({"step": 1, "loss": 1.0, "time": time}) + "\n")
    assert progress.read(folder).eta is None
    run_files.add_steps(folder, 1, 3)
    assert progress.read(folder).eta == pytest.approx(97 * 0.5)


# No room


LOGS = """
import itertools, os
data = run / "20261124_210407" / "vis_data"
data.mkdir(parents=True)
note()
with (data / "scalars.json").open("w") as scalars:
    for step in itertools.count(1):
        scalars.write(json.dumps({"step": step, "loss": 1 / step}) + "\\n")
        try:
            scalars.flush()
        except OSError:
            if silent: os._exit(1)
            raise
        print(f"Iter(train) [{step}/100]", flush=True)
        time.sleep(0.02)
"""
"""What a trainer does that has no room: it ends, as XTuner's does."""

WAITS = """
note()
while not (run / "stop").exists(): time.sleep(0.02)
while True:
    try:
        note(stopped=7)
        break
    except OSError:
        time.sleep(0.1)
"""
"""One that still gets its checkpoint saved when there is room again."""


def fill(folder: Path) -> Path:
    """Take all the room that there is."""
    ballast = folder / "ballast"
    with pytest.raises(OSError, match="No space"), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return ballast


@pytest.mark.parametrize("silent", [False, True], ids=["its error is logged", "it is not"])
def test_a_disk_that_fills_while_it_trains(tmp_path: Path, silent: bool) -> None:
    def work() -> None:
        mounts.small(tmp_path / "small", 1 << 20)
        with starting(Workspace(tmp_path / "small"), Starter) as start:
            run = start(f"silent = {silent}" + LOGS)
            until(lambda: run.progress().step >= 3)
            ballast = fill(start.workspace.root)
            logged = run.progress().step
            until(lambda: run.events()[-1].state == "failed")
            assert run.state.living, "there is room for a line more, and none for a file"
            assert RunFolder(run.path).progress().step >= logged >= 3
            ballast.unlink()
            end = control.wait(run, 10)
            assert (end.state, end.exit) == ("failed", 1)
            assert end.cause is not None and end.cause.code == "disk-full", end.cause
            assert RunFolder(run.path).progress().step >= logged
            told = [event.state for event in run.events() if event.event == "state"]
            assert told == ["starting", "training", "failed"]
            assert not processes.of_run(run.path)

    mounts.apart(work)


def test_a_stop_on_a_full_disk_saves_when_there_is_room(tmp_path: Path) -> None:
    def work() -> None:
        mounts.small(tmp_path / "small", 1 << 20)
        with starting(Workspace(tmp_path / "small"), Starter) as start:
            run = start(WAITS)
            training(run)
            ballast = fill(start.workspace.root)
            assert control.stop(run).living
            time.sleep(1)
            ballast.unlink()
            end = control.wait(run, 10)
            assert (end.state, end.exit) == ("stopped", 0)
            told = [event.state for event in run.events() if event.event == "state"]
            assert told == ["starting", "training", "stopping", "stopped"]

    mounts.apart(work)


def test_a_start_on_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    def work() -> None:
        mounts.small(tmp_path / "small", 1 << 20)
        with starting(Workspace(tmp_path / "small"), Starter) as start:
            plan = start.plan("note()")
            ballast = fill(start.workspace.root)
            with pytest.raises(Problem, match=plan.name) as told:
                launch.start(plan, Settings())
            assert told.value.todo and not plan.dir.exists()
            ballast.unlink()
            start.runs.append(launch.start(plan, Settings()))
            assert control.wait(start.runs[0], 10).state == "finished"

    mounts.apart(work)


def test_a_start_that_cannot_be_listed_leaves_nothing(start: Starter, tmp_path: Path) -> None:
    """A run elsewhere gets a link in the workspace, where nothing may be written."""
    start.workspace.runs.touch()  # (no folder can be made of it, by root neither)
    plan = msgspec.structs.replace(start.plan("note()"), dir=tmp_path / "elsewhere")
    with pytest.raises(Problem, match="Cannot make the folder"):
        launch.start(plan, Settings())
    assert not plan.dir.exists()


def test_a_disk_that_can_only_be_read(tmp_path: Path) -> None:
    def work() -> None:
        with starting(Workspace(tmp_path), Starter) as start:
            workspace, run = start.workspace, start(NOTED)
            plan = start.plan("note()")
            waiting = run_files.write_run(workspace, "waits", "queued")
            order = Order([], {}, [], "", [], wait=Wait(after=str(run.path)))
            files.write_json(waiting / state.ORDER, order)
            dead = msgspec.structs.replace(processes.Identity.of(os.getpid()), started=1)
            files.write_json(waiting / state.STATE, RunState("queued", 0.0, supervisor=dead))
            ended = RunFolder(run_files.write_run(workspace, "ended", "failed", step=9, saved=(8,)))
            (ended.path / "config").mkdir()
            (ended.path / "config" / "assistant.py").write_text("lr = 1e-4\n")
            training(run)
            listed = [one.summary() for one in list_runs(workspace)]
            mounts.read_only(tmp_path)
            acts: dict[str, Callable[[], object]] = {
                "start": lambda: launch.start(plan, Settings()),
                "resume": lambda: control.resume(ended, Settings()),
                "stop": lambda: control.stop(run),
                "leave": lambda: control.stop(RunFolder(waiting)),
                "move": lambda: queue.move(workspace, RunFolder(waiting), -1),
                "rename": lambda: history.rename(workspace, ended, "other"),
                "note": lambda: history.note(ended, "good"),
                "tag": lambda: history.tag(ended, ["good"]),
                "archive": lambda: history.archive(ended),
                "trash": lambda: history.trash(workspace, ended),
            }
            for name, act in acts.items():
                with pytest.raises(Problem) as told:
                    act()
                said = told.value
                assert said.what and said.todo, name
                assert "Read-only file system" in said.why, (name, said.why)
            assert [one.summary() for one in list_runs(workspace)] == listed
            trainer = run.state.pid
            with pytest.raises(Problem, match="cannot be written down"):
                control.kill(run)
            assert trainer is not None and gone(trainer) and gone(worker(run))
            assert not processes.of_run(run.path)
            start.runs.clear()

    mounts.apart(work)


def test_a_sign_that_cannot_be_given_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Over(Exception):
        pass

    beats = iter(range(20))

    def sleep(_seconds: float) -> None:
        if next(beats, None) is None:
            raise Over

    def full(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, "")

    inside = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    open_before = len(list(Path("/proc/self/fd").iterdir()))
    monkeypatch.setattr(life, "time", SimpleNamespace(sleep=sleep))
    monkeypatch.setattr(life.os, "utime", full)
    with pytest.raises(Over):
        life._beat(inside)
    assert len(list(Path("/proc/self/fd").iterdir())) == open_before
    os.close(inside)
