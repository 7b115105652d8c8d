from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from textual.pilot import Pilot

from engine.config.text.source import ConfigSource
from engine.config.text.values import Code
from engine.joined.copying import copy_config
from engine.settings import Settings
from engine.workspace import Workspace
from tests.support.screen import NASTY, screen_lines, wait_until
from tui.app import Tunedeck
from tui.dialogs.ask import Ask
from tui.dialogs.choose import Choose
from tui.panes.config.choosing import ChooseConfig
from tui.panes.config.form import Form
from tui.panes.config.pane import ConfigPane
from tui.panes.config.raw import RawView

SMALL, LARGE = (80, 24), (140, 45)
STOCK = "internlm2_chat_1_8b_qlora_alpaca_e3"
ROWS = [
    {"conversation": [{"input": f"你是谁{number}?", "output": "我是尖米"}]} for number in range(8)
]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A workspace with a dataset that is open, on the config tab."""
    root = tmp_path / "工作"
    root.mkdir()
    found = Workspace(root)
    found.data.mkdir()
    data = found.data / "小助手.json"
    data.write_text(json.dumps(ROWS, ensure_ascii=False), encoding="utf-8")
    found.remember(tab="config", data=str(data))
    return found


@pytest.fixture
def config(workspace: Workspace) -> Path:
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
    await wait_until(pilot, holds, turns=3000)


async def opened(pilot: Pilot[int], app: Tunedeck) -> ConfigPane:
    await until(pilot, lambda: pane(app).config is not None and bool(pane(app).form.field))
    await pilot.pause()
    return pane(app)


async def go_to(pilot: Pilot[int], app: Tunedeck, name: str) -> None:
    """Move with the arrow keys until the cursor is on the setting `name`."""
    await pilot.press("g")
    for _step in range(60):
        field = pane(app).form.field
        if field is not None and field.name == name:
            return
        await pilot.press("down")
    raise AssertionError(f"no key leads to {name}")


async def type_over(pilot: Pilot[int], text: str) -> None:
    await pilot.press("ctrl+u", *text)


async def test_an_empty_workspace_says_what_to_do(tmp_path: Path) -> None:
    found = Workspace(tmp_path)
    found.remember(tab="config")
    app = app_on(found)
    async with app.run_test(size=SMALL, notifications=True) as pilot:
        await pilot.pause()
        text = screen(app)
        assert "n  new config from the catalogue" in text
        assert "No dataset is open (F2)" in text
        assert "▸ n  new config from the catalogue" in text
        await pilot.press("u", "d", "p", "t", "r", "E", "a")  # nothing to act on: nothing happens
        assert screen(app) == text


async def test_new_copies_from_the_catalogue_and_points_at_the_open_dataset(
    workspace: Workspace,
) -> None:
    app = app_on(workspace)
    async with app.run_test(size=SMALL, notifications=True) as pilot:
        await pilot.pause()
        assert "data/小助手.json" in screen(app)
        await pilot.press("n")
        await until(pilot, lambda: isinstance(app.screen, ChooseConfig))
        await pilot.press(*STOCK)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, Ask))
        await pilot.pause()
        text = screen(app)
        assert "configs/小助手.py" in text
        assert "internlm/internlm2-chat-1_8b" in text
        await pilot.press("enter", "enter")
        await opened(pilot, app)
        written = workspace.configs / "小助手.py"
        assert str(workspace.last().data) in written.read_text(encoding="utf-8")
        assert workspace.last().config == str(written)
        text = screen(app)
        assert f"from {STOCK}" in text
        assert "▸ p  preflight" in text


async def test_new_refuses_a_name_that_is_taken_and_keeps_what_was_typed(
    workspace: Workspace, config: Path
) -> None:
    app, before = app_on(workspace), config.read_bytes()
    async with app.run_test(size=SMALL, notifications=True) as pilot:
        await opened(pilot, app)
        await pilot.press("n")
        await until(pilot, lambda: isinstance(app.screen, ChooseConfig))
        await pilot.press(*STOCK, "enter")
        await until(pilot, lambda: isinstance(app.screen, Ask))
        await pilot.pause()
        await type_over(pilot, "configs/助手")
        await pilot.press("enter", "enter")
        await pilot.pause()
        assert isinstance(app.screen, Ask)
        assert "exists already" in screen(app)
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
        await until(pilot, lambda: isinstance(app.screen, ChooseConfig))
        await pilot.press(*STOCK, "enter")
        await until(pilot, lambda: isinstance(app.screen, Ask))
        await pilot.pause()
        assert "models/小模型" in screen(app)
        await pilot.press("tab", "enter")
        await opened(pilot, app)
        source = ConfigSource.open(Path(workspace.last().config))
        assert source.get("pretrained_model_name_or_path") == str(tiny_model.resolve())


async def test_an_edit_changes_the_value_alone_and_is_undone_to_the_byte(
    workspace: Workspace, config: Path
) -> None:
    app, before = app_on(workspace), config.read_bytes()
    async with app.run_test(size=SMALL, notifications=True) as pilot:
        await opened(pilot, app)
        await go_to(pilot, app, "lr")
        assert "Peak learning rate" in screen(app)
        await pilot.press("enter")
        await type_over(pilot, "5e-4")
        await pilot.press("enter")
        await until(pilot, lambda: not pane(app).form.editing)
        assert config.read_bytes() == before.replace(b"lr = 2e-4", b"lr = 5e-4", 1) != before
        line = next(line for line in screen_lines(app) if " lr " in line)
        assert line.startswith("●") and "5e-4  was 2e-4" in line
        assert "saved" in screen(app)
        await pilot.press("u")
        await until(pilot, lambda: config.read_bytes() == before and shows(app, "undone"))
        await pilot.press("ctrl+r")
        await until(pilot, lambda: shows(app, "done again", "5e-4  was 2e-4"))
        await pilot.press("x")
        await until(pilot, lambda: config.read_bytes() == before)
        await pilot.press("i")
        await until(pilot, lambda: shows(app, "Quality: Too high forgets", "Also changes optim_"))


async def test_a_wrong_value_stays_and_says_why(workspace: Workspace, config: Path) -> None:
    app, before = app_on(workspace), config.read_bytes()
    async with app.run_test(size=SMALL, notifications=True) as pilot:
        await opened(pilot, app)
        await go_to(pilot, app, "max_length")
        await pilot.press("enter")
        await type_over(pilot, "lang [/x]")
        await pilot.press("enter")
        await until(pilot, lambda: shows(app, "text cannot stand here", "lang [/x]"))
        assert pane(app).form.editing
        await pilot.press("escape")
        assert not pane(app).form.editing
        assert "Typed, not taken: lang [/x]" in screen(app)
        await pilot.press("enter")
        assert pane(app).form.editor.value == "lang [/x]"
        assert config.read_bytes() == before


async def test_an_edit_from_elsewhere_is_noticed_and_not_overwritten(
    workspace: Workspace, config: Path
) -> None:
    app = app_on(workspace)
    async with app.run_test(size=SMALL, notifications=True) as pilot:
        await opened(pilot, app)
        await go_to(pilot, app, "lr")
        await pilot.press("enter")
        await type_over(pilot, "3e-4")
        theirs = config.read_text(encoding="utf-8").replace("max_epochs = 3", "max_epochs = 7")
        config.write_text(theirs, encoding="utf-8")
        await pilot.press("enter")
        await until(pilot, lambda: "max_epochs" in screen(app) and "7  was 3" in screen(app))
        if pane(app).form.editing:  # refused at first: what was typed is still there
            assert pane(app).form.editor.value == "3e-4"
            assert config.read_text(encoding="utf-8") == theirs
            await pilot.press("enter")
        await until(pilot, lambda: not pane(app).form.editing)
        after = config.read_text(encoding="utf-8")
        assert after == theirs.replace("lr = 2e-4", "lr = 3e-4", 1)


async def test_a_config_broken_elsewhere_is_told_with_its_line_and_left_alone(
    workspace: Workspace, config: Path
) -> None:
    app = app_on(workspace)
    async with app.run_test(size=SMALL, notifications=True) as pilot:
        await opened(pilot, app)
        config.write_text("lr = 2e-4\nbroken = (\n", encoding="utf-8")
        await until(pilot, lambda: shows(app, "is not valid Python", "line "))
        assert "Traceback" not in screen(app)
        await pilot.press("escape")
        await go_to(pilot, app, "lr")
        await pilot.press("enter")
        await type_over(pilot, "9e-4")
        await pilot.press("enter")
        await until(pilot, lambda: shows(app, "was changed elsewhere"))
        assert config.read_text(encoding="utf-8") == "lr = 2e-4\nbroken = (\n"
        # Put right there, it is read again here.
        config.write_text("lr = 4e-4\n", encoding="utf-8")
        await until(pilot, lambda: "read again" in screen(app))
        assert pane(app).form.editor.value == "9e-4"
        await until(pilot, lambda: shows(app, "Changed elsewhere to 4e-4", "Enter takes yours"))
        await pilot.press("escape")
        await until(pilot, lambda: shows(app, "4e-4"))
        # And when the setting is gone, so is the field that edited it.
        await pilot.press("enter")
        config.write_text("max_length = 64\n", encoding="utf-8")
        await until(pilot, lambda: shows(app, "max_length") and not pane(app).form.editing)
        await until(pilot, lambda: app.focused is pane(app).form.fields)


async def test_a_file_deleted_under_the_editor_is_written_again_on_a_key(
    workspace: Workspace, config: Path
) -> None:
    app, before = app_on(workspace), config.read_bytes()
    async with app.run_test(size=SMALL, notifications=True) as pilot:
        await opened(pilot, app)
        config.unlink()
        await until(pilot, lambda: shows(app, "was deleted or moved", "deleted: W writes"))
        await pilot.press("escape", "W")
        await until(pilot, lambda: shows(app, "written again", "from " + STOCK[:12]))
        assert config.read_bytes() == before


async def test_the_catalogue_is_narrowed_and_looked_at(workspace: Workspace) -> None:
    app = app_on(workspace)
    async with app.run_test(size=LARGE, notifications=True) as pilot:
        await pilot.press("n")
        await until(pilot, lambda: isinstance(app.screen, ChooseConfig))
        await until(pilot, lambda: shows(app, "Method", "qlora 4", "About: "))
        await pilot.press(*"qwen2")
        await until(pilot, lambda: shows(app, "qwen2_5_7b_instruct_full", "qlora 1", "(4 of 59"))
        await pilot.press("tab", "down", "enter")  # the first method: LoRA
        await until(pilot, lambda: shows(app, "● lora 2", "(2 of 59", "Trains: LoRA"))
        assert "instruct_full" not in screen(app)
        await pilot.press("enter")
        await until(pilot, lambda: shows(app, "(4 of 59", "instruct_full"))
        await pilot.press("shift+tab", *" nosuchthing")
        await until(pilot, lambda: shows(app, "Nothing fits", "(0 of 59"))
        await pilot.press("enter", "escape")
        await pilot.pause()
        assert not isinstance(app.screen, ChooseConfig)


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
        await until(pilot, lambda: "█" in screen(app))
        text = screen(app)
        assert "坏.py" in text and "Traceback" not in text
        assert "n  new config" in text


async def test_raw_view_leads_back_to_the_setting_of_its_line(
    workspace: Workspace, config: Path
) -> None:
    nasty = config.read_text(encoding="utf-8").replace("# Model\n", f"# Model {NASTY}\n", 1)
    config.write_text(nasty, encoding="utf-8")
    app = app_on(workspace)
    async with app.run_test(size=SMALL, notifications=True) as pilot:
        await opened(pilot, app)
        await pilot.press("r")
        await until(pilot, lambda: isinstance(app.screen, RawView))
        await pilot.pause()
        text = screen(app)
        assert "pretrained_model_name_or_path = " in text
        assert "[/x] [b] 中文 abc" in text and "\x1b" not in text
        lines = nasty.splitlines()
        at = lines.index("max_norm = 1  # grad clip")
        here = next(i for i, line in enumerate(lines) if line.startswith("pretrained_model"))
        await pilot.press(*["j"] * (at - here), "enter")
        await until(pilot, lambda: not isinstance(app.screen, RawView))
        field = pane(app).form.field
        assert field is not None and field.name == "max_norm"


async def test_changes_are_those_from_the_catalogues_config(
    workspace: Workspace, config: Path
) -> None:
    app = app_on(workspace)
    async with app.run_test(size=LARGE, notifications=True) as pilot:
        await opened(pilot, app)
        await pilot.press("d")
        await pilot.pause()
        text = screen(app)
        assert 'alpaca_en_path  "tatsu-lab/alpaca" → ' in text
        assert f"--- {STOCK}" in text and '-alpaca_en_path = "tatsu-lab/alpaca"' in text


async def test_the_dataset_that_is_open_is_taken_on_a_key(
    workspace: Workspace, config: Path
) -> None:
    other = workspace.data / "另一个.json"
    other.write_text(json.dumps(ROWS), encoding="utf-8")
    workspace.remember(data=str(other))
    app = app_on(workspace)
    async with app.run_test(size=SMALL, notifications=True) as pilot:
        await opened(pilot, app)
        assert "▸ a  train on 另一个.json" in screen(app)
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
        await until(pilot, lambda: isinstance(app.screen, ChooseConfig))
        await pilot.press(*STOCK, "enter")
        await until(pilot, lambda: isinstance(app.screen, Ask))
        await pilot.pause()
        await pilot.press("enter", "enter")
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


async def test_sections_stand_beside_the_form_where_there_is_room(
    workspace: Workspace, config: Path
) -> None:
    app = app_on(workspace)
    async with app.run_test(size=LARGE, notifications=True) as pilot:
        await opened(pilot, app)
        assert app.focused is pane(app).form.fields
        await pilot.press("shift+tab", "down", "down", "down", "enter")
        await pilot.pause()
        field = pane(app).form.field
        assert field is not None and field.name == "batch_size"
        assert app.focused is pane(app).form.fields
        assert "Samples that one GPU takes at once" in screen(app)


async def test_an_expression_and_text_of_several_lines_survive_an_edit(
    workspace: Workspace, config: Path
) -> None:
    source = ConfigSource.open(config)
    source.set("SYSTEM", Code('"""第一行\n第二行"""'))
    source.save()
    text = source.text
    app = app_on(workspace)
    async with app.run_test(size=SMALL, notifications=True) as pilot:
        await opened(pilot, app)
        await go_to(pilot, app, "SYSTEM")
        await pilot.press("enter", "enter")  # nothing typed: nothing written
        assert config.read_text(encoding="utf-8") == text
        await pilot.press("enter", "left", "!", "enter")
        await until(pilot, lambda: not pane(app).form.editing)
        assert ConfigSource.open(config).get("SYSTEM") == "第一行\n第二行!"


async def test_train_takes_the_config_along(workspace: Workspace, config: Path) -> None:
    app = app_on(workspace)
    async with app.run_test(size=SMALL, notifications=True) as pilot:
        await opened(pilot, app)
        await pilot.press("t")
        await until(pilot, lambda: app.current == "train")
        assert workspace.last().config == str(config)


async def test_the_value_being_edited_stays_in_its_place_when_the_window_changes(
    workspace: Workspace, config: Path
) -> None:
    app = app_on(workspace)
    async with app.run_test(size=SMALL, notifications=True) as pilot:
        await opened(pilot, app)
        await go_to(pilot, app, "save_steps")
        await pilot.press("enter")
        await type_over(pilot, "777")
        await pilot.resize_terminal(*LARGE)
        await pilot.pause(0.2)
        assert any("save_steps" in line and "777" in line for line in screen_lines(app))
        await pilot.press("enter")
        await until(pilot, lambda: ConfigSource.open(config).get("save_steps") == 777)


async def test_opening_another_config_by_its_path(workspace: Workspace, config: Path) -> None:
    other = workspace.root / "外面.py"
    other.write_text("lr = 1e-5\n", encoding="utf-8")
    os.utime(other, (1, 1))
    app = app_on(workspace)
    async with app.run_test(size=SMALL, notifications=True) as pilot:
        await opened(pilot, app)
        await pilot.press("o")
        await until(pilot, lambda: isinstance(app.screen, Choose))
        await pilot.pause()
        lines = screen(app)
        assert lines.index("configs/助手.py") < lines.index("外面.py")
        await pilot.press(*"外面", "enter")
        await until(pilot, lambda: workspace.last().config == str(other) and shows(app, "1e-5"))
        assert isinstance(pane(app).form, Form)


def on_a_cpu(config: Path, model: Path, rows: int) -> None:
    """Make the stock config one that trains `model` on a CPU, with `rows` rows of data."""
    source = ConfigSource.open(config)
    data = Path(source.get("alpaca_en_path"))
    data.write_text(json.dumps(ROWS[:1] * rows, ensure_ascii=False), encoding="utf-8")
    source.set("pretrained_model_name_or_path", str(model))
    source.unset("model.llm.quantization_config")
    source.ensure_import("mmengine.optim", "OptimWrapper")
    source.set("optim_wrapper.type", Code("OptimWrapper"))
    source.unset("optim_wrapper.dtype")
    source.unset("optim_wrapper.loss_scale")
    source.set("env_cfg.dist_cfg.backend", "gloo")
    source.assign("prompt_template", "PROMPT_TEMPLATE.qwen_chat")
    source.set("pack_to_max_length", False)
    source.save()


async def test_preflight_without_a_model_says_so(workspace: Workspace, config: Path) -> None:
    source = ConfigSource.open(config)
    source.set("pretrained_model_name_or_path", "/nowhere/模型[/x]")
    source.save()
    app = app_on(workspace)
    async with app.run_test(size=SMALL, notifications=True) as pilot:
        await opened(pilot, app)
        await pilot.press("p")
        await until(pilot, lambda: "✗ " in screen(app) and "error" in screen(app))
        await until(pilot, lambda: "preflight is looking" not in screen(app))
        text = screen(app)
        assert "/nowhere/模型[/x]" in text and "Traceback" not in text
        line = next(line for line in screen_lines(app) if "pretrained_model" in line)
        assert line[1] in "✗!"
        assert "t  train with this" not in text
        # On the findings, Enter leads to the setting that one is about.
        await pilot.press("tab")
        for _step in range(8):
            finding = pane(app).verdict.finding
            if finding is not None and finding.field.endswith("pretrained_model_name_or_path"):
                break
            await pilot.press("down")
        assert "▸ Enter  to the setting" in screen(app)
        await pilot.press("enter")
        await pilot.pause()
        assert app.focused is pane(app).form.fields
        assert pane(app).form.field is not None
        assert pane(app).form.field.name == "pretrained_model_name_or_path"


async def test_preflight_puts_the_warmup_right_and_leads_to_training(
    workspace: Workspace, config: Path, tiny_model: Path
) -> None:
    on_a_cpu(config, tiny_model, rows=12)  # 36 steps: 3 % of them is one, and nothing is learned
    app = app_on(workspace)
    async with app.run_test(size=SMALL, notifications=True) as pilot:
        await opened(pilot, app)
        await pilot.press("p")
        await until(pilot, lambda: shows(app, "12 samples → 36 steps", "▸ Tab  to the findings"))
        await pilot.press("tab")
        await pilot.pause()
        assert "Enter: warmup_ratio = " in screen(app)
        assert "▸ Enter  put this right" in screen(app)
        await pilot.press("enter")
        await until(pilot, lambda: "✓ this config will run" in screen(app))
        assert ConfigSource.open(config).get("warmup_ratio") > 0.05
        await pilot.press("shift+tab")
        await pilot.pause()
        assert "▸ t  train with this" in screen(app)
        # Another edit makes the verdict one about an older text, and it says so.
        await go_to(pilot, app, "lr")
        await pilot.press("enter")
        await type_over(pilot, "1e-4")
        await pilot.press("enter")
        await until(pilot, lambda: shows(app, "▸ p  preflight", "before the last edit"))


async def test_a_broken_dataset_is_a_finding(workspace: Workspace, config: Path) -> None:
    Path(workspace.last().data).write_text('[{"conversation": [}]', encoding="utf-8")
    app = app_on(workspace)
    async with app.run_test(size=LARGE, notifications=True) as pilot:
        await opened(pilot, app)
        await pilot.press("p")
        await until(pilot, lambda: shows(app, "error", "小助手.json"))
        assert "Traceback" not in screen(app)
