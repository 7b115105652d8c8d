"""The user's own modules that a config imports."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.run import beside, launch, planning
from engine.settings import Settings
from engine.workspace import Workspace


def write(folder: Path, **texts: str) -> None:
    for name, text in texts.items():
        (folder / f"{name}.py").write_text(text)


def test_what_lies_beside_and_is_imported_is_found(tmp_path: Path) -> None:
    write(
        tmp_path,
        config='import torch, plain\nfrom mine import map_fn\nother = "named.map_fn"\n',
        mine="from deep import help\nimport config\n",
        deep="import mine, gone\n",
        plain="def broken(:",
        named="",
        idle="",
    )
    found = {path.stem for path in beside.modules(tmp_path / "config.py")}
    assert found == {"mine", "deep", "plain", "named"}


def test_a_config_that_is_no_python_imports_nothing(tmp_path: Path) -> None:
    write(tmp_path, config="from mine import (")
    assert beside.modules(tmp_path / "config.py") == []


def test_a_run_takes_them_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, config="from mine import map_fn\n", mine="def map_fn(row): ...\n")
    workspace = Workspace(tmp_path)
    monkeypatch.setattr(launch, "_supervise", lambda *_arguments: None)
    plan = planning.plan(tmp_path / "config.py", workspace=workspace, settings=Settings(), gpus=[])
    launch.start(plan, Settings())
    assert (plan.dir / "config" / "mine.py").read_text() == "def map_fn(row): ...\n"
