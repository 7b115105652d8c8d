"""Runs that wait: for a run, for GPUs, in order; and what becomes of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import msgspec
import psutil
import pytest

from engine import files
from engine.errors import Problem
from engine.machine import doctor
from engine.run import control, launch, planning, processes, queue, reasons, turn
from engine.run.claim import Claim
from engine.run.folder import RunFolder
from engine.run.state import Cause, Order, RunState, Wait
from engine.settings import Settings
from engine.workspace import Workspace
from tests.support.nvml import Card, Nvml
from tests.support.starter import Starter, starting, until

pytestmark = pytest.mark.waits

UNTIL_TOLD = "note()\nwhile not (run / 'end').exists(): time.sleep(0.02)\n"
"""A trainer that ends when it is told to; with the status that the file holds."""
TOLD = UNTIL_TOLD + "sys.exit(int((run / 'end').read_text()))"


class Queued(Starter):
    """Starts small programs as runs that wait, and leaves none behind."""

    def __call__(self, program: str = TOLD, wait: Wait | None = None) -> RunFolder:
        return super().__call__(program, wait)

    def after(self, run: RunFolder, needs: str = "success") -> RunFolder:
        return self(wait=msgspec.convert({"after": str(run.path), "needs": needs}, Wait))


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Queued]:
    with starting(Workspace(tmp_path), Queued) as starter:
        yield starter


def end(run: RunFolder, status: int = 0) -> None:
    part = run.path / "end.part"
    part.write_text(str(status))
    part.rename(run.path / "end")
    control.wait(run, 10)


def training(run: RunFolder) -> None:
    until(lambda: run.state.state == "training")


def over(run: RunFolder) -> RunState:
    return control.wait(run, 15)


# Waiting for a run


def test_it_starts_when_the_other_has_finished(start: Queued) -> None:
    first = start()
    second = start.after(first)
    now = second.state
    assert now.state == "queued" and now.supervisor is not None and now.trainer is None
    assert second.summary().waits == "after assistant-01"
    assert queue.say(second) == "It waits: after assistant-01."
    start.config.write_text("lr = 5\n")
    end(first)
    training(second)
    assert first.state.ended is not None and second.state.started is not None
    assert second.state.started >= first.state.ended
    assert second.config is not None and second.config.read_text() == "lr = 1e-4\n"
    assert second.summary().waits == ""
    end(second)
    words = [event.state for event in second.events() if event.event == "state"]
    assert words == ["queued", "starting", "training", "finished"]


@pytest.mark.parametrize(
    ("how", "code"), [("fails", "awaited-failed"), ("stopped", "awaited-stopped")]
)
def test_a_chain_ends_with_what_it_waited_for(start: Queued, how: str, code: str) -> None:
    first = start()
    second = start.after(first)
    third = start.after(second)
    anyway = start.after(first, needs="end")
    training(first)
    if how == "fails":
        end(first, 3)
    else:
        control.kill(first)
    assert over(second).cause == Cause(code, {"awaited": "assistant-01", "run": "assistant-02"})
    assert over(third).cause == Cause(
        "awaited-failed", {"awaited": "assistant-02", "run": "assistant-03"}
    )
    said = third.summary()
    assert said.reason == "It never started: assistant-02, which it waited for, failed."
    assert said.todo == "`tunedeck resume assistant-03 --now` starts it all the same."
    training(anyway)
    assert not second.log.exists() and second.state.state == "failed"

    with pytest.raises(Problem, match="cannot wait for assistant-01"):
        control.resume(second, Settings())
    control.resume(second, Settings(), now=True)
    order = second.order()
    assert order is not None and order.wait is None and not order.resume
    assert second.state.started is not None and second.state.attempt == 1


def test_the_awaited_runs_supervisor_dies(start: Queued) -> None:
    first = start()
    second, anyway = start.after(first), start.after(first, needs="end")
    training(first)
    dead, trainer = first.state.supervisor, first.state.trainer
    assert dead is not None and trainer is not None
    dead.send(signal.SIGKILL)
    assert (over(second).cause or Cause("")).code == "awaited-lost"
    assert anyway.state.state == "queued", "the training itself goes on"
    trainer.send(signal.SIGKILL)
    training(anyway)


def test_the_awaited_run_is_deleted(start: Queued, monkeypatch: pytest.MonkeyPatch) -> None:
    first = start("note()")
    second = RunFolder(first.path.parent / "second")
    order = Order([], {}, [], "", [], wait=Wait(after=str(second.path)))
    waiter = turn.Waiter(first.path, order, Claim([]))
    monkeypatch.setattr(turn, "MISSING", 3)
    assert [waiter.look(), waiter.look()] == [False, False], "it may just be moved"
    gone = waiter.look()
    assert gone == Cause("awaited-gone", {"awaited": "second", "run": "assistant-01"})
    assert "is not there any more" in reasons.say(gone).reason
    assert over(first).state == "finished"


def test_what_cannot_be_read_for_a_moment_is_waited_for(start: Queued) -> None:
    first = start("note()")
    over(first)
    whole = (first.path / "state.json").read_bytes()
    waiter = turn.Waiter(
        first.path, Order([], {}, [], "", [], wait=Wait(after=str(first.path))), Claim([])
    )
    (first.path / "state.json").write_bytes(whole[:20])
    (first.path / "events.jsonl").unlink()
    assert waiter.look() is False
    (first.path / "state.json").write_bytes(whole)
    assert waiter.look() is True
    held = [os.path.realpath(one) for one in Path("/proc/self/fd").iterdir()]
    assert str(first.path) not in held, "its disk may be unmounted now"


# Out of the queue, and back


@pytest.mark.parametrize("order", [control.stop, control.kill])
def test_taken_out_and_put_back(start: Queued, order: object) -> None:
    first = start()
    second = start.after(first)
    assert callable(order)
    order(second)
    now = over(second)
    assert now.state == "stopped" and now.cause == Cause("unqueued", {"run": "assistant-02"})
    assert not queue.waiting(start.workspace)
    control.resume(second, Settings())
    assert [run.name for run in queue.waiting(start.workspace)] == ["assistant-02"]
    end(first)
    until(lambda: second.state.started is not None)


def rebooted(run: RunFolder) -> None:
    """As its folder looks after a reboot."""
    now = run.written_state()
    assert now is not None and now.supervisor is not None
    now.supervisor.send(signal.SIGKILL)
    until(lambda: not (now.supervisor and now.supervisor.alive))
    before = msgspec.structs.replace(now.supervisor, boot="another", pid=os.getpid())
    files.write_json(run.path / "state.json", msgspec.structs.replace(now, supervisor=before))


def test_after_a_reboot_it_is_told_and_put_back(start: Queued) -> None:
    first = start()
    second, third = start.after(first), start.after(first)
    for run in (second, third):
        rebooted(run)
    said = second.summary()
    assert said.state == "lost" and said.waits == "after assistant-01"
    assert (
        said.reason
        == queue.say(second)
        == (
            "It waits (after assistant-01), but nothing watches it since the machine was restarted."
        )
    )
    assert said.todo == "Put it back into the queue: `tunedeck resume assistant-02`."
    assert [run.name for run in queue.waiting(start.workspace)] == ["assistant-02", "assistant-03"]
    control.resume(third, Settings())
    control.resume(second, Settings())
    assert second.state.state == third.state.state == "queued"
    names = [run.name for run in queue.waiting(start.workspace)]
    assert names == ["assistant-02", "assistant-03"], "each has kept its place"


def test_one_that_nothing_watches_can_be_taken_out(start: Queued) -> None:
    first = start()
    second = start.after(first)
    supervisor = second.state.supervisor
    assert supervisor is not None
    supervisor.send(signal.SIGTERM)  # as at a shutdown: it still waits afterwards
    until(lambda: second.state.state == "lost")
    assert "the process that watched it is gone" in second.summary().reason
    assert (control.stop(second).state, second.state.state) == ("stopped", "stopped")
    assert "queue" in second.summary().reason


def test_it_outlives_a_hang_up_and_waits_for_next_to_nothing(start: Queued) -> None:
    first = start()
    second = start.after(first)
    supervisor = second.state.supervisor
    assert supervisor is not None
    supervisor.send(signal.SIGHUP)
    watching = psutil.Process(supervisor.pid)
    before, began = watching.cpu_times(), time.monotonic()
    time.sleep(2.5)
    after, took = watching.cpu_times(), time.monotonic() - began
    used = after.user + after.system - before.user - before.system
    assert second.state.state == "queued"
    assert used / took < 0.02, "of one core"


# Order, and wishes that cannot be


def test_places_can_be_changed(start: Queued) -> None:
    first = start()
    waiting = [start.after(first) for _number in range(3)]
    two, _three, four = waiting

    def names() -> str:
        return " ".join(run.name[-1] for run in queue.waiting(start.workspace))

    assert names() == "2 3 4"
    for run, by, then in (
        (four, -1, "2 4 3"),
        (four, -5, "4 2 3"),
        (four, -1, "4 2 3"),
        (two, 1, "4 3 2"),
        (four, 1, "3 4 2"),
    ):
        queue.move(start.workspace, run, by)
        assert names() == then
    with pytest.raises(Problem, match="does not wait"):
        queue.move(start.workspace, first, 1)


def test_wishes_that_cannot_be(start: Queued, tmp_path: Path) -> None:
    first = start()
    second = start.after(first)
    for wait, says in (
        (Wait(after=str(tmp_path / "nobody")), "cannot wait for nobody"),
        (Wait(free=True), "no GPU to wait for"),
    ):
        with pytest.raises(Problem, match=says):
            queue.placed(wait, start.workspace, tmp_path / "new", [], "local")
    with pytest.raises(Problem, match="queue of its own"):
        queue.placed(Wait(free=True), start.workspace, tmp_path / "new", [0], "slurm")
    for folder in (first.path, second.path):
        with pytest.raises(Problem, match="cannot wait for assistant-02") as caught:
            queue.placed(Wait(after=str(second.path)), start.workspace, folder, [], "local")
        assert "neither would ever start" in caught.value.why
    end(first, 1)
    with pytest.raises(Problem, match="Its state: failed"):
        queue.placed(Wait(after=str(first.path)), start.workspace, tmp_path / "new", [], "local")
    placed = queue.placed(
        Wait(after=str(first.path), needs="end"), start.workspace, tmp_path / "new", [], "local"
    )
    assert abs(placed.place - time.time()) < 60


# Waiting for GPUs


@pytest.fixture
def cards(nvml: Nvml, monkeypatch: pytest.MonkeyPatch) -> Nvml:
    nvml.set(Card(), Card())
    monkeypatch.setattr(turn, "ASK", 0.0)
    return nvml


class Line:
    """Waiting runs whose supervisor is this process; each look is asked for."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.config = workspace.root / "a.py"
        self.config.write_text("")
        self.claims: list[Claim] = []

    def add(self, gpus: list[int], **wait: object) -> tuple[RunFolder, turn.Waiter, Claim]:
        plan = planning.plan(
            self.config,
            workspace=self.workspace,
            settings=Settings(),
            gpus=gpus,
            wait=msgspec.convert(wait, Wait),
        )
        launch._make_folder(plan)
        order = Order([], {}, [], "", gpus, wait=plan.wait)
        files.write_json(plan.dir / "order.json", order)
        files.write_json(plan.dir / "run.json", launch._record(plan, Settings(), b""))
        me = processes.Identity.of(os.getpid())
        files.write_json(plan.dir / "state.json", RunState("queued", time.time(), supervisor=me))
        claim = Claim(gpus)
        self.claims.append(claim)
        return RunFolder(plan.dir), turn.Waiter(plan.dir, order, claim), claim


