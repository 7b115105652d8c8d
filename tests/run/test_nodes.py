"""A run on several nodes whose lines the user types, with real torchrun over loopback."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from engine.run import control, launch
from engine.settings import Nodes, Settings
from engine.workspace import Workspace

pytestmark = pytest.mark.trains


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
