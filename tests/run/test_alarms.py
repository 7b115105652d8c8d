"""Alarms of silence and of the machine; the user's command; what an app tells of them."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from engine import files
from engine.cli.main import main
from engine.errors import Problem
from engine.machine.gpu import Health
from engine.machine.memory import Left
from engine.run import alarms, control, state
from engine.run.alarms import hook, machine, pace, signs, table, watch
from engine.run.alarms.board import Board
from engine.run.alarms.news import News, as_problem
from engine.run.folder import RunFolder
from engine.run.progress import Follower
from engine.run.state import Alarm, Event
from engine.workspace import Workspace
from tests.support.nvml import LOST, Card, Instance, Nvml
from tests.support.run_files import write_run
from tests.support.starter import Starter, until

LOGS = Path(__file__).parent.parent / "fixtures" / "runs" / "lora" / "20261124_111024"
STEP = "11/24 11:11:42 - mmengine - INFO - Iter(train) [10/72]  lr: 1.9e-04  loss: 2.0\n"
SAVING = "11/24 11:11:42 - mmengine - INFO - Saving checkpoint at 10 iterations\n"


class Silent:
    """A run's folder in which nothing happens unless the test says so, watched every 2 s."""

    def __init__(self, folder: Path, nodes: int = 1) -> None:
        self.folder = folder
        self.log = folder / state.LOG
        self.pace = pace.Pace(folder, [], nodes)
        self.points = folder / "20261124_111024" / "vis_data" / "scalars.json"
        self.points.parent.mkdir(parents=True)
        self.follower = Follower(folder)
        self.looks = 0

    def point(self, step: int, seconds: float = 0.5) -> None:
        with self.points.open("a") as file:
            file.write(json.dumps({"step": step, "loss": 1.0, "time": seconds}) + "\n")

    def say(self, text: str) -> None:
        with self.log.open("a") as file:
            file.write(text)

    def wait(self, seconds: float) -> dict[str, Alarm]:
        """The alarms that hold after so many watched seconds."""
        history = self.follower.update().history
        for _look in range(int(seconds / 2)):
            found = self.pace.look(2.0, history)
        return {code: alarm for code, alarm in found.items() if alarm is not None}


@pytest.fixture
def run(tmp_path: Path) -> Silent:
    return Silent(tmp_path)


def test_no_step_for_long(run: Silent) -> None:
    run.say(STEP)
    run.point(10)
    run.point(20)
    assert run.wait(290) == {}
    found = run.wait(20)
    assert found["stall"].values["usual"] == "5.0 s"
    assert run.wait(600) == found, "the same alarm as long as it lasts"
    run.point(30)
    assert run.wait(4) == {}


def test_slow_steps_are_not_a_stall(run: Silent) -> None:
    run.say(STEP)
    run.point(10, seconds=20)
    run.point(20, seconds=20)
    assert run.wait(1900) == {}
    assert "stall" in run.wait(200)


def test_idle_gpus_make_it_certain_sooner(run: Silent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signs.Working, "gpus_idle", lambda working: True)
    run.say(STEP)
    run.point(10)
    run.point(20)
    found = run.wait(130)
    assert "GPUs are idle" in alarms.say(found["stall"]).reason


def test_a_checkpoint_and_an_evaluation_have_their_time(run: Silent) -> None:
    run.say(STEP + SAVING)
    run.point(10)
    run.point(20)
    assert run.wait(580) == {}
    part = run.folder / ".iter_10.pth.part"
    part.write_bytes(b"x")
    assert run.wait(580) == {}, "it grows"
    assert run.wait(40)["stall"].values["case"] == "saving"
    part.write_bytes(b"xx")
    assert run.wait(4) == {}
    run.say("... - after_train_iter in EvaluateChatHook.\n")
    assert run.wait(1100) == {}
    assert run.wait(110)["stall"].values["case"] == "answering"


def test_talk_without_steps_is_a_stall_in_the_end(run: Silent) -> None:
    run.say(STEP)
    run.point(10)
    run.point(20)
    for _minute in range(29):
        run.say("still waiting for the store\n")
        assert run.wait(60) == {}
    run.say("still waiting for the store\n")
    assert "stall" in run.wait(120)


