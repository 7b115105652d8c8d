"""A run on several nodes whose lines the user types, with real torchrun over loopback."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from engine.run import control, launch
from engine.settings import Nodes, Settings
from engine.workspace import Workspace
from tests.support import tiny_config

pytestmark = pytest.mark.trains


def until(condition: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def test_a_node_that_never_comes_ends_the_run_with_its_cause(tmp_path: Path) -> None:
    config = tmp_path / "assistant.py"
    config.write_text("lr = 1e-4\n")
    settings = msgspec.structs.replace(Settings(), nodes=Nodes(address="127.0.0.1", patience=3))
    plan = launch.plan(
        config, workspace=Workspace(tmp_path), settings=settings, launcher="nodes", nodes=2, gpus=[]
    )
    run = launch.start(plan, settings)
    try:
        end = control.wait(run, 60)
    finally:
        if run.state.living:
            control.kill(run)
    assert end.state == "failed", run.log.read_text()
    assert end.cause is not None and end.cause.code.startswith("nodes-missing"), (
        end.cause,
        run.log.read_text(),
    )


def test_two_nodes_train_into_one_folder_and_stop_with_a_checkpoint(
    tmp_path: Path, tiny_model: Path
) -> None:
    config = tiny_config.write(tmp_path, tiny_model)
    settings = msgspec.structs.replace(Settings(), nodes=Nodes(address="127.0.0.1", patience=100))
    # Under DeepSpeed: mmengine's own wrapper for several processes wants GPUs.
    plan = launch.plan(
        config,
        workspace=Workspace(tmp_path),
        settings=settings,
        launcher="nodes",
        nodes=2,
        gpus=[],
        deepspeed="2",
    )
    run = launch.start(plan, settings)
    typed = subprocess.Popen(["bash", "-c", plan.lines[1]], stderr=subprocess.DEVNULL)
    try:
        until(lambda: run.progress().step >= 1 or not run.state.living, 200)
        control.stop(run)
        end = control.wait(run, 60)
        assert (end.state, end.exit) == ("stopped", 0), run.log.read_text()[-3000:]
        assert typed.wait(30) == 0, "the other node ended as well"
    finally:
        if run.state.living:
            control.kill(run)
        typed.kill()
    saved = run.last_checkpoint()
    assert saved is not None and f"step {saved.step}" in run.summary().reason
    assert (run.record and run.record.processes) == 2
