"""What a person names as a model: checkpoints become adapters on their base."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from engine.errors import Problem
from engine.joined.candidates import adapted, candidates, named, ready
from engine.run.folder import RunFolder
from engine.workspace import Workspace

pytestmark = pytest.mark.trains


@pytest.fixture
def workspace(tmp_path: Path, trained_run: RunFolder) -> Workspace:
    """A workspace with a copy of the run."""
    made = Workspace(tmp_path)
    shutil.copytree(trained_run.path, made.runs / trained_run.name)
    return made


def test_a_checkpoint_is_converted_onto_its_own_base_or_the_one_that_is_named(
    workspace: Workspace, trained_run: RunFolder, tiny_model: Path
) -> None:
    checkpoint = workspace.runs / trained_run.name / "iter_12.pth"
    listed = [one for one in candidates(workspace) if one.checkpoint is not None]
    assert listed[0].title == f"{trained_run.name} · iter_12"
    found = named(workspace.relative(checkpoint), workspace)
    assert found.spec == listed[0].spec and found.checkpoint == checkpoint
    other = workspace.models / "other"
    shutil.copytree(tiny_model, other)
    moved = adapted("models/other", workspace.relative(checkpoint), workspace)
    assert moved.spec.model == str(other)
    adapter = Path(ready(moved).adapter or "")
    assert (adapter / "adapter_config.json").is_file()
    again = named(str(adapter), workspace)
    assert again.spec.adapter == str(adapter), "the adapter names its base itself"


def test_what_a_server_cannot_do_is_said(workspace: Workspace) -> None:
    with pytest.raises(Problem, match="cannot be given an adapter"):
        adapted("http://127.0.0.1:9/v1", "x", workspace)