def test_a_hang_before_the_first_step_says_where(
    run: Silent, monkeypatch: pytest.MonkeyPatch
) -> None:
    idle = {"all": False}
    monkeypatch.setattr(signs.Working, "all_idle", lambda working: idle["all"])
    run.say("... - mmengine - INFO - Config:\n")
    assert run.wait(900) == {}, "something computes"
    idle["all"] = True
    assert run.wait(4)["hang"].values["case"] == "model"
    run.say("Hooks will be executed in the following order\n")
    assert run.wait(590) == {}
    assert "at the data" in alarms.say(run.wait(20)["hang"]).reason


def test_the_phases_of_a_real_log(tmp_path: Path) -> None:
    whole = next(LOGS.glob("*.log")).read_bytes()
    log = tmp_path / "log"
    seen: list[str] = []
    for end in range(0, len(whole), 500):
        log.write_bytes(whole[:end])
        at = signs.phase(log, 0)
        if not seen or seen[-1] != at:
            seen.append(at)
    assert seen[:2] == ["imports", "model"] and "step" in seen


def test_a_node_that_falls_silent(tmp_path: Path) -> None:
    pulses = tmp_path / state.PULSES
    pulses.mkdir(parents=True)
    now = time.time()
    for node, age in ((0, 0.0), (1, 20.0), (2, 300.0)):
        (pulses / str(node)).touch()
        os.utime(pulses / str(node), (now - age, now - age))
    found = pace.silent_nodes(tmp_path, 3)
    assert found is not None and found.values["nodes"] == "2"
    assert pace.silent_nodes(tmp_path, 2) is None


def test_each_node_gives_a_pulse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.run.processes import MARK
    from engine.train import pulse

    assert (pulse.FOLDER, pulse.RUN) == (state.PULSES, MARK)
    monkeypatch.setenv(MARK, str(tmp_path))
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("GROUP_RANK", "1")
    monkeypatch.delenv("GROUP_WORLD_SIZE", raising=False)
    pulse.start()
    assert not (tmp_path / state.PULSES).exists(), "one machine needs none"
    monkeypatch.setenv("GROUP_WORLD_SIZE", "2")
    pulse.start()
    until(lambda: list(pace.pulses(tmp_path)) == [1])


def test_the_next_checkpoint_must_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = {"bytes": 10e9}

    class Disk:
        f_frsize = 1

        @property
        def f_bavail(self) -> float:
            return free["bytes"]

    monkeypatch.setattr(os, "statvfs", lambda path: Disk())
    disk = machine.Disk(tmp_path)
    monkeypatch.setattr(disk, "_checkpoint", lambda: 6e9)
    assert disk.look()["disk"] is None
    free["bytes"] = 5e9
    disk.look()
    found = disk.look()["disk"]
    assert found is not None and "5.0 GB" in alarms.say(found).reason
    free["bytes"] = 7e9
    assert disk.look()["disk"] is not None, "a little more is not yet well"
    free["bytes"] = 20e9
    assert disk.look()["disk"] is None


def test_a_lost_gpu_is_told_and_a_driver_that_is_away_is_not(nvml: Nvml) -> None:
    divided = Card(mig=True, instances=[Instance()])
    nvml.set(Card(), divided)
    health = machine.GpuHealth([0, "1:0"])
    assert not any(health.look().values())
    nvml.set(Card(), divided, nvmlDeviceGetHandleByIndex_v2="UNINITIALIZED")
    assert not any(health.look().values())
    nvml.set(Card(), msgspec.structs.replace(divided, errors=LOST))
    found = health.look()["gpu-lost"]
    assert found is not None and found.values["gpus"] == "1:0"


def test_memory_that_is_nearly_used_up() -> None:
    left = [Left(10**10, 10**11), Left(10**8, 10**11), Left(10**8, 10**11), Left(10**10, 10**11)]
    memory = machine.Memory(lambda: left.pop(0))
    assert [memory.look()["memory"] is not None for _ in range(4)] == [False, False, True, False]


