"""The Config pane: values are edited by keys, and what others do to the file is noticed."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from engine.config.text.source import ConfigSource
from engine.config.text.values import Code
from engine.workspace import Workspace
from tests.support.config_pane import (
    LARGE,
    SMALL,
    STOCK,
    app_on,
    asked,
    at_setting,
    go_to,
    opened,
    pane,
    screen,
    shows,
    type_value,
    typed,
    until,
)
from tests.support.screen import NASTY, screen_lines
from tui.panes.config.raw import RawView


async def test_an_edit_changes_the_value_alone_and_is_undone_to_the_byte(
    workspace: Workspace, config: Path
) -> None:
    app, before = app_on(workspace), config.read_bytes()
    async with app.run_test(size=SMALL, notifications=True) as pilot:
        await opened(pilot, app)
        await type_value(pilot, app, "lr", "5e-4")
        await until(pilot, lambda: shows(app, "Peak learning rate"))
        await pilot.press("enter")
        await until(pilot, lambda: shows(app, " ●  lr ", "5e-4  was 2e-4", "saved", "u undo"))
        assert not pane(app).form.editing
        assert config.read_bytes() == before.replace(b"lr = 2e-4", b"lr = 5e-4", 1) != before
        line = next(line for line in screen_lines(app) if " lr " in line)
        assert line.startswith(" ●  lr ") and "5e-4  was 2e-4" in line
        await pilot.press("u")
        await until(pilot, lambda: config.read_bytes() == before and shows(app, "undone"))
        await until(pilot, lambda: not shows(app, "u undo"))
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
        await type_value(pilot, app, "max_length", "lang [/x]")
        await pilot.press("enter")
        await until(pilot, lambda: shows(app, "text cannot stand here", "lang [/x]"))
        assert pane(app).form.editing
        await pilot.press("escape")
        await until(pilot, lambda: not pane(app).form.editing)
        await until(pilot, lambda: shows(app, "Typed, not taken: lang [/x]"))
        await pilot.press("q")
        await until(pilot, lambda: shows(app, "Leave Tunedeck?", "max_length = lang [/x]"))
        await pilot.press("escape")
        await until(pilot, lambda: app.focused is pane(app).form.fields)
        await pilot.press("enter")
        await until(pilot, lambda: pane(app).form.editing)
        assert pane(app).form.editor.value == "lang [/x]"
        assert config.read_bytes() == before


async def test_an_edit_from_elsewhere_is_noticed_and_not_overwritten(
    workspace: Workspace, config: Path
) -> None:
    app = app_on(workspace)
    async with app.run_test(size=SMALL, notifications=True) as pilot:
        await opened(pilot, app)
        await type_value(pilot, app, "lr", "3e-4")
        theirs = config.read_text(encoding="utf-8").replace("max_epochs = 3", "max_epochs = 7")
        config.write_text(theirs, encoding="utf-8")
        await pilot.press("enter")
        await until(pilot, lambda: "max_epochs" in screen(app) and "7  was 3" in screen(app))
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
        await type_value(pilot, app, "lr", "9e-4")
        await pilot.press("enter")
        await until(pilot, lambda: shows(app, "was changed elsewhere"))
        assert config.read_text(encoding="utf-8") == "lr = 2e-4\nbroken = (\n"
        # Put right there, it is read again here.
        config.write_text("lr = 4e-4\n", encoding="utf-8")
        await until(pilot, lambda: "read again" in screen(app))
        assert pane(app).form.editor.value == "9e-4"
        await until(pilot, lambda: shows(app, "Changed elsewhere to 4e-4", "Enter takes yours"))
        await pilot.press("escape")
        await until(pilot, lambda: not pane(app).form.editing and shows(app, "4e-4"))
        # And when the setting is gone, so is the field that edited it.
        await pilot.press("enter")
        await until(pilot, lambda: pane(app).form.editing)
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


async def test_raw_view_leads_back_to_the_setting_of_its_line(
    workspace: Workspace, config: Path
) -> None:
    nasty = config.read_text(encoding="utf-8").replace("# Model\n", f"# Model {NASTY}\n", 1)
    config.write_text(nasty, encoding="utf-8")
    app = app_on(workspace)
    async with app.run_test(size=SMALL, notifications=True) as pilot:
        await opened(pilot, app)
        await pilot.press("r")
        await asked(pilot, app, RawView)
        cleaned = "[/x] [b] 中文 abc"
        await until(pilot, lambda: shows(app, "pretrained_model_name_or_path = ", cleaned))
        assert "\x1b" not in screen(app)
        await pilot.press("right")
        await until(pilot, lambda: " _name_or_path = " in screen(app))
        await pilot.press("left", "left")
        await until(pilot, lambda: " pretrained_model_name_or_path = " in screen(app))
        lines = nasty.splitlines()
        at = lines.index("max_norm = 1  # grad clip")
        here = next(i for i, line in enumerate(lines) if line.startswith("pretrained_model"))
        await typed(pilot, "j" * (at - here))
        await pilot.press("enter")
        await until(pilot, lambda: at_setting(app) == "max_norm")


async def test_changes_are_those_from_the_catalogues_config(
    workspace: Workspace, config: Path
) -> None:
    app = app_on(workspace)
    async with app.run_test(size=LARGE, notifications=True) as pilot:
        await opened(pilot, app)
        await pilot.press("d")
        long = ("alpaca_en_path", '  "tatsu-lab/alpaca"', "→ ")
        diff = (f"--- {STOCK}", '-alpaca_en_path = "tatsu-lab/alpaca"')
        await until(pilot, lambda: shows(app, *long, *diff))


async def test_sections_stand_beside_the_form_where_there_is_room(
    workspace: Workspace, config: Path
) -> None:
    app = app_on(workspace)
    async with app.run_test(size=LARGE, notifications=True) as pilot:
        await opened(pilot, app)
        assert app.focused is pane(app).form.fields
        await pilot.press("shift+tab", "down", "down", "down", "enter")
        await until(pilot, lambda: shows(app, "Samples that one GPU takes at once"))
        await until(pilot, lambda: app.focused is pane(app).form.fields)
        assert at_setting(app) == "batch_size"


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
        await pilot.press("enter")
        await until(pilot, lambda: pane(app).form.editing)
        await pilot.press("enter")  # nothing typed: nothing written
        await until(pilot, lambda: not pane(app).form.editing)
        assert config.read_text(encoding="utf-8") == text
        await pilot.press("enter")
        await until(pilot, lambda: pane(app).form.editing)
        await pilot.press("left", "!", "enter")
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
        await type_value(pilot, app, "save_steps", "777")
        await pilot.resize_terminal(*LARGE)
        lines = partial(screen_lines, app)
        await until(pilot, lambda: any("save_steps" in one and "777" in one for one in lines()))
        await pilot.press("enter")
        await until(pilot, lambda: ConfigSource.open(config).get("save_steps") == 777)
