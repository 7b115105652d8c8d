"""The launch dialog: what it shows and says, the GPUs, the check, settings for one run."""

from __future__ import annotations

import threading

import pytest

from engine.config.checks.findings import Finding
from engine.config.memory.estimate import Estimate
from engine.config.preflight import Report
from engine.config.text.source import ConfigSource
from engine.joined import before_start, effective_batch
from engine.joined.effective_batch import Batch
from engine.machine.gpu import Gpu
from engine.run import control, launch, planning, state
from engine.run.folder import RunFolder
from engine.run.state import Expected
from engine.workspace import Workspace
from tests.support.driver import opened
from tests.support.nvml import GB, Card, Nvml, Process
from tests.support.run_files import write_run
from tests.support.train_pane import CONFIG, change
from tui.dialogs.reading import Reading
from tui.panes.train.asked import remembered
from tui.panes.train.gpu_list import GpuList
from tui.panes.train.launch_words import memory_line
from tui.panes.train.node_lines import folded


async def test_a_launch_keeps_the_memory_that_its_check_told(
    workspace: Workspace, two_gpus: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    estimate = Estimate(17_900_000_000, {}, allocated_bytes=15_000_000_000)
    report = Report(True, [], estimate, None, None, None)
    monkeypatch.setattr(before_start, "preflight", lambda *_config, **_asked: report)
    monkeypatch.setattr(launch, "begin", lambda plan, settings, attempt: RunFolder(plan.dir))
    async with opened(workspace) as screen:
        await screen.press("l")
        await screen.shows("needs ≈ 17.9 GB on each GPU")
        await screen.press("enter")
        await screen.hides("Launch a run")
    record = state.read_record(workspace.runs / "assistant-01")
    assert record is not None and record.expected == Expected(17_900_000_000, 15_000_000_000)


async def test_the_keys_of_the_gpus_are_told_where_they_work(
    workspace: Workspace, two_gpus: None
) -> None:
    async with opened(workspace) as screen:
        await screen.press("l")
        text = await screen.shows("[1] GPU0", "engine.train.entry", "^O config")
        (gpus,) = (line for line in text.splitlines() if "GPU0  " in line)
        (stages,) = (line for line in text.splitlines() if "ZeRO stage" in line)
        assert gpus.index("[") == stages.index("[")
        chosen = screen.app.screen.query_one(GpuList)
        assert chosen.highlighted is None and "Space" not in text
        await screen.press("tab")
        text = await screen.shows("Space use  a all", "Esc back")
        assert len([line for line in text.splitlines() if "a all" in line and "Esc" in line]) == 1
        assert chosen.highlighted == 0
        await screen.press("down", "space", "tab")
        await screen.shows("[2] GPU1", "^O config")
        await screen.press("shift+tab", "space")  # the cursor is where it was
        await screen.shows("[ ] GPU1")


@pytest.mark.parametrize("size", [(60, 12), (60, 15), (80, 24), (140, 45)])
async def test_a_launch_says_verdict_and_keys_on_any_screen(
    workspace: Workspace, two_gpus: None, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    found = [Finding("warning", "a", "A path " + "that is long " * 20)]
    report = Report(True, found, None, 120, 90, None)
    monkeypatch.setattr(before_start, "preflight", lambda *_config, **_asked: report)
    async with opened(workspace, size) as screen:
        await screen.press("l")
        await screen.shows("Launch a run", "nothing stands in its way", "Esc back", "╰")
        await screen.press("tab", "tab", "tab", "tab", "right")
        await screen.shows("several, by hand", "nothing stands in its way", "Esc back", "╰")
        await screen.pilot.resize_terminal(80, 24)
        await screen.shows("several, by hand", "nothing stands in its way", "Esc back", "$ ", "╰")


async def test_what_starts_meanwhile_waits_for_what_lies_over_its_dialog(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked, started, begun = threading.Event(), threading.Event(), []
    report = Report(True, [], None, None, None, None)

    def preflight(*_config: object, **_asked: object) -> Report:
        looked.wait(30)
        return report

    def start(plan: planning.LaunchPlan, *_settings: object) -> RunFolder:
        begun.append(plan.name)
        started.wait(30)
        return RunFolder(write_run(workspace, plan.name, "training", step=1))

    monkeypatch.setattr(before_start, "preflight", preflight)
    monkeypatch.setattr(launch, "start", start)
    async with opened(workspace) as screen:
        await screen.press("l")
        await screen.shows("engine.train.entry", "looking at config and data")
        await screen.press("enter")
        await screen.shows("Starts as soon as the check is through.")
        await screen.press("ctrl+l")
        await screen.shows("The command", "Esc  close")
        dialog = screen.app.screen_stack[1]
        looked.set()
        await screen.until(lambda _: "nothing stands" in str(dialog.query_one("#check").render()))
        assert not begun and isinstance(screen.app.screen, Reading)
        await screen.press("escape")
        await screen.until(lambda _: begun == ["assistant-01"])
        await screen.press("ctrl+l")
        await screen.shows("The command", "Esc  close")
        started.set()
        own = [one for one in dialog.workers if one.node is dialog]
        await screen.until(lambda _: all(worker.is_finished for worker in own))
        assert isinstance(screen.app.screen, Reading)
        await screen.press("escape")
        await screen.hides("Launch a run")
        await screen.shows("assistant-01  training")


async def test_what_the_check_found_can_be_read_in_full(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [
        Finding("info", "told", "Something to know"),
        Finding("warning", "a", "A path that is long", "Why " * 60, "Do this."),
        Finding("error", "b", "It will not run", "Because.", "Do that."),
    ]
    report = Report(False, found, None, None, None, None)
    monkeypatch.setattr(before_start, "preflight", lambda *_config, **_asked: report)
    async with opened(workspace) as screen:
        await screen.press("l")
        text = await screen.shows("✗ 1 error", "! 1 warning", "^R findings")
        assert "Do that." not in text
        await screen.press("ctrl+r")
        text = await screen.shows("Preflight", "Because.", "Do that.", "Do this.", "to know")
        assert text.index("It will not run") < text.index("A path that is long")
        await screen.press("escape")
        await screen.shows("Launch a run")


async def test_the_effective_batch_is_kept_on_a_key(workspace: Workspace, two_gpus: None) -> None:
    async with opened(workspace, (140, 45)) as screen:
        await screen.press("l")
        await screen.shows("1 GPU × batch 2 × accumulation 16 = 32")
        await screen.press("f1")
        text = await screen.shows("In this dialog", "choose a config")
        assert "keep the effective batch" not in text, "there is nothing to keep"
        await screen.press("f1", "tab", "a")  # all GPUs
        await screen.shows("2 GPUs × batch 2 × accumulation 16 = 64, before it was 32.", "^G")
        await screen.press("f1")
        await screen.shows("keep the effective batch")
        await screen.press("f1")
        await screen.shows("Launch a run", "^G")
        await screen.press("ctrl+g")
        await screen.shows(
            "2 GPUs × batch 2 × accumulation 8 = 32, as before with 32 on one",
            "accumulative_counts 16 → 8",
        )
    assert (workspace.configs / "assistant.py").read_text() == CONFIG, "the file stays as it is"


@pytest.mark.parametrize("size", [(80, 24), (140, 45)])
async def test_some_of_eight_gpus_in_an_order_of_ones_own(
    workspace: Workspace, nvml: Nvml, size: tuple[int, int]
) -> None:
    others = [Process(1, 69 * GB)]
    nvml.set(*(Card(used=70 * GB, processes=others) if n == 4 else Card() for n in range(8)))
    async with opened(workspace, size) as screen:
        await screen.press("l")
        await screen.shows("[1] GPU0")
        await screen.press("tab", "space")  # not the one that was proposed
        await screen.press("end", "space", "up", "up", "up", "space")
        await screen.shows(
            "[1] GPU7", "[2] GPU4  10.0 GB free", "CUDA_VISIBLE_DEVICES=7,4", "one a GPU: 2"
        )
        await screen.press("home", "space")
        await screen.shows(
            "[3] GPU0",
            "CUDA_VISIBLE_DEVICES=7,4,0",
            "3 GPUs × batch 2 × accumulation 16 = 96, before it was 32.",
        )


async def test_a_gpu_without_a_process_is_told(workspace: Workspace, two_gpus: None) -> None:
    async with opened(workspace, (140, 45)) as screen:
        await screen.press("l")
        await screen.shows("[1] GPU0")
        await screen.press("tab", "a", "tab", "tab", "1")
        await screen.shows("processes    1", "GPUs: 2, processes: 1")


async def test_the_line_of_each_node_is_shown_and_copied(
    workspace: Workspace, two_gpus: None
) -> None:
    async with opened(workspace, (140, 45)) as screen:
        await screen.press("l")
        await screen.shows("several, by hand")
        await screen.press("tab", "tab", "tab", "tab", "right")
        await screen.shows("[several, by hand]", "nodes        2", "--nnodes 2")
        await screen.press("ctrl+l")
        await screen.shows("node 1", "node 2", "--node-rank 0", "--node-rank 1")
        await screen.press("2")
        await screen.shows("The line of node 2 is copied.")
        assert "--node-rank 1" in screen.app.clipboard


def test_a_folded_line_is_the_same_to_a_shell() -> None:
    line = "cd '/a b' && A='x  y' python -m x --text 'it'\"'\"'s' " + "word " * 30
    lines = list(folded(line.strip(), 40))
    assert len(lines) > 4 and all(one.endswith(" \\") for one in lines[:-1])
    assert " ".join(one.removesuffix(" \\") for one in lines) == line.strip()


async def test_a_setting_is_changed_for_one_run_and_the_launch_remembered(
    workspace: Workspace,
) -> None:
    async with opened(workspace, (140, 45)) as screen:
        await screen.press("l")
        await screen.shows("engine.train.entry")
        await screen.press("ctrl+s")
        await screen.shows("Settings for this run", "max_epochs")
        await change(screen, "max_epochs", "5")
        await screen.press("escape")
        await screen.shows("max_epochs 3 → 5")
        await screen.until(lambda text: "preflight:" not in text)
        await screen.press("enter", "enter")
        await screen.until(lambda text: "assistant-01" in text and "Launch a run" not in text)
        run = RunFolder(workspace.runs / "assistant-01")
        if run.state.living:
            control.kill(run)
    record = run.record
    assert record is not None and record.source == str(workspace.configs / "assistant.py")
    assert run.config is not None and "max_epochs = 5" in run.config.read_text()
    assert record.source_hash and record.source_hash != record.config_hash
    assert remembered(workspace).launcher == "local" and remembered(workspace).text == ""


def test_memory_is_told_against_each_gpu_chosen() -> None:
    cards = [
        Gpu(index, "H100", used, 80_000_000_000, 0, 30, 70.0, [])
        for index, used in enumerate((0, 70_000_000_000))
    ]
    said = memory_line(14_000_000_000, cards)
    assert "needs ≈ 14.0 GB on each GPU   ! GPU1 has 10.0 GB free of 80.0 GB" in said.plain
    assert said.plain.endswith("✓ GPU0 has 80.0 GB free of 80.0 GB")


def test_accumulation_makes_up_for_processes() -> None:
    one = Batch(2, 16, 1)
    assert Batch(2, 16, 4).like(one).accumulation == 4
    assert Batch(2, 16, 3).like(one).effective == 30  # the nearest there is
    assert Batch(64, 1, 2).like(one).accumulation == 1  # cannot be kept
    shared = ConfigSource(
        "sequence_parallel_size = 2\nb = 1\n"
        + CONFIG.replace("lr = 2e-4", "accumulative_counts *= sequence_parallel_size\nlr = 2e-4")
    )
    before = effective_batch.read(shared, 2)
    assert before == Batch(2, 32, 2, 2) and before.effective == 64
    effective_batch.accumulate(shared, 8)
    assert "accumulative_counts = 4\n" in shared.text
    assert effective_batch.read(ConfigSource("x = 1\n"), 1) is None
