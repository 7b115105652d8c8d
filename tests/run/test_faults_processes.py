"""What befalls the processes of a run, and the place of its folder. Each is a row of a table.

The table is docs/faults.md. Of every run here nobody is left in the end, looked for by process
group and by the mark that all of its processes carry (the fixture looks once more).
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine import files
from engine.errors import Failed, Problem
from engine.joined import resuming
from engine.run import control, launch, state
from engine.run.folder import RunFolder
from engine.run.processes import Identity
from engine.run.state import RunState
from engine.settings import Settings
from engine.workspace import Workspace
from tests.support.starter import (
    STOPS,
    WITH_WORKER,
    Starter,
    gone,
    starting,
    training,
    until,
    worker,
)

pytestmark = pytest.mark.waits

TRAINS_ON = WITH_WORKER + "time.sleep(600)"
SAVES = WITH_WORKER + STOPS + "worker.kill()\n"
TUNEDECK = [sys.executable, "-c", "from engine.cli.main import main; raise SystemExit(main())"]


def supervisor_of(run: RunFolder) -> Identity:
    supervisor = run.state.supervisor
    assert supervisor is not None and supervisor.alive
    return supervisor


def forsaken(start: Starter, program: str) -> RunFolder:
    """A run in training whose supervisor was killed."""
    run = start.trains(program)
    supervisor_of(run).send(signal.SIGKILL)
    until(lambda: run.state.state == "lost")
    return run


def move(start: Starter, run: RunFolder, to: Path) -> RunFolder:
    run.path.rename(to)
    start.runs.append(RunFolder(to))
    return start.runs[-1]


def stopped_with_all_it_had(run: RunFolder, end: RunState) -> None:
    """It ended as a stopped run does; each of its steps and its checkpoint lie in its folder."""
    assert (end.state, end.cause and end.cause.code) == ("stopped", "stopped")
    saved = run.last_checkpoint()
    assert saved is not None and saved.path.parent == run.path
    assert (run.path / "last_checkpoint").read_text() == str(saved.path)
    steps = (run.path / "steps").read_text().split()
    assert steps == [str(step) for step in range(1, saved.step + 1)]
    assert not (run.path / state.STOP).exists()


def test_one_rank_of_two_is_killed(start: Starter) -> None:
    run = start.trains(
        """
        pause = [sys.executable, "-c", "import time; time.sleep(600)"]
        ranks = [subprocess.Popen(pause, start_new_session=True) for _rank in range(2)]
        (run / "ranks").write_text(" ".join(str(rank.pid) for rank in ranks))
        note()
        while all(rank.poll() is None for rank in ranks): time.sleep(0.02)
        raise SystemExit(1)
        """
    )
    first, second = map(int, (run.path / "ranks").read_text().split())
    os.kill(second, signal.SIGKILL)
    end = control.wait(run, 10)
    assert (end.state, end.exit) == ("failed", 1)
    assert gone(first)
    until(lambda: not start.left())


def test_supervisor_and_trainer_are_killed_together(start: Starter) -> None:
    run = start.trains(TRAINS_ON)
    trainer = run.state.trainer
    assert trainer is not None
    for one in (supervisor_of(run), trainer):
        one.send(signal.SIGKILL)
    until(lambda: run.state.state == "lost" and not trainer.alive)
    assert not gone(worker(run)), "nobody is there to end it"
    with pytest.raises(Problem, match="kill"):
        control.stop(run)
    with pytest.raises(Problem, match="still there"):
        control.resume(run, Settings())
    assert control.kill(run).state == "stopped"
    assert not start.left()


def test_supervisor_and_torchrun_are_killed_together(start: Starter) -> None:
    run = start.trains(
        """
        rank = "from engine.train import leash; leash.fasten(); print('up', flush=True)"
        rank += "; import time; time.sleep(600)"
        worker = subprocess.Popen([sys.executable, "-c", rank], start_new_session=True,
                                  env=os.environ | {"TORCHELASTIC_RUN_ID": "none"},
                                  stdout=subprocess.PIPE)
        worker.stdout.readline()
        note()
        time.sleep(600)
        """
    )
    trainer = run.state.trainer
    assert trainer is not None
    assert len(run.processes()) == 2
    for one in (supervisor_of(run), trainer):
        one.send(signal.SIGKILL)
    until(lambda: not start.left())
    assert run.state.state == "lost"
    assert control.kill(run).state == "stopped"


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"TORCHELASTIC_RUN_ID": "none", "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1"}, "3"),
        ({"TORCHELASTIC_RUN_ID": "none", "TORCH_NCCL_ASYNC_ERROR_HANDLING": "0"}, "0"),
        ({"TORCH_NCCL_ASYNC_ERROR_HANDLING": "1"}, "1"),
        ({}, "None"),
    ],
)
def test_a_rank_takes_no_leave_of_one_that_hangs(variables: dict[str, str], told: str) -> None:
    rank = "import os; from engine.train import leash; leash.fasten(); "
    rank += "print(os.environ.get('TORCH_NCCL_ASYNC_ERROR_HANDLING'))"
    known = {name: value for name, value in os.environ.items() if "TORCH" not in name}
    done = subprocess.run(
        [sys.executable, "-c", rank], env=known | variables, capture_output=True, text=True
    )
    assert done.stdout.strip() == told, done.stderr


def test_a_stop_reaches_a_trainer_that_nobody_watches(start: Starter) -> None:
    run = forsaken(start, SAVES)
    trainer = run.state.trainer
    assert trainer is not None and trainer.alive
    assert control.stop(run).state in ("training", "stopping", "stopped")
    end = control.wait(run, 20)
    stopped_with_all_it_had(run, end)
    assert end.trainer == trainer, "it was not started again"
    until(lambda: not start.left())


def test_a_trainer_that_nobody_watched_ends_badly(start: Starter) -> None:
    run = forsaken(start, WITH_WORKER + STOPS.replace("note(stopped=step)", "sys.exit(3)"))
    control.stop(run)
    end = control.wait(run, 20)
    # Its exit status is for its parent, which is dead: nothing is made up.
    assert (end.state, end.exit, end.cause and end.cause.code) == ("failed", None, "no-end")
    until(lambda: not start.left())


@pytest.mark.parametrize("program", [SAVES, TRAINS_ON])
def test_a_stop_and_a_kill_at_once(start: Starter, program: str) -> None:
    run = start.trains(program)
    stop, kill = (subprocess.Popen([*TUNEDECK, verb, str(run.path)]) for verb in ("stop", "kill"))
    stop.wait(30)  # it may have come too late, and say so
    kill.wait(30)
    assert run.state.state == "stopped"
    assert not start.left()
    assert not (run.path / state.STOP).exists() and not (run.path / state.KILL).exists()


@pytest.mark.parametrize("lost", [False, True])
def test_two_apps_stop_it_at_once(start: Starter, lost: bool) -> None:
    run = forsaken(start, SAVES) if lost else start.trains(SAVES)
    apps = [
        subprocess.Popen(
            [*TUNEDECK, "stop", str(run.path)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for _app in range(2)
    ]
    said = [app.communicate(timeout=40)[1] for app in apps]
    assert 0 in [app.returncode for app in apps], said
    # The slower one may find that it has ended already, which is what it wanted.
    told = [words for app, words in zip(apps, said, strict=True) if app.returncode]
    assert all("ended already" in words for words in told), said
    stopped_with_all_it_had(run, control.wait(run, 20))
    events = [one.state for one in run.events() if one.event == "state"]
    assert events.count("stopped") == 1
    until(lambda: not start.left())


def test_a_hang_up_changes_nothing(start: Starter) -> None:
    run = start.trains(SAVES)
    supervisor = supervisor_of(run)
    supervisor.send(signal.SIGHUP)
    made = len((run.path / "steps").read_text())
    until(lambda: len((run.path / "steps").read_text()) > made)
    assert supervisor.alive and run.state.state == "training"
    control.stop(run)
    stopped_with_all_it_had(run, control.wait(run, 20))
    until(lambda: not start.left())


def test_a_second_sigterm_kills(start: Starter) -> None:
    run = start.trains(TRAINS_ON)  # does not obey the first
    supervisor = supervisor_of(run)
    supervisor.send(signal.SIGTERM)
    until(lambda: run.state.state == "stopping")
    supervisor.send(signal.SIGTERM)
    end = control.wait(run, 20)
    assert (end.state, end.cause and end.cause.code) == ("stopped", "killed")
    until(lambda: not start.left())


def test_its_folder_is_moved(start: Starter, tmp_path: Path) -> None:
    run = start.trains(SAVES)
    before = run.path
    run = move(start, run, tmp_path / "elsewhere")
    run = move(start, run, tmp_path / "further")
    until(lambda: before.is_symlink() and before.samefile(run.path))
    steps = run.path / "steps"
    made = steps.stat().st_size
    until(lambda: steps.stat().st_size > made)
    assert run.state.state == "training" and {*run.processes()} == {*RunFolder(before).processes()}
    with pytest.raises(Problem, match="running already"):
        control.resume(run, Settings())
    control.stop(run)
    end = control.wait(run, 20)
    stopped_with_all_it_had(run, end)
    assert not os.path.lexists(before), "the link in the old place goes with the run's end"
    moves = [event.path for event in run.events() if event.event == "moved"]
    assert moves and moves[0] == str(before), "it may have been followed in one step"
    until(lambda: not start.left())


def test_the_trainer_writes_before_a_link_is_left(start: Starter, tmp_path: Path) -> None:
    run = start.trains(WITH_WORKER + "while True: (run / 'log').write_text('x')")
    supervisor, trainer = supervisor_of(run), run.state.trainer
    assert trainer is not None
    supervisor.send(signal.SIGSTOP)
    run = move(start, run, tmp_path / "elsewhere")
    until(lambda: not trainer.alive)
    supervisor.send(signal.SIGCONT)
    end = control.wait(run, 20)
    assert (end.state, end.cause and end.cause.code) == ("failed", "moved-away")
    assert "FileNotFoundError" in run.log.read_text()
    until(lambda: not start.left())


def test_the_workspace_is_moved(start: Starter, tmp_path: Path) -> None:
    start.workspace.root.joinpath("w").mkdir()
    start.workspace = type(start.workspace)(start.workspace.root / "w")
    run = start.trains(SAVES)
    old, new = start.workspace.root, tmp_path / "v"
    inside = run.path.relative_to(old)
    old.rename(new)
    start.runs.append(RunFolder(new / inside))
    run = start.runs[-1]
    until(lambda: old.is_symlink())
    assert control.stop(run).state in ("stopping", "stopped")
    stopped_with_all_it_had(run, control.wait(run, 20))
    assert not os.path.lexists(old)
    until(lambda: not start.left())


def test_the_workspace_is_moved_under_two_runs(tmp_path: Path) -> None:
    old, new = files.private_folder(tmp_path / "w"), tmp_path / "v"
    with starting(Workspace(old), Starter) as start:
        runs = [start("note()\n" + STOPS) for _run in range(2)]
        for run in runs:
            training(run)
        old.rename(new)
        start.runs[:] = runs = [RunFolder(new / run.path.relative_to(old)) for run in runs]
        until(lambda: all(any(one.event == "moved" for one in run.events()) for run in runs))
        for run in runs:  # the link that one leaves serves both, and goes with it
            until(lambda: old.is_symlink())
            control.stop(run)
            end = control.wait(run, 20)
            assert end.state == "stopped" and run.last_checkpoint() is not None, end
        until(lambda: not os.path.lexists(old))


def test_the_workspace_is_moved_and_its_queue_goes_on(tmp_path: Path) -> None:
    old, new = files.private_folder(tmp_path / "w"), tmp_path / "v"
    with starting(Workspace(old), Starter) as start:
        first = start("note()\nwhile not (run / 'end').exists(): time.sleep(0.02)")
        training(first)
        second = start("note()", wait=state.Wait(after=str(first.path)))
        old.rename(new)
        start.runs[:] = [RunFolder(new / run.path.relative_to(old)) for run in (first, second)]
        first, second = start.runs
        until(lambda: old.is_symlink())
        (first.path / "end").touch()
        assert control.wait(first, 20).state == "finished"
        end = control.wait(second, 20)
        assert (end.state, end.cause) == ("finished", None)
        until(lambda: not os.path.lexists(old))


def test_the_workspace_is_moved_at_rest(tmp_path: Path) -> None:
    old, new = files.private_folder(tmp_path / "w"), tmp_path / "v"
    with starting(Workspace(old), Starter) as start:
        (old / "data.json").write_text("[]")
        start.config.write_text("data_path = 'data.json'\n")
        run = start("note()\n" + STOPS)
        training(run)
        control.stop(run)
        assert control.wait(run, 20).state == "stopped"
        old.rename(new)
        start.runs[:] = [RunFolder(new / run.path.relative_to(old))]
        [run] = start.runs
        assert run.record is not None and run.record.workspace == str(new)
        assert resuming.resume_differences(run).differences == []
        control.resume(run, Settings())
        order = run.order()
        assert order is not None and order.folder == str(new), "where the trainer reads its data"


def test_it_is_moved_and_its_old_place_is_taken(start: Starter, tmp_path: Path) -> None:
    run = start.trains(TRAINS_ON)
    supervisor, before = supervisor_of(run), run.path
    supervisor.send(signal.SIGSTOP)
    run = move(start, run, tmp_path / "elsewhere")
    before.mkdir()
    supervisor.send(signal.SIGCONT)
    end = control.wait(run, 20)
    assert (end.state, end.cause and end.cause.code) == ("failed", "moved-away")
    assert str(before) in run.summary().reason
    assert not list(before.iterdir()), "nothing of it gets into another's folder"
    until(lambda: not start.left())


def test_it_is_moved_when_nobody_watches_it(start: Starter, tmp_path: Path) -> None:
    run = forsaken(start, TRAINS_ON)
    before, name = run.path, run.name
    run = move(start, run, tmp_path / "elsewhere")
    assert run.state.state == "lost" and not gone(worker(run))
    with pytest.raises(Problem, match="still there"):
        control.resume(run, Settings())
    # Whoever came to its old place would share its processes.
    plan = start.plan("")
    assert plan.dir == before and plan.name == name
    with pytest.raises(Problem, match="in use already"):
        launch.start(plan, Settings())
    control.kill(run)
    assert run.state.state == "stopped" and not before.exists()
    assert not start.left()


def test_a_stop_follows_one_that_was_moved_when_nobody_watched(
    start: Starter, tmp_path: Path
) -> None:
    run = forsaken(start, SAVES)
    before = run.path
    run = move(start, run, tmp_path / "elsewhere")
    control.stop(run)
    end = control.wait(run, 20)
    stopped_with_all_it_had(run, end)
    assert not os.path.lexists(before)
    until(lambda: not start.left())


def test_its_folder_is_deleted(start: Starter) -> None:
    run = start.trains(TRAINS_ON)
    supervisor = supervisor_of(run)
    subprocess.run(["rm", "-rf", str(run.path)], check=True)
    until(lambda: not start.left())
    assert not supervisor.alive and not os.path.lexists(run.path)


def test_a_copy_of_it_is_made(start: Starter, tmp_path: Path) -> None:
    run = start.trains(SAVES)
    copy = RunFolder(shutil.copytree(run.path, tmp_path / "copy"))
    for order in (control.stop, control.kill, lambda run: control.resume(run, Settings())):
        with pytest.raises(Problem, match="is a copy"):
            order(copy)
    supervisor_of(run).send(signal.SIGKILL)
    until(lambda: run.state.state == "lost")
    with pytest.raises(Problem, match="is a copy"):
        control.kill(copy)
    assert not gone(worker(run))
    control.stop(run)
    stopped_with_all_it_had(run, control.wait(run, 20))
    until(lambda: not start.left())


def test_it_is_moved_to_another_disk(start: Starter, tmp_path: Path) -> None:
    run = start.trains(TRAINS_ON)
    # What mv does there.
    copy = RunFolder(shutil.copytree(run.path, tmp_path / "copy"))
    subprocess.run(["rm", "-rf", str(run.path)], check=True)
    until(lambda: not start.left())
    assert copy.state.state == "lost" and not os.path.lexists(run.path)
    assert control.kill(copy).state == "stopped"


def test_one_that_waits_is_moved_and_one_is_deleted(start: Starter, tmp_path: Path) -> None:
    first = start.trains(TRAINS_ON)
    waiting = []
    for _run in range(2):
        plan = start.plan(SAVES)
        wait = state.Wait(after=str(first.path), needs="end", place=1.0)
        waiting.append(launch.start(msgspec.structs.replace(plan, wait=wait), Settings()))
    moved, deleted = waiting
    supervisor = supervisor_of(deleted)
    subprocess.run(["rm", "-rf", str(deleted.path)], check=True)
    until(lambda: not supervisor.alive)
    assert not os.path.lexists(deleted.path)
    before = moved.path
    moved = move(start, moved, tmp_path / "elsewhere")
    control.kill(first)
    training(moved)
    start.know(moved)
    control.stop(moved)
    stopped_with_all_it_had(moved, control.wait(moved, 20))
    assert not os.path.lexists(before)
    until(lambda: not start.left())


@pytest.mark.parametrize("supervised", [False, True])
def test_kill_where_nothing_can_be_written(
    start: Starter, monkeypatch: pytest.MonkeyPatch, supervised: bool
) -> None:
    run = start.trains(TRAINS_ON) if supervised else forsaken(start, TRAINS_ON)
    opens = os.open

    def read_only(path: Any, flags: int, *args: Any, **options: Any) -> int:
        if flags & os.O_CREAT and str(run.path) in str(path):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return opens(path, flags, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", read_only)
        with pytest.raises(Failed, match="cannot be written") as caught:
            control.kill(run)
    assert "Read-only" in caught.value.why
    assert not start.left(), "ended all the same"
    assert run.state.state == "lost"
    assert control.kill(run).state == "stopped"
