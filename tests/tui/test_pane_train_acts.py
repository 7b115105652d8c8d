"""What becomes of runs in the Train pane: launched with changes, queued, resumed, noted, thrown."""

from __future__ import annotations

import os
import re
import threading
import time
from pathlib import Path

import msgspec
import pytest
from textual.widgets import Static

from engine import files
from engine.config.checks.findings import Finding
from engine.config.memory.estimate import Estimate
from engine.config.preflight import Report
from engine.config.text.source import ConfigSource
from engine.joined import before_start, effective_batch
from engine.joined.effective_batch import Batch
from engine.machine.gpu import Gpu
from engine.run import control, history, launch, notes, planning, state
from engine.run.folder import RunFolder
from engine.run.processes import Identity
from engine.run.state import Expected, Order, RunState, Wait
from engine.workspace import Workspace
from tests.support.driver import Driver, opened
from tests.support.nvml import GB, Card, Nvml, Process
from tests.support.run_files import write_run
from tests.support.train_pane import config
from tui.dialogs.reading import Reading
from tui.panes.train.asked import remembered
from tui.panes.train.gpu_list import GpuList
from tui.panes.train.launch_words import memory_line
from tui.panes.train.node_lines import folded

CONFIG = """\
batch_size = 2
accumulative_counts = 16
lr = 2e-4
max_epochs = 3
train_dataloader = dict(batch_size=batch_size)
optim_wrapper = dict(accumulative_counts=accumulative_counts, optimizer=dict(lr=lr))
train_cfg = dict(max_epochs=max_epochs)
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path)
    made.remember(tab="train")
    config(made)
    (made.configs / "assistant.py").write_text(CONFIG)
    return made


@pytest.fixture
def two_gpus(nvml: Nvml) -> None:
    nvml.set(Card(), Card())


def frozen(workspace: Workspace, run: Path) -> None:
    """A run of `write_run` gets the config that it froze."""
    files.private_folder(run / "config")
    (run / "config" / "assistant.py").write_text(CONFIG)


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


@pytest.mark.parametrize("size", [(60, 15), (80, 24), (140, 45)])
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
        await screen.press("tab", "a")  # all GPUs
        await screen.shows("2 GPUs × batch 2 × accumulation 16 = 64, before it was 32.", "^G")
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


async def test_the_line_of_each_node_is_had_again_while_the_run_waits_for_them(
    workspace: Workspace,
) -> None:
    write_run(workspace, "other", "finished", step=5, created=time.time() - 9)
    run = write_run(workspace, "far", "starting")
    record = state.read_record(run)
    assert record is not None
    command = ["python", "-m", "torchrun", "--nnodes", "2", "--node-rank", "0", "x.py"]
    by_hand = msgspec.structs.replace(record, launcher="nodes", nodes=2, command=command)
    files.write_json(run / state.RECORD, by_hand)
    async with opened(workspace) as screen:
        await screen.shows("far  starting")
        await screen.press("j", "k")
        await screen.shows("Enter  the line of each node", "S  stop it")
        for keys in (("enter",), ("h", *"each", "enter")):
            await screen.press(*keys)
            await screen.shows("node 2", "--node-rank 1 x.py", "copies a node's line")
            await screen.press("escape")
            await screen.hides("node 2")


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


async def change(screen: Driver, name: str, value: str) -> None:
    """Change a setting in the form."""
    from tui.panes.config.form import Form

    form = screen.app.screen.query_one(Form)
    await screen.until(lambda _text: form.fields.go_to(name))
    await screen.press("enter", "ctrl+u", *value, "enter")
    await screen.until(lambda _text: not form.editing)


async def test_resume_chooses_a_checkpoint_and_tells_the_differences(workspace: Workspace) -> None:
    run = write_run(workspace, "assistant-01", "stopped", step=60, saved=(20, 40))
    frozen(workspace, run)
    (run / "iter_60.pth").write_bytes(b"PK half of it")
    async with opened(workspace) as screen:
        await screen.shows("stopped 60/100")
        await screen.press("R")
        await screen.shows("half written: cannot be used", "after step 40", "20 steps are trained")
        await screen.press("down")
        await screen.shows("after step 20 of 100", "iter_40.pth", "Enter go on")
        await screen.press("e")
        await screen.shows("Settings for this run", "max_epochs")
        await change(screen, "lr", "1e-4")
        await screen.press("escape")
        await screen.shows("! ", "2e-4 → 1e-4", "From the next step on")
        await screen.press("escape")
        await screen.hides("Go on with")
    assert RunFolder(run).state.state == "stopped"


async def test_all_that_differs_can_be_read_on_a_small_screen(workspace: Workspace) -> None:
    frozen(workspace, write_run(workspace, "assistant-01", "stopped", step=60, saved=(40,)))
    async with opened(workspace, (60, 15)) as screen:
        await screen.shows("stopped 60/100")
        await screen.press("R")
        await screen.shows("after step 40 of 100", "Esc back", "╰")
        resume = screen.app.screen
        note = "\n· ".join(["", *(f"note {at}" for at in range(20))])
        resume.query_one("#differences", Static).update(note)
        await screen.pilot.resize_terminal(62, 16)
        text = await screen.shows("PgDn more", "note 0")
        assert "note 19" not in text
        await screen.press(*["pagedown"] * 9)
        await screen.shows("note 19", "Esc back")


@pytest.mark.parametrize("size", [(60, 15), (80, 24), (140, 45)])
async def test_a_resume_without_differences_shows_its_keys(
    workspace: Workspace, size: tuple[int, int]
) -> None:
    frozen(workspace, write_run(workspace, "assistant-01", "stopped", step=40, saved=(40,)))
    async with opened(workspace, size) as screen:
        await screen.shows("stopped 40/100")
        await screen.press("R")
        await screen.shows("Nothing differs from how it was.", "Enter go on", "Esc back", "╰")


async def test_resume_from_the_last_step_offers_no_enter(workspace: Workspace) -> None:
    frozen(workspace, write_run(workspace, "assistant-01", "finished", step=100, saved=(40, 100)))
    async with opened(workspace) as screen:
        await screen.shows("finished 100/100")
        await screen.press("R")
        await screen.shows("after step 100 of 100", "e change settings")
        await screen.until(lambda text: "Enter go on" not in text)
        await screen.press("down")
        await screen.shows("after step 40 of 100", "Enter go on")


def in_order(text: str, *names: str) -> bool:
    """Whether the list of runs has `names` below one another, the first at the top."""
    listed = [line.split()[1] for line in text.splitlines() if re.match(r" [⏸◐] ", line)]
    return [name for name in listed if name in names][: len(names)] == list(names)


async def test_the_queue_is_shown_and_moved(workspace: Workspace) -> None:
    now = time.time()
    first = write_run(workspace, "first", "training", step=3, created=now - 30)
    for at, name in enumerate(("second", "third")):
        run = write_run(workspace, name, "queued", created=now - 20 + at)
        wait = Wait(after=str(first), place=float(at))
        order = Order([], {}, [], str(workspace.root), [], wait=wait)
        files.write_json(run / state.ORDER, order)
    async with opened(workspace) as screen:
        await screen.shows("first  training")  # and not one that only waits
        await screen.shows("queue 2/2: after first")
        assert in_order(screen.text(), "second", "third", "first")
        await screen.press("k")
        await screen.shows("^↑ ^↓  move")
        await screen.press("ctrl+up")
        await screen.until(lambda text: in_order(text, "third", "second", "first"))
        await screen.press("ctrl+up")  # it is the first already, and that is said
        told = ["third has place 1 of 2 in the queue."] * 2
        notices = screen.app.notices
        await screen.until(lambda _text: [problem.what for _when, problem in notices] == told)
        await screen.press("enter")
        await screen.shows("It waits: after first.")
    order = msgspec.json.decode((workspace.runs / "third" / state.ORDER).read_bytes(), type=Order)
    assert order.wait is not None and order.wait.place < 0


async def test_of_runs_that_wait_the_next_one_is_told_everywhere(workspace: Workspace) -> None:
    for at, name in enumerate(("second", "first")):
        run = write_run(workspace, name, "queued")
        wait = Wait(free=True, place=float(-at))
        order = Order([], {}, [], str(workspace.root), [], wait=wait)
        files.write_json(run / state.ORDER, order)
    async with opened(workspace) as screen:
        await screen.shows("first  queued")
        await screen.until(lambda text: "⏸ first" in text.splitlines()[-1])


async def test_a_run_in_use_is_not_asked_about_in_vain(workspace: Workspace) -> None:
    run = write_run(workspace, "waits", "queued")
    watched = RunState("queued", changed=time.time(), supervisor=Identity.of(os.getpid()))
    files.write_json(run / state.STATE, watched)
    (run / state.LOG).unlink()
    async with opened(workspace) as screen:
        text = await screen.shows("waits  queued", "log: none yet")
        assert "not there" not in text
        for act in ("trash", "rename"):
            await screen.press("h", *act, "enter")
            await screen.shows("The run waits is in use", "Stop it first")
            assert len(screen.app.screen_stack) == 1
            await screen.press("escape")
            await screen.hides("Stop it first")


async def test_a_list_without_a_run_says_that_all_are_archived(workspace: Workspace) -> None:
    write_run(workspace, "old", "finished", step=5)
    async with opened(workspace) as screen:
        await screen.shows("✓ old  finished")
        await screen.press("h", *"archive", "enter")
        await screen.shows("0/1  ·  all are archived: h shows them")
        await screen.press("h", *"show arch", "enter")
        await screen.shows("1/1  ·  with archived")


async def test_a_run_is_renamed_noted_thrown_and_taken_back(workspace: Workspace) -> None:
    now = time.time()
    run = write_run(workspace, "old", "finished", step=5, created=now)
    write_run(workspace, "other", "finished", step=5, created=now - 10)
    async with opened(workspace) as screen:
        await screen.shows("✓ old  finished")
        await screen.press("h", *"tags", "enter")
        await screen.shows("In a search")
        await screen.press(*"best", "enter")
        await screen.shows("#best")
        assert notes.read(run).tags == ["best"]
        await screen.press("s", *"#best", "enter")
        text = await screen.shows("1/2  ·  search: #best")
        assert "other" not in text and "Esc  all runs" in text
        await screen.press("escape")
        await screen.shows("other")
        await screen.press("h", *"trash", "enter")
        await screen.shows("Put old into the trash?", "checkpoints and all")
        await screen.press("y")
        await screen.shows("✓ other  finished")
        assert [one.name for one in history.trashed(workspace)] == ["old"]
        await screen.press("h", *"take a run back", "enter")
        await screen.shows("Enter takes a run back.", "empty the trash")
        await screen.press("enter")
        await screen.shows("✓ old  finished")
    assert RunFolder(run).state.state == "finished"


async def test_a_run_is_launched_again_with_its_own_config(workspace: Workspace) -> None:
    run = write_run(workspace, "assistant-01", "finished", step=5)
    frozen(workspace, run)
    async with opened(workspace, (140, 45)) as screen:
        await screen.shows("✓ assistant-01  finished")
        await screen.press("h", *"again", "enter")
        await screen.shows("runs/assistant-01/config/assistant.py", "assistant-02")


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


async def test_what_has_ended_is_not_asked_whether_to_kill_it(workspace: Workspace) -> None:
    write_run(workspace, "assistant-01", "finished", step=5)
    async with opened(workspace) as screen:
        await screen.shows("✓ assistant-01  finished")
        await screen.press("K")
        text = await screen.shows("has ended already")
        assert "Kill assistant-01 now?" not in text
