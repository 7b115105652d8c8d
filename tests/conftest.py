"""Fixtures that several test modules share. The expensive ones are made once a session."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine.run import control, launch
from engine.run.folder import RunFolder, list_runs
from engine.settings import Settings
from engine.workspace import Workspace
from tests.support import tiny_config

# torch's threads spin when other programs run; two cores are all a test may assume.
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
# Where it is set, each of the processes started here would compile XTuner's libraries anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

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
    with made_once(tmp_path_factory, "tiny-llama") as (folder, missing):
        if missing:
            subprocess.run([sys.executable, ROOT / "tests/support/tiny.py", folder], check=True)
    return folder


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> RunFolder:
    """A finished run of the real XTuner: LoRA on the tiny model, 12 steps, a checkpoint each 4.

    Shared by all tests, so look at it only. It lies in a workspace of its own,
    whose ``configs/assistant.py`` and ``configs/assistant.json`` it was made from.
    """
    with made_once(tmp_path_factory, "trained") as (folder, missing):
        workspace = Workspace(folder)
        if missing:
            workspace.configs.mkdir()
            config = tiny_config.write(workspace.configs, tiny_model)
            plan = launch.plan(config, workspace=workspace, settings=Settings(), gpus=[])
            run = launch.start(plan, Settings())
            if control.wait(run, 300).living:
                control.kill(run)
    [run] = list_runs(workspace)
    assert run.state.state == "finished", run.log.read_text(errors="replace")[-3000:]
    return run


@contextmanager
def made_once(tmp_path_factory: pytest.TempPathFactory, name: str) -> Iterator[tuple[Path, bool]]:
    """A folder that pytest-xdist's workers share, and whether it is still to be filled.

    New in every session. Whoever comes second waits until it has been filled.
    """
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = base / name
    with (base / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        missing = not folder.exists()
        if missing:
            folder.mkdir()
        yield folder, missing


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With two workers, all that trains runs on one of them; the other takes the rest by file.

    Two trainings at once would fight for the cores. They come first, since they
    are the longest group, and what looks at their shared run comes last.

    pytest-xdist 3.8 does not see the groups under pytest 9.2 (whose items have
    no ``_nodeid`` to write them into): until it does, only the order holds.
    """

    def turn(item: pytest.Item) -> int:
        if item.get_closest_marker("trains") is not None:
            return 0
        return 2 if "trained_run" in getattr(item, "fixturenames", ()) else 1

    for item in items:
        group = "training" if turn(item) == 0 else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=turn)
