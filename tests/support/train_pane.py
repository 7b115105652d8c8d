"""What the Train pane needs in a workspace."""

from __future__ import annotations

from engine.workspace import Workspace


def config(workspace: Workspace, name: str = "assistant.py") -> None:
    workspace.configs.mkdir(exist_ok=True)
    (workspace.configs / name).write_text("lr = 1e-4\n")
    workspace.remember(config=f"configs/{name}")
