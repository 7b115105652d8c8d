"""What the tests of the Train pane begin with."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.workspace import Workspace
from tests.support.nvml import Card, Nvml
from tests.support.train_pane import CONFIG, config


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path)
    made.remember(tab="train")
    config(made)
    (made.configs / "assistant.py").write_text(CONFIG)
    return made


@pytest.fixture
def two_gpus(nvml: Nvml) -> None:
    nvml.set(Card(), Card())
