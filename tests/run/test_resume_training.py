"""A run that was interrupted equals the one that was not, step for step: the real XTuner.

With what a resume loses most easily: dropout, gradient accumulation that does not divide
the steps between checkpoints, a second epoch in another order, answers sampled on the way.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from engine.joined import resuming
from engine.run import control, launch, planning
from engine.run.folder import RunFolder
from engine.settings import Settings
from engine.workspace import Workspace
from tests.support import tiny_config

pytestmark = pytest.mark.trains

EPOCH = 12
"""Steps to an epoch. mmengine rests for two seconds there: time to interrupt it."""


def begin(folder: Path, model: Path, deepspeed: str) -> RunFolder:
    folder.mkdir()
    config = tiny_config.write(folder, model, epochs=2, save=5)
    text = config.read_text()
    for old, new in (
        ("lora_dropout=0.0", "lora_dropout=0.3"),
        ("accumulative_counts = 1", "accumulative_counts = 3"),
    ):
        assert old in text
        text = text.replace(old, new)
    config.write_text(text)
    plan = planning.plan(
        config, workspace=Workspace(folder), settings=Settings(), gpus=[], deepspeed=deepspeed
    )
    return launch.start(plan, Settings())


def wait_for_step(run: RunFolder, step: int) -> None:
    """Wait for a step of the present start; those of an earlier one may be further."""
    end = time.monotonic() + 240
    while not _made(run, step):
        assert run.state.living, run.log.read_text(errors="replace")[-3000:]
        assert time.monotonic() < end
        time.sleep(0.05)


def _made(run: RunFolder, step: int) -> bool:
    started = run.state.started or time.time()
    scalars = run.path.glob("*/vis_data/scalars.json")
    fresh = [file for file in scalars if file.stat().st_mtime > started]
    return any(f'"step": {step}}}' in file.read_text() for file in fresh)


def finish(run: RunFolder) -> None:
    end = control.wait(run, 240)
    assert end.state == "finished", run.log.read_text(errors="replace")[-3000:]


def stop(run: RunFolder) -> int:
    control.stop(run)
    assert control.wait(run, 60).state == "stopped", run.log.read_text(errors="replace")[-3000:]
    saved = run.last_checkpoint()
    assert saved is not None and saved.step == run.progress().step
    return saved.step


def kill_trainer(run: RunFolder) -> None:
    pid = run.state.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert control.wait(run, 10).state == "failed"


def assert_same_curves(parts: RunFolder, whole: RunFolder) -> None:
    ours, theirs = parts.progress().history, whole.progress().history
    assert list(ours.step) == list(theirs.step) == list(range(1, 2 * EPOCH + 1))
    for name in ("loss", "lr", "tokens"):
        assert list(ours[name]) == pytest.approx(list(theirs[name]), rel=1e-6), name


def test_killed_resumed_from_an_earlier_checkpoint_stopped_and_resumed(
    tmp_path: Path, tiny_model: Path
) -> None:
    whole = begin(tmp_path / "whole", tiny_model, "")
    finish(whole)
    run = begin(tmp_path / "parts", tiny_model, "")
    wait_for_step(run, EPOCH)
    kill_trainer(run)
    newest = run.last_checkpoint()
    assert newest is not None and newest.step == 10
    found = resuming.resume_differences(run, checkpoint=run.path / "iter_5.pth")
    assert (found.step, found.steps, found.differences) == (5, 24, [])

    resuming.resume(run, Settings(), checkpoint=run.path / "iter_5.pth")
    assert (run.path / "set-aside/2/iter_10.pth").is_file()
    wait_for_step(run, EPOCH)
    assert stop(run) < 2 * EPOCH

    resuming.resume(run, Settings())
    finish(run)
    assert run.state.attempt == 3
    assert_same_curves(run, whole)
    assert list(run.progress().history["grad_norm"]) == pytest.approx(
        list(whole.progress().history["grad_norm"]), rel=1e-5, nan_ok=True
    )


def test_deepspeed_is_resumed_to_the_same_curve_and_changed_settings_hold(
    tmp_path: Path, tiny_model: Path
) -> None:
    whole = begin(tmp_path / "whole", tiny_model, "2")
    finish(whole)
    run = begin(tmp_path / "parts", tiny_model, "2")
    wait_for_step(run, EPOCH)
    assert stop(run) < 2 * EPOCH
    resuming.resume(run, Settings())
    finish(run)
    assert_same_curves(run, whole)

    # A third epoch with half the learning rate: mmengine alone would bring both old ones back.
    assert run.config is not None
    text = run.config.read_text().replace("max_epochs = 2", "max_epochs = 3")
    text = text.replace("lr = 5e-3", "lr = 2.5e-3")
    resuming.resume(run, Settings(), config=text)
    finish(run)
    history = run.progress().history
    assert list(history.step)[-1] == 3 * EPOCH
    # The new cosine at step 25 of 36, where the old one had come down to nothing.
    assert history["lr"][2 * EPOCH - 1] < 1e-4 < 3e-4 < history["lr"][2 * EPOCH] < 2.5e-3
