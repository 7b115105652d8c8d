"""What the tests of runs share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.workspace import Workspace
from tests.support.starter import Starter, starting


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Starter]:
    """Starts runs of small programs; leaves no process of them."""
    with starting(Workspace(tmp_path), Starter) as starter:
        yield starter
