"""The app may die at any time: the run goes on, and the app opened again shows all of it."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from engine.run import control, launch, planning
from engine.run.folder import RunFolder
from engine.settings import Settings
from engine.workspace import Workspace
from tests.support import tiny_config

sys.path.insert(0, str(Path(__file__).parent.parent / "docs"))
from terminal_picture import Terminal

pytestmark = pytest.mark.trains


@pytest.fixture
def running(tmp_path: Path, tiny_model: Path) -> RunFolder:
    """A run of the real XTuner that is being started; ended with the test."""
    workspace = Workspace(tmp_path)
    workspace.configs.mkdir()
    # Some ten seconds of steps: long enough to be met in the middle.
    config = tiny_config.write(workspace.configs, tiny_model, epochs=20, save=120)
    plan = planning.plan(config, workspace=workspace, settings=Settings(), gpus=[])
    run = launch.start(plan, Settings())
    yield run
    if run.state.living:
        control.kill(run)


def app(workspace: Path) -> Terminal:
    """The app on its Train pane."""
    terminal = Terminal(f"exec {sys.executable} -m tui {workspace}", 80, 24)
    terminal.wait("F1 keys")
    terminal.keys("F4")
    return terminal


def gone(pid: int) -> bool:
    """Whether a process has ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_run_outlives_the_app_and_its_terminal(running: RunFolder) -> None:
    workspace = running.path.parent.parent
    killed, closed = app(workspace), app(workspace)  # two windows on one run
    closed.wait("training", seconds=180)
    end = time.monotonic() + 60
    while running.progress().step < 2:
        assert time.monotonic() < end and running.state.living
        time.sleep(0.05)
    pid = closed.pid()
    os.kill(killed.pid(), signal.SIGKILL)
    closed.close()
    assert running.progress().step < 240, "it was not left in mid-training"
    killed.close()
    end = time.monotonic() + 10
    while not gone(pid):
        assert time.monotonic() < end, "the app outlived its terminal"
        time.sleep(0.1)

    assert control.wait(running, 180).state == "finished"
    again = app(workspace)
    try:
        shown = again.wait("finished 240/240")
        assert "100%" in shown
        assert "loss" in shown
        assert any("\u2800" < character <= "\u28ff" for character in shown), "no curve"
        assert "Iter(train) [240/240]" in running.log.read_text()
        again.keys("Tab", "Home")
        again.wait("INFO")  # the log from its first line on
    finally:
        again.close()
