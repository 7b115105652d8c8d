"""What the tests of the Config pane begin with."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.workspace import Workspace
from tests.support.config_pane import config_of, workspace_in
from tui.panes.config import keeper


@pytest.fixture(autouse=True)
def soon_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """What happens to a file elsewhere is seen sooner than by people: a test waits for it."""
    monkeypatch.setattr(keeper, "LOOK_EVERY", 0.3)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return workspace_in(tmp_path)


@pytest.fixture
def config(workspace: Workspace) -> Path:
    return config_of(workspace)
