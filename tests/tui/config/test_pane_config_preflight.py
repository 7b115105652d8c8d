"""Preflight in the Config pane: what it finds is said, put right and led to."""

from __future__ import annotations

import json
from pathlib import Path

from engine.config.text.source import ConfigSource
from engine.config.text.values import Code
from engine.workspace import Workspace
from tests.support.config_pane import (
    LARGE,
    ROWS,
    SMALL,
    app_on,
    at_setting,
    opened,
    pane,
    screen,
    shows,
    type_value,
    until,
)
from tests.support.screen import screen_lines


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
        await until(pilot, lambda: shows(app, "✗ 2 errors", "/nowhere/模型[/x]"))
        await until(pilot, lambda: shows(app, "▸ Tab  to the findings"))
        assert any(line.startswith(" ●✗ pretrained_model") for line in screen_lines(app))
        assert "Traceback" not in screen(app)
        # On the findings, Enter leads to the setting that one is about.
        await pilot.press("tab")
        await until(pilot, lambda: pane(app).verdict.finding is not None)
        verdict, wanted = pane(app).verdict, "pretrained_model_name_or_path"
        while (finding := verdict.finding) is not None and not finding.field.endswith(wanted):
            await pilot.press("down")
            await until(pilot, lambda now=finding: verdict.finding is not now)
        await until(pilot, lambda: shows(app, "▸ Enter  to the setting"))
        await pilot.press("enter")
        await until(pilot, lambda: app.focused is pane(app).form.fields)
        assert at_setting(app) == wanted


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
        await until(pilot, lambda: shows(app, "Enter: warmup_ratio = ", "▸ Enter  put this right"))
        await pilot.press("enter")
        await until(pilot, lambda: "✓ this config will run" in screen(app))
        assert ConfigSource.open(config).get("warmup_ratio") > 0.05
        await pilot.press("shift+tab")
        await until(pilot, lambda: shows(app, "▸ t  train with this"))
        # Another edit makes the verdict one about an older text, and it says so.
        await type_value(pilot, app, "lr", "1e-4")
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
