"""What the tests on a GPU share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.run import control
from engine.run.listing import list_runs
from engine.workspace import Workspace
from tests.support import gpu_runs


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of 0.4e9 parameters."""
    return gpu_runs.make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A workspace; no run in it goes on afterwards."""
    found = Workspace(tmp_path_factory.mktemp("work"))
    yield found
    for run in list_runs(found):
        if run.state.living:
            control.kill(run)