def test_gpus_lost_hot_and_with_errors() -> None:
    now = [Health(0, temperature=60, uncorrected=2), Health(1, temperature=60, uncorrected=0)]
    health = machine.GpuHealth([0, 1], lambda gpus: now)
    assert not any(health.look().values())
    now[1] = Health(1, lost=True)
    now[0] = Health(0, temperature=91, too_hot=True, uncorrected=3)
    found = health.look()
    assert found["gpu-lost"] and found["gpu-lost"].values["gpus"] == "1"
    assert found["gpu-memory"] and found["gpu-memory"].values["count"] == "1"
    assert not found.get("gpu-hot"), "for a moment only"
    for _look in range(machine.LASTS):
        found = health.look()
    hot = found["gpu-hot"]
    assert hot and "91" in alarms.say(hot).reason


def test_every_alarm_can_be_said() -> None:
    for code in table.TABLE:
        name, _dot, case = code.partition(".")
        words = alarms.say(Alarm(name, {"case": case}))
        assert words.reason and words.todo, code


def board(folder: Path, noted: list[str]) -> Board:
    return Board(folder, Follower(folder).update, noted.append)


@pytest.fixture
def hooked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def to(command: str) -> None:
        monkeypatch.setenv("TUNEDECK_ALARMS_HOOK", command)

    return to


def test_told_once_and_over_when_over(tmp_path: Path, hooked: Callable[[str], None]) -> None:
    folder = write_run(Workspace(tmp_path), "assistant-01", "training", step=5)
    hooked('cat >> told; echo "$TUNEDECK_EVENT $TUNEDECK_NAME $TUNEDECK_CODE" >> told')
    it = board(folder, [])
    alarm = Alarm("loss-nan", {"step": "7"})
    for _look in range(3):
        it.settle({"loss-nan": alarm})
    assert RunFolder(folder).alarms() == [alarm]
    assert RunFolder(folder).summary().alarms == [alarms.say(alarm).reason]
    it.settle({"loss-nan": None})
    it.leave()
    assert RunFolder(folder).alarms() == []
    first, line, second, end = (folder / "told").read_text().splitlines()
    assert json.loads(first)["values"] == {"step": "7"} and json.loads(second)["todo"]
    assert line == "alarm assistant-01 loss-nan" and end == "alarm-over assistant-01 loss-nan"


def test_an_alarm_that_is_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEDECK_ALARMS_OFF", "loss-spike stall")
    folder = write_run(Workspace(tmp_path), "assistant-01", "training")
    it = board(folder, [])
    it.settle({"stall": Alarm("stall"), "disk": Alarm("disk")})
    it.settle({"stall": None})
    assert [one.code for one in RunFolder(folder).alarms()] == ["disk"]


@pytest.mark.parametrize("command", ["echo oops >&2; exit 3", "sleep 60", "no-such-command"])
def test_a_hook_that_fails_is_said_and_does_no_harm(
    tmp_path: Path,
    hooked: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    command: str,
) -> None:
    monkeypatch.setattr(hook, "SECONDS", 0.5)
    folder = write_run(Workspace(tmp_path), "assistant-01", "training")
    hooked(command)
    noted: list[str] = []
    it = board(folder, noted)
    it.settle({"disk": Alarm("disk")})
    it.leave()
    assert [one.code for one in RunFolder(folder).alarms()] == ["disk", "hook"]
    assert noted


def test_a_hook_that_talks_without_end_is_bounded(tmp_path: Path) -> None:
    message = hook.Message("alarm", "r", str(tmp_path), "h", 0.0, "training", "text")
    call = hook.Call("yes | head -c 3000000; exit 0", message)
    while (outcome := call.poll()) is None:
        time.sleep(0.01)
    assert outcome.ok and len(outcome.output) <= 2000


