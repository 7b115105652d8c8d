"""What the tests of the Config pane begin with."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.workspace import Workspace
from tests.support.config_pane import config_of, workspace_in


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return workspace_in(tmp_path)


@pytest.fixture
def config(workspace: Workspace) -> Path:
    return config_of(workspace)
