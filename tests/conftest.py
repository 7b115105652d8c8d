"""Fixtures that several test modules share. The expensive ones are made once a session."""

from __future__ import annotations

import fcntl
import functools
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.machine import gpu
from engine.run import control, launch, planning
from engine.run.folder import RunFolder
from engine.run.listing import list_runs
from engine.settings import Settings
from engine.workspace import Workspace
from tests.support import nvml as fake_nvml
from tests.support import tiny_config

# torch's threads spin when other programs run; two cores are all a test may assume.
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
# As in the app itself (`tui.__main__`): a list that glides to its end keeps a test for a second.
os.environ["TEXTUAL_ANIMATIONS"] = "none"
# Where it is set, each of the processes started here would compile XTuner's libraries anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def private_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's own settings, caches and locale stay out of the tests."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    # But what the catalogue keeps of XTuner's configs (a second's work) is made once.
    kept = shared(tmp_path_factory) / "catalogue"
    kept.mkdir(exist_ok=True)
    (home / "cache" / "tunedeck").mkdir(parents=True)
    (home / "cache" / "tunedeck" / "catalogue").symlink_to(kept)
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "state"))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(home / "datasets"))
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(home / "extensions"))
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    for name in ("NO_COLOR", "TEXTUAL_THEME", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def nvml(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[fake_nvml.Nvml]:
    """The driver's library, here and in all that the test starts: no GPU until it says so."""
    monkeypatch.setattr(gpu, "_started", False)
    with fake_nvml.standing_in(tmp_path_factory.mktemp("nvml") / "answers.json") as library:
        yield library


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
            plan = planning.plan(config, workspace=workspace, settings=Settings(), gpus=[])
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
    base = shared(tmp_path_factory)
    folder = base / name
    with (base / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        missing = not folder.exists()
        if missing:
            folder.mkdir()
        yield folder, missing


def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The session's folder, which pytest-xdist's workers share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What trains comes first, since it takes longest; what looks at the shared run comes last."""

    def turn(item: pytest.Item) -> int:
        if item.path in marked("trains"):
            return 0
        return 2 if "trained_run" in getattr(item, "fixturenames", ()) else 1

    items.sort(key=turn)


@pytest.hookimpl(optionalhook=True)  # pytest-xdist's
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """All that trains runs on one worker: two trainings at once would fight for the cores.

    The others take the rest, a file at a time, so that what a file makes for its tests is
    made once. A third one, where there is one, begins with the files that mostly wait, and
    the others leave those to it: they would let a core rest.
    """
    from xdist.scheduler import LoadScopeScheduling

    trains, waits = (
        {str(path.relative_to(ROOT)) for path in marked(name)} for name in ("trains", "waits")
    )

    class ByFile(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::", 1)[0]
            return "training" if file in trains else file

        def _assign_work_unit(self, node: Any) -> None:
            begins = node in list(self.nodes)[2:]
            scopes = sorted(self.workqueue, key=lambda one: (one in waits) != begins)
            self.workqueue.move_to_end(scopes[0], last=False)
            super()._assign_work_unit(node)

    return ByFile(config, log)


@functools.cache
def marked(name: str) -> frozenset[Path]:
    """The files with tests that have a mark."""
    files = (ROOT / "tests").rglob("test_*.py")
    return frozenset(file for file in files if f"pytest.mark.{name}" in file.read_text())
