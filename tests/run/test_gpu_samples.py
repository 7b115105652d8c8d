"""The samples of a run's GPUs over its steps, and what its record says was expected."""

from __future__ import annotations

import json
import math
from pathlib import Path

import msgspec
import pytest

from engine.config.memory.estimate import Estimate
from engine.config.preflight import Report
from engine.joined import before_start
from engine.run import launch, planning, rewind, state
from engine.run.folder import RunFolder
from engine.run.gpu_samples import Follower
from engine.settings import Settings
from engine.workspace import Workspace
from tests.support.run_files import add_gpu_samples, gpu_sample


def written(folder: Path, *samples: dict[str, object]) -> Follower:
    add_gpu_samples(folder, *samples)
    return Follower(folder)


def test_samples_lie_evenly_between_the_steps_that_were_logged(tmp_path: Path) -> None:
    follower = written(tmp_path, *(gpu_sample(None, used) for used in (1, 2, 3)))
    assert list(follower.update().step) == [0, 0, 0], "no step is known yet"
    add_gpu_samples(tmp_path, gpu_sample(8, 5), gpu_sample(8, 4))
    samples = follower.update()
    assert list(samples.step) == [2, 4, 6, 8, 8]
    add_gpu_samples(tmp_path, gpu_sample(10, 6))
    assert list(follower.update().step) == pytest.approx([2, 4, 6, 8 + 2 / 3, 8 + 4 / 3, 10])
    assert list(samples.values["used"]) == [1, 2, 3, 5, 4, 6]


def test_after_a_resume_the_lost_attempt_gives_way_but_for_its_peak(tmp_path: Path) -> None:
    first = [gpu_sample(step, used) for step, used in ((10, 1), (20, 2), (30, 99), (40, 4))]
    again = [gpu_sample(None, 3), gpu_sample(20, 5), gpu_sample(30, 6)]
    follower = written(tmp_path, *first, *again)
    samples = follower.update()
    assert list(samples.values["used"]) == [1, 4, 3, 5, 6]
    assert list(samples.step) == sorted(samples.step) and samples.step[-1] == 30
    assert samples.peak == 99
    split = Path(tmp_path / "split")
    follower = written(split, *first)
    follower.update()
    add_gpu_samples(split, *again)
    assert follower.update().step == samples.step, "read in two pieces it is the same"


def test_several_cards_are_told_as_one(tmp_path: Path) -> None:
    cards = [
        {"index": 0, "used": 7, "total": 24, "util": 100, "temperature": 50, "power": 300.0},
        {"index": 1, "used": 9, "total": 80, "util": 50, "temperature": None, "power": 100.0},
    ]
    silent = [dict.fromkeys(("util", "temperature", "power")) | {"used": 1, "total": 80}]
    samples = written(tmp_path, {"step": 1, "gpus": cards}, {"step": 2, "gpus": silent}).update()
    assert (samples.peak, samples.total) == (9, 80)
    seen = {name: list(values) for name, values in samples.values.items()}
    assert seen["used"] == [9, 1]
    assert [seen[name][0] for name in ("util", "temperature", "power")] == [75, 50, 400]
    assert all(math.isnan(seen[name][1]) for name in ("util", "temperature", "power"))


def test_a_torn_line_waits_and_a_broken_one_is_left_out(tmp_path: Path) -> None:
    follower = written(tmp_path, gpu_sample(1, 5))
    path = tmp_path / state.GPU_METRICS
    line = json.dumps(gpu_sample(2, 6))
    with path.open("a") as file:
        file.write(line[:20])
    assert len(follower.update()) == 1
    with path.open("a") as file:
        file.write(line[20:] + '\n{"gpus": [{"used\n' + json.dumps(gpu_sample(3, 7)) + "\n")
    assert list(follower.update().values["used"]) == [5, 6, 7]
    assert list(Follower(tmp_path).update().values["used"]) == [5, 6, 7]


def test_a_long_file_is_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.run.gpu_samples._PIECE", 300)
    follower = written(tmp_path, *(gpu_sample(step, step) for step in range(1, 101)))
    samples = follower.update()
    assert list(samples.values["used"]) == list(range(1, 101))
    assert list(samples.step) == [*(step + 0.5 for step in range(1, 100)), 100]


def test_without_samples_there_are_none(tmp_path: Path) -> None:
    assert len(Follower(tmp_path / "gone").update()) == 0


def test_the_record_keeps_what_preflight_expected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "begin", lambda plan, settings, attempt: RunFolder(plan.dir))
    config = tmp_path / "assistant.py"
    config.write_text("lr = 1e-4\n")
    plan = planning.plan(config, workspace=Workspace(tmp_path), settings=Settings(), gpus=[])
    report = Report(True, [], Estimate(17_900, {}, allocated_bytes=15_000), None, None, None)
    assert before_start.expecting(plan, report).expected is None, "a CPU has no card to fill"
    plan = msgspec.structs.replace(plan, gpus=[1])
    record = launch.start(before_start.expecting(plan, report), Settings()).record
    assert record is not None and record.expected == state.Expected(17_900, 15_000)

    def resumed(**changes: object) -> state.Expected | None:
        rewind.record(msgspec.structs.replace(plan, **changes), record)
        written = state.read_record(plan.dir)
        assert written is not None
        return written.expected

    assert resumed(gpus=[0]) == record.expected
    assert resumed(gpus=[0, 1], processes=2) is None
    (plan.dir / record.config).write_text("lr = 2e-4\n")
    assert resumed() is None
