"""The Train pane under test: what it needs in a workspace, and a setting that is changed there."""

from __future__ import annotations

from pathlib import Path

from engine import files
from engine.workspace import Workspace
from tests.support.driver import Driver

CONFIG = """\
batch_size = 2
accumulative_counts = 16
lr = 2e-4
max_epochs = 3
train_dataloader = dict(batch_size=batch_size)
optim_wrapper = dict(accumulative_counts=accumulative_counts, optimizer=dict(lr=lr))
train_cfg = dict(max_epochs=max_epochs)
"""


def config(workspace: Workspace, name: str = "assistant.py") -> None:
    workspace.configs.mkdir(exist_ok=True)
    (workspace.configs / name).write_text("lr = 1e-4\n")
    workspace.remember(config=f"configs/{name}")


def frozen(workspace: Workspace, run: Path) -> None:
    """A run of `write_run` gets the config that it froze."""
    files.private_folder(run / "config")
    (run / "config" / "assistant.py").write_text(CONFIG)


async def change(screen: Driver, name: str, value: str) -> None:
    """Change a setting in the form."""
    from tui.panes.config.form import Form

    form = screen.app.screen.query_one(Form)
    await screen.until(lambda _text: form.fields.go_to(name))
    await screen.press("enter", "ctrl+u", *value, "enter")
    await screen.until(lambda _text: not form.editing)
