"""The Config pane under test: what it is opened on, what it shows, where its keys lead."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from textual.pilot import Pilot
from textual.screen import Screen

from engine.joined.copying import copy_config
from engine.settings import Settings
from engine.workspace import Workspace
from tests.support.screen import screen_lines, wait_until
from tui.app import Tunedeck
from tui.panes.config.pane import ConfigPane
from tui.widgets.field import Field

SMALL, LARGE = (80, 24), (140, 45)
STOCK = "internlm2_chat_1_8b_qlora_alpaca_e3"
ROWS = [
    {"conversation": [{"input": f"你是谁{number}?", "output": "我是尖米"}]} for number in range(8)
]


def workspace_in(tmp_path: Path) -> Workspace:
    """A workspace with a dataset that is open, on the config tab."""
    root = tmp_path / "工作"
    root.mkdir()
    found = Workspace(root)
    found.data.mkdir()
    data = found.data / "小助手.json"
    data.write_text(json.dumps(ROWS, ensure_ascii=False), encoding="utf-8")
    found.remember(tab="config", data=str(data))
    return found


def config_of(workspace: Workspace) -> Path:
    """A config copied from the catalogue and open."""
    data = Path(workspace.last().data)
    dest = workspace.configs / "助手.py"
    path = copy_config(STOCK, dest, settings=Settings(), data=data).path
    workspace.remember(config=str(path))
    return path


def app_on(workspace: Workspace) -> Tunedeck:
    return Tunedeck(workspace, Settings())


def screen(app: Tunedeck) -> str:
    return "\n".join(screen_lines(app))


def shows(app: Tunedeck, *texts: str) -> bool:
    """Whether one frame holds them all: what one look found, a later one may not."""
    frame = screen(app)
    return all(text in frame for text in texts)


def pane(app: Tunedeck) -> ConfigPane:
    return app.screen_stack[0].query_one(ConfigPane)


async def until(pilot: Pilot[int], holds: Callable[[], bool]) -> None:
    await wait_until(pilot, holds)


async def opened(pilot: Pilot[int], app: Tunedeck) -> ConfigPane:
    """The pane, once it shows a config and its keys work."""
    await until(pilot, lambda: bool(app.query(ConfigPane)) and bool(pane(app).form.field))
    await until(pilot, lambda: app.focused is pane(app).form.fields)
    return pane(app)


async def asked(pilot: Pilot[int], app: Tunedeck, dialog: type[Screen[Any]]) -> None:
    """Wait until one can type into `dialog`: keys before that go elsewhere."""
    await until(pilot, lambda: isinstance(app.screen, dialog) and app.focused is not None)


async def accept(pilot: Pilot[int], app: Tunedeck) -> None:
    """Enter in each field of the dialog from the one that has the focus on."""
    fields = list(app.screen.query(Field))
    for field in fields[fields.index(app.focused) :]:  # type: ignore[arg-type]
        await until(pilot, lambda now=field: app.focused is now)
        await pilot.press("enter")


def at_setting(app: Tunedeck) -> str:
    """The name of the setting under the cursor."""
    field = pane(app).form.field
    return "" if field is None else field.name


async def go_to(pilot: Pilot[int], app: Tunedeck, name: str) -> None:
    """Put the cursor on the setting `name`."""
    assert pane(app).form.fields.go_to(name), f"there is no {name}"
    await until(pilot, lambda: at_setting(app) == name)


async def typed(pilot: Pilot[int], text: str) -> None:
    """Type `text` where the cursor is; `Pilot.press` would wait for the screen after each key."""
    for character in text:
        pilot.app.simulate_key(character)
    await pilot.pause()


async def type_over(pilot: Pilot[int], text: str) -> None:
    await pilot.press("ctrl+u")
    await typed(pilot, text)


async def type_value(pilot: Pilot[int], app: Tunedeck, name: str, text: str) -> None:
    """Open the setting `name`, and type `text` for what it is; Enter is left to press."""
    await go_to(pilot, app, name)
    await pilot.press("enter")
    await until(pilot, lambda: pane(app).form.editing)  # keys before that go to the table
    await type_over(pilot, text)
