"""The real XTuner under the supervisor, on a tiny model and a CPU."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from engine.run import control, launch, planning, processes
from engine.run.folder import RunFolder
from engine.run.listing import list_runs
from engine.settings import Settings
from engine.workspace import Workspace
from tests.support import tiny_config

pytestmark = pytest.mark.trains


def begin(folder: Path, model: Path, **wishes: object) -> RunFolder:
    workspace = Workspace(folder)
    epochs = 1 if wishes.pop("short", False) else 200
    config = tiny_config.write(folder, model, epochs=epochs, save=500 if epochs > 1 else 4)
    plan = planning.plan(config, workspace=workspace, settings=Settings(), gpus=[], **wishes)  # type: ignore[arg-type]
    return launch.start(plan, Settings())


def wait_for_step(run: RunFolder, step: int) -> None:
    end = time.monotonic() + 240
    while run.progress().step < step:
        assert run.state.living, run.log.read_text(errors="replace")[-3000:]
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_whole_run(trained_run: RunFolder) -> None:
    summary = trained_run.summary()
    assert (summary.state, summary.exit, summary.step, summary.steps) == ("finished", 0, 12, 12)
    assert [(one.step, one.kind, one.complete) for one in summary.checkpoints] == [
        (4, "file", True),
        (8, "file", True),
        (12, "file", True),
    ]
    at = trained_run.progress()
    assert list(at.history.step) == list(range(1, 13))
    assert summary.checkpoints[-1].loss == summary.loss == at.history["loss"][-1]
    assert at.history["loss"][-1] < at.history["loss"][0]
    assert at.eta == 0 and at.tokens_per_s is not None and at.tokens_per_s > 0
    words = [event.state or event.path for event in trained_run.events()]
    assert words[1:3] == ["starting", "training"] and words[-1] == "finished"
    assert {"iter_4.pth", "iter_8.pth", "iter_12.pth"} <= set(words)


def test_what_ran_is_the_frozen_config(trained_run: RunFolder) -> None:
    record = trained_run.record
    assert record is not None and trained_run.config is not None
    assert trained_run.config.read_bytes() == Path(record.source).read_bytes()
    assert record.versions["xtuner"] == "0.2.0"
    # XTuner's own dump stands beside it and knows nothing of our hook.
    dumped = (trained_run.path / "assistant.py").read_text()
    assert "RunHook" not in dumped and "EvaluateChatHook" in dumped
    assert [run.path for run in list_runs(Workspace(Path(record.workspace)))] == [trained_run.path]


def test_a_killed_trainer_is_a_failed_run_in_five_seconds(tmp_path: Path, tiny_model: Path) -> None:
    run = begin(tmp_path, tiny_model)
    wait_for_step(run, 2)
    pid = run.state.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    end = control.wait(run, 5)
    assert (end.state, end.exit) == ("failed", -9)
    assert "signal 9" in run.summary().reason
    assert run.progress().step >= 2, "what was made stays to be seen"
    assert not processes.of_run(run.path)
