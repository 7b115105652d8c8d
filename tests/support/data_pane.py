"""Workspaces with datasets, and what a test of the data pane asks of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from engine.workspace import Workspace
from tests.support.driver import Driver
from tui.panes.data.pane import DataPane
from tui.panes.data.rows import RowsTable

ROWS: list[dict[str, Any]] = [
    {"conversation": [{"input": f"请介绍一下你自己{n}", "output": "我是尖米的小助手，内在是书生"}]}
    for n in range(30)
]


def made(root: Path) -> Workspace:
    """A workspace with a dataset of 30 rows, which nobody has opened."""
    workspace = Workspace(root)
    workspace.data.mkdir()
    write(workspace, "assistant.json", json.dumps(ROWS, ensure_ascii=False, indent=1))
    return workspace


def write(workspace: Workspace, name: str, text: str) -> Path:
    """A file in the workspace's data."""
    path = workspace.data / name
    path.write_text(text, encoding="utf-8")
    return path


def remember(workspace: Workspace, name: str = "assistant.json") -> Path:
    """Have the app open this file at its start."""
    path = workspace.data / name
    workspace.remember(data=str(path))
    return path


def table(screen: Driver) -> RowsTable:
    """The rows on the screen."""
    return screen.app.screen_stack[0].query_one(DataPane).query_one(RowsTable)


def cursor(screen: Driver) -> int | None:
    """The dataset's number of the row under the cursor."""
    return table(screen).row
