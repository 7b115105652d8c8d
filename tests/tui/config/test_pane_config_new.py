"""Where a config in the Config pane comes from: the catalogue, a file, the dataset that is open."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from engine.config.text.source import ConfigSource
from engine.workspace import Workspace
from tests.support.config_pane import (
    LARGE,
    ROWS,
    SMALL,
    STOCK,
    accept,
    app_on,
    asked,
    opened,
    pane,
    screen,
    shows,
    type_over,
    typed,
    until,
)
from tests.support.screen import screen_lines
from tui.dialogs.ask import Ask
from tui.dialogs.choose import Choose
from tui.panes.config.choosing import ChooseConfig
from tui.panes.config.form import Form


async def test_an_empty_workspace_says_what_to_do(tmp_path: Path) -> None:
    found = Workspace(tmp_path)
    found.remember(tab="config")
    app = app_on(found)
    async with app.run_test(size=SMALL, notifications=True) as pilot:
        begin = ("▸ n  new config from the catalogue", "No dataset is open (F2)")
        await until(pilot, lambda: shows(app, *begin))
        below = screen_lines(app)[1:]  # the first line tells what the machine does
        await pilot.press("u", "d", "p", "t", "r", "E", "a")  # nothing to act on: nothing happens
        assert screen_lines(app)[1:] == below


async def test_new_copies_from_the_catalogue_and_points_at_the_open_dataset(
    workspace: Workspace,
) -> None:
    app = app_on(workspace)
    async with app.run_test(size=SMALL, notifications=True) as pilot:
        await until(pilot, lambda: shows(app, "data/小助手.json"))
        await pilot.press("n")
        await asked(pilot, app, ChooseConfig)
        await typed(pilot, STOCK)
        await pilot.press("enter")
        proposed = ("configs/小助手.py", "internlm/internlm2-chat-1_8b")
        await asked(pilot, app, Ask)
        await until(pilot, lambda: shows(app, *proposed))
        await accept(pilot, app)
        await opened(pilot, app)
        written = workspace.configs / "小助手.py"
        assert str(workspace.last().data) in written.read_text(encoding="utf-8")
        await until(pilot, lambda: workspace.last().config == str(written))
        await until(pilot, lambda: shows(app, f"from {STOCK}", "▸ p  preflight"))


async def test_new_refuses_a_name_that_is_taken_and_keeps_what_was_typed(
    workspace: Workspace, config: Path
) -> None:
    app, before = app_on(workspace), config.read_bytes()
    async with app.run_test(size=SMALL, notifications=True) as pilot:
        await opened(pilot, app)
        await pilot.press("n")
        await asked(pilot, app, ChooseConfig)
        await typed(pilot, STOCK)
        await pilot.press("enter")
        await asked(pilot, app, Ask)
        await type_over(pilot, "configs/助手")
        await accept(pilot, app)
        await until(pilot, lambda: shows(app, "exists already"))
        assert isinstance(app.screen, Ask)
        assert config.read_bytes() == before


async def test_the_model_in_the_workspace_is_proposed(
    workspace: Workspace, tiny_model: Path
) -> None:
    workspace.models.mkdir()
    (workspace.models / "小模型").symlink_to(tiny_model)
    (workspace.models / "adapter").mkdir()
    app = app_on(workspace)
    async with app.run_test(size=SMALL, notifications=True) as pilot:
        await pilot.press("n")
        await asked(pilot, app, ChooseConfig)
        await typed(pilot, STOCK)
        await pilot.press("enter")
        await asked(pilot, app, Ask)
        await until(pilot, lambda: shows(app, "models/小模型"))
        await accept(pilot, app)
        config = (await opened(pilot, app)).config
        assert config is not None
        source = ConfigSource.open(config.path)
        assert source.get("pretrained_model_name_or_path") == str(tiny_model.resolve())


async def test_the_catalogue_is_narrowed_and_looked_at(workspace: Workspace) -> None:
    app = app_on(workspace)
    async with app.run_test(size=LARGE, notifications=True) as pilot:
        await pilot.press("n")
        await asked(pilot, app, ChooseConfig)
        await until(pilot, lambda: shows(app, "Method", "qlora 4", "About: "))
        await pilot.press(*"qwen2")
        await until(pilot, lambda: shows(app, "qwen2_5_7b_instruct_full", "qlora 1", "(4 of 59"))
        await pilot.press("tab", "enter")  # the first method: LoRA
        await until(pilot, lambda: shows(app, "● lora 2", "(2 of 59", "Trains: LoRA"))
        assert "instruct_full" not in screen(app)
        await pilot.press("enter")
        await until(pilot, lambda: shows(app, "(4 of 59", "instruct_full"))
        await pilot.press("shift+tab", *" nosuchthing")
        await until(pilot, lambda: shows(app, "Nothing fits", "(0 of 59"))
        await pilot.press("enter", "escape")
        await until(pilot, lambda: not isinstance(app.screen, ChooseConfig))


@pytest.mark.parametrize("kind", ["missing", "folder", "binary", "broken"])
async def test_a_config_that_cannot_be_read_is_a_message(workspace: Workspace, kind: str) -> None:
    path = workspace.root / "坏.py"
    if kind == "folder":
        path.mkdir()
    elif kind == "binary":
        path.write_bytes(b"\xff\xfe\x00lr")
    elif kind == "broken":
        path.write_text("lr = (\n", encoding="utf-8")
    workspace.remember(config=str(path))
    app = app_on(workspace)
    async with app.run_test(size=SMALL, notifications=True) as pilot:
        await until(pilot, lambda: shows(app, "█", "坏.py", "n  new config"))
        assert "Traceback" not in screen(app)


async def test_the_dataset_that_is_open_is_taken_on_a_key(
    workspace: Workspace, config: Path
) -> None:
    other = workspace.data / "另一个.json"
    other.write_text(json.dumps(ROWS), encoding="utf-8")
    workspace.remember(data=str(other))
    app = app_on(workspace)
    async with app.run_test(size=SMALL, notifications=True) as pilot:
        await opened(pilot, app)
        await until(pilot, lambda: shows(app, "▸ a  train on 另一个.json"))
        await pilot.press("a")
        await until(pilot, lambda: "▸ p  preflight" in screen(app))
        assert str(other.resolve()) in config.read_text(encoding="utf-8")


async def test_a_copy_for_columns_of_ones_own_says_what_was_guessed(workspace: Workspace) -> None:
    data = workspace.data / "问答.json"
    rows = [{"question": f"你是谁{number}?", "answer": "我是尖米"} for number in range(8)]
    data.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    workspace.remember(data=str(data))
    app = app_on(workspace)
    async with app.run_test(size=LARGE, notifications=True) as pilot:
        await pilot.press("n")
        await asked(pilot, app, ChooseConfig)
        await typed(pilot, STOCK)
        await pilot.press("enter")
        await asked(pilot, app, Ask)
        await accept(pilot, app)
        module, guess = "Saved configs/问答_map.py", "Column question is the question"
        await until(pilot, lambda: shows(app, f"from {STOCK}", module, guess))
        assert (workspace.configs / "问答_map.py").is_file()


async def test_the_shape_that_was_chosen_goes_with_the_dataset(
    workspace: Workspace, config: Path
) -> None:
    other = workspace.data / "另一个.json"
    other.write_text(json.dumps([{"问": "你是谁?", "答": "我是尖米"}]), encoding="utf-8")
    module = workspace.data / "我的.py"
    text = (
        "def map_fn(row):\n"
        '    return {"conversation": [{"input": row["问"], "output": row["答"]}]}\n'
    )
    module.write_text(text, encoding="utf-8")
    workspace.remember(data=str(other), shape=str(module))
    app = app_on(workspace)
    async with app.run_test(size=SMALL, notifications=True) as pilot:
        await opened(pilot, app)
        await pilot.press("a")
        await until(pilot, lambda: "▸ p  preflight" in screen(app))
        assert str(other.resolve()) in config.read_text(encoding="utf-8")
        assert (config.parent / "助手_map.py").read_text(encoding="utf-8") == text


async def test_opening_another_config_by_its_path(workspace: Workspace, config: Path) -> None:
    other = workspace.root / "外面.py"
    other.write_text("lr = 1e-5\n", encoding="utf-8")
    os.utime(other, (1, 1))
    app = app_on(workspace)
    async with app.run_test(size=SMALL, notifications=True) as pilot:
        await opened(pilot, app)
        await pilot.press("o")
        await asked(pilot, app, Choose)
        await until(pilot, lambda: shows(app, "外面.py"))
        lines = screen(app)
        assert lines.index("configs/助手.py") < lines.index("外面.py")
        await pilot.press(*"外面", "enter")
        await until(pilot, lambda: workspace.last().config == str(other) and shows(app, "1e-5"))
        assert isinstance(pane(app).form, Form)
