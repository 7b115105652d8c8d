"""Fixtures that several test modules share. The expensive ones are made once a session."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.run import control, launch
from engine.run.folder import RunFolder
from engine.settings import Settings
from engine.workspace import Workspace
from tests.support import tiny_config

# torch's threads spin when other programs run; two cores are all a test may assume.
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def private_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's own settings, caches and locale stay out of the tests."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(home / "datasets"))
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    for name in ("NO_COLOR", "TEXTUAL_THEME", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny random Llama (bf16 safetensors) and a ChatML tokenizer."""
    folder = shared_between_workers(tmp_path_factory) / "tiny-llama"
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the first to come makes it
        if not folder.exists():
            unfinished = folder.with_suffix(".part")
            subprocess.run([sys.executable, ROOT / "tests/support/tiny.py", unfinished], check=True)
            unfinished.rename(folder)
    return folder


def shared_between_workers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all of pytest-xdist's workers see, new in every session."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> RunFolder:
    """A finished run of the real XTuner: LoRA on the tiny model, 12 steps, a checkpoint each 4.

    Shared by all tests, so look at it only. It lies in a workspace of its own,
    whose ``configs/assistant.py`` and ``configs/assistant.json`` it was made from.
    """
    workspace = Workspace(tmp_path_factory.mktemp("trained"))
    workspace.configs.mkdir()
    config = tiny_config.write(workspace.configs, tiny_model)
    plan = launch.plan(config, workspace=workspace, settings=Settings(), gpus=[])
    run = launch.start(plan, Settings())
    state = control.wait(run, 300)
    if state.living:
        control.kill(run)
    assert state.state == "finished", run.log.read_text(errors="replace")[-3000:]
    return run


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With two workers, all that trains runs on one of them; the other takes the rest by file.

    Two trainings at once would fight for the cores. They come first, since
    they are the longest group.
    """

    def trains(item: pytest.Item) -> bool:
        fixtures: list[str] = getattr(item, "fixturenames", [])
        return "trained_run" in fixtures or item.get_closest_marker("trains") is not None

    for item in items:
        group = "training" if trains(item) else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: not trains(item))
