"""What the tests of the Data pane begin with."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.workspace import Workspace
from tests.support.data_pane import made


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A workspace with a dataset of 30 rows, which nobody has opened."""
    return made(tmp_path)