@pytest.fixture
def line(tmp_path: Path, cards: Nvml, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    monkeypatch.setattr(doctor, "packages", lambda settings: ("", {}))
    made = Line(Workspace(tmp_path))
    yield made
    for claim in made.claims:
        claim.release()


def test_gpus_must_be_free_a_few_looks_in_a_row(line: Line, cards: Nvml) -> None:
    run, waiter, _claim = line.add([1], free=True)
    cards.set(Card(used=70 << 30), Card(used=61 << 30))
    assert run.summary().waits == "until free: GPU 1"
    assert queue.say(run) == "It waits: until free: GPU 1. In its way: GPU 1: 65.5 GB in use."
    assert waiter.look() is False
    cards.set(Card(used=70 << 30), Card(used=300 << 20))  # what a desktop holds
    assert [waiter.look(), waiter.look()] == [False, False]
    cards.set(Card(used=70 << 30), Card(used=20 << 30))
    assert waiter.look() is False
    cards.set(Card(used=70 << 30), Card())
    assert [waiter.look() for _look in range(turn.QUIET)] == [False, False, True]


def test_a_clock_that_was_set_back_lets_nobody_push_in(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *_rest = line.add([0], free=True)
    back = SimpleNamespace(time=lambda: time.time() - 3600, monotonic=time.monotonic)
    monkeypatch.setattr(queue, "time", back)
    second, *_rest = line.add([0], free=True)
    assert [run.path for run in queue.waiting(line.workspace)] == [first.path, second.path]


def test_a_run_on_them_is_seen_without_asking_the_driver(line: Line, cards: Nvml) -> None:
    training = Claim([0])
    training.share()
    _run, waiter, _claim = line.add([0, 1], free=True)
    before = cards.looks
    assert not any(waiter.look() for _look in range(5)) and cards.looks == before
    training.release()
    assert [waiter.look() for _look in range(turn.QUIET)] == [False, False, True]
    assert cards.looks == before + turn.QUIET


def test_a_driver_that_does_not_answer_is_waited_for(line: Line, cards: Nvml) -> None:
    _run, waiter, _claim = line.add([0], free=True)
    cards.set(Card(), nvmlDeviceGetCount_v2="UNKNOWN")
    assert not any(waiter.look() for _look in range(5))


def test_two_on_the_same_gpu_start_one_after_the_other(line: Line) -> None:
    one, first, claim = line.add([0], free=True)
    _two, second, _claim = line.add([0], free=True)
    looks = [(first.look(), second.look()) for _look in range(turn.QUIET)]
    assert looks == [(False, False), (False, False), (True, False)]
    files.write_json(one.path / "state.json", RunState("training", time.time()))
    claim.share()
    assert not any(second.look() for _look in range(5))
    claim.release()
    assert any(second.look() for _look in range(turn.QUIET))


def test_two_after_the_same_run_do_not_meet_on_its_gpu(line: Line) -> None:
    before, _waiter, _claim = line.add([0], free=True)
    _one, first, claim = line.add([0], after=str(before.path))
    _two, second, _ = line.add([0], after=str(before.path))
    assert (first.look(), second.look()) == (False, False)
    files.write_json(before.path / "state.json", RunState("finished", time.time()))
    assert (second.look(), first.look(), second.look()) == (False, True, False)
    claim.release()


def test_the_one_before_it_goes_first_and_can_be_moved_behind(line: Line, cards: Nvml) -> None:
    one, _first, _ = line.add([0, 1], free=True)
    _two, second, _ = line.add([1], free=True)
    cards.set(Card(used=60 << 30), Card())
    assert not any(second.look() for _look in range(5)), "the first would starve else"
    queue.move(line.workspace, one, 1)
    assert any(second.look() for _look in range(turn.QUIET + 1))


def test_one_that_waits_for_a_run_keeps_nobody_back(line: Line) -> None:
    other, _waiter, _claim = line.add([1], free=True)
    line.add([0], after=str(other.path))
    _last, last, _ = line.add([0], free=True)
    assert any(last.look() for _look in range(turn.QUIET))


def test_places_keep_no_two_runs_waiting_for_each_other(line: Line) -> None:
    """One before it in the queue waits for it: it starts all the same."""
    a, first, _ = line.add([0], free=True)
    b, _second, _ = line.add([0], after=str(a.path))
    queue.move(line.workspace, b, -1)
    assert [run.path for run in queue.waiting(line.workspace)] == [b.path, a.path]
    assert any(first.look() for _look in range(turn.QUIET))


def test_runs_of_two_users_start_one_after_the_other(
    line: Line, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The GPU looks free to both until one of them has loaded its model."""
    _one, first, mine = line.add([0], free=True)
    other = Line(Workspace(files.private_folder(tmp_path / "theirs")))
    line.claims.append(theirs := other.add([0], free=True)[2])
    for look in range(turn.QUIET):
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home of one"))
        assert first.look() is (look == turn.QUIET - 1)
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home of the other"))
        assert theirs.take() is (look < turn.QUIET - 1)
        theirs.release()
    mine.release()
    assert theirs.take()


HOLDS = """
from engine.run.claim import Claim

(claim := Claim([1])).share()
print("held", flush=True)
input()
"""


def test_a_claim_ends_with_its_holder(cards: Nvml) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDS], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        claim = Claim([0, 1])
        assert not claim.take() and Claim([0]).take(), "and what could be had is given back"
    finally:
        holder.kill()
        holder.communicate()
    assert claim.take()
    claim.release()