def test_the_supervisor_tells_of_alarms_and_of_the_end(
    start: Starter,
    hooked: Callable[[str], None],
    tmp_path: Path,
) -> None:
    told = tmp_path / "told"
    hooked(f'echo "$TUNEDECK_EVENT $TUNEDECK_CODE" >> {told}')
    run = start("""
        note()
        scalars = run / "20260101_000000" / "vis_data" / "scalars.json"
        scalars.parent.mkdir(parents=True)
        scalars.write_text("".join('{"step": %d0, "loss": NaN}\\n' % n for n in range(1, 6)))
        while not (run / "go").exists():
            time.sleep(0.05)
    """)
    until(lambda: bool(run.alarms()), 20)
    assert [one.code for one in run.alarms()] == ["loss-nan"]
    (run.path / "go").touch()
    assert control.wait(run, 20).state == "finished"
    until(lambda: told.exists() and "finished" in told.read_text(), 20)
    assert told.read_text().split("\n")[:2] == ["alarm loss-nan", "finished "]
    assert "not a number" in run.summary().alarms[0], "of a result it still counts"


def test_news_are_told_once_also_from_when_no_window_was_open(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    old = write_run(workspace, "old-01", "finished")
    folder = write_run(workspace, "assistant-01", "training")
    it = board(folder, [])
    it.settle({"disk": Alarm("disk", {"case": "low", "free": "1 MB"})})
    runs = [RunFolder(folder), RunFolder(old)]
    news = News(workspace)
    [notice] = news.look(runs)
    assert "assistant-01" in notice.problem().what and "1 MB" in notice.problem().what
    assert news.look(runs) == [] and News(workspace).look(runs) == []
    it.settle({"memory": Alarm("memory"), "stall": Alarm("stall")})
    it.settle({"stall": None})
    found = News(workspace).look(runs)
    assert [one.alarm and one.alarm.code for one in found] == ["memory"]
    assert "Since you were last here" in as_problem(found, away=True).what


def test_of_a_run_that_was_moved_only_that_is_news(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    folder = write_run(workspace, "assistant-01", "training")
    board(folder, []).settle({"disk": Alarm("disk", {"case": "low", "free": "1 MB"})})
    news = News(workspace)
    assert len(news.look([RunFolder(folder)])) == 1
    moved = folder.rename(workspace.runs / "moved-01")
    files.append_json(moved / state.EVENTS, Event(time.time(), "moved", path=str(folder)))
    [notice] = news.look([RunFolder(moved)])
    assert notice.moved == (str(folder), str(moved)) and str(moved) in notice.problem().what
    assert news.look([RunFolder(moved)]) == [] and News(workspace).look([RunFolder(moved)]) == []


def test_the_watch_costs_little(tmp_path: Path) -> None:
    """A look at a run of 100,000 points, when nothing is new: well under 1 % of its 2 seconds."""
    folder = write_run(Workspace(tmp_path), "long-01", "training")
    order = state.Order([], {}, [], str(folder), [])
    it = watch.Watch(folder, order, lambda text: None)
    points = folder / "20270101_000000" / "vis_data" / "scalars.json"
    points.parent.mkdir(parents=True)
    line = '{"step": %d, "loss": 1.0, "lr": 2e-4, "time": 0.5}\n'
    points.write_text("".join(line % n for n in range(1, 100_001)))
    it._look_at_run(2.0)
    began = time.process_time()
    for _look in range(50):
        it._look_at_run(2.0)
    assert (time.process_time() - began) / 50 < 0.02


def test_trying_the_hook(hooked: Callable[[str], None], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--try-hook"]) == 2
    hooked('echo "said: $TUNEDECK_TEXT"')
    assert main(["doctor", "--try-hook"]) == 0
    assert "said: The loss is not a number since step 120" in capsys.readouterr().out
    hooked("exit 4")
    assert main(["doctor", "--try-hook"]) == 1


def test_a_code_to_switch_off_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.run.alarms import trial
    from engine.settings import Alarms

    [check] = trial.checks(Alarms(off=("loss-spikes",)))
    assert check.ok is False and "loss-spike" in check.fix
    with pytest.raises(Problem):
        trial.attempt(Alarms(), Path("/"))


def test_a_real_run_raises_no_alarm(trained_run: RunFolder) -> None:
    assert [event.alarm for event in trained_run.events() if event.alarm is not None] == []
    assert "watch:" not in (trained_run.path / state.SUPERVISOR_LOG).read_text()
