"""The Export pane by keys, on a run of the real XTuner."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from engine.export import job, plan
from engine.run.folder import RunFolder
from engine.settings import Settings
from engine.workspace import Workspace
from tests.export.conftest import load, save
from tests.support.driver import Driver, opened
from tests.support.run_files import write_run
from tui.panes.export.pane import ExportPane

RUN = "assistant-01"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path)
    made.remember(tab="export")
    return made


@pytest.fixture
def with_run(workspace: Workspace, trained_run: RunFolder) -> Path:
    """The trained run in a workspace of its own; returns its folder."""
    folder = workspace.runs / RUN
    shutil.copytree(trained_run.path, folder)
    return folder


def joined(text: str) -> str:
    """`text` without spaces and line breaks: a long path may break the line anywhere."""
    return re.sub(r"[\s█]", "", text)


def found_rows(merged: Path) -> int:
    note = merged.with_name(merged.name + ".verified.json")
    return len(json.loads(note.read_text())["prompts"])


def busy(screen: Driver) -> bool:
    return screen.app.screen_stack[0].query_one(ExportPane).busy


async def test_an_empty_workspace_says_how_to_begin(workspace: Workspace) -> None:
    async with opened(workspace) as screen:
        await screen.shows(
            "no run with a checkpoint yet", "Train something first", "▸ c  choose a checkpoint"
        )
        for step in ("Checkpoint", "Adapter", "Merge", "Verify", "Hand over"):
            assert step in screen.text()
        await screen.press("a", "escape", "r", "x", "down")  # nothing to do, and nothing happens
        await screen.shows("Train something first")


async def test_a_run_without_a_checkpoint_does_not_hide_those_of_others(
    workspace: Workspace, with_run: Path
) -> None:
    later = workspace.runs / "later"
    shutil.copytree(with_run, later, ignore=shutil.ignore_patterns("iter_*"))
    workspace.opened(run=str(later))
    async with opened(workspace) as screen:
        await screen.shows(f"{RUN} / iter_")
        for saved in with_run.glob("iter_*.pth"):
            shutil.copy(saved, later / saved.name)
        await screen.press("f2", "f5")
        await screen.shows("later / iter_")


async def test_wrong_paths_are_named_for_what_they_are(workspace: Workspace) -> None:
    run = write_run(workspace, "run-01", "finished", step=4, saved=(4,))
    adapter = workspace.root / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    (workspace.root / "config.py").write_text("lr = 1")
    wrong = {
        "./none.pth": ["does not exist"],
        str(run): ["It is the folder of a training run.", "iter_4.pth"],
        "./adapter": ["It is an adapter (PEFT)."],
        "./config.py": ["probably a config"],
        "/etc/hostname": ["It is nothing that export knows."],
    }
    async with opened(workspace) as screen:
        await screen.shows("run-01 / iter_4.pth")
        for path, words in wrong.items():
            await screen.press("c")
            await screen.shows("type to narrow, or a path")
            await screen.type(path)
            await screen.press("enter")
            await screen.until(
                lambda text, words=words: all(joined(word) in joined(text) for word in words)
            )
            await screen.press("escape")
            await screen.shows("run-01 / iter_4.pth")  # what was chosen stays


async def test_a_torn_checkpoint_leaves_no_adapter(workspace: Workspace) -> None:
    run = write_run(workspace, "run-01", "finished", step=4, saved=(4,))
    (run / "iter_4.pth").write_bytes((run / "iter_4.pth").read_bytes()[:-30])
    async with opened(workspace) as screen:
        await screen.press("c")
        await screen.type(str(run / "iter_4.pth"))
        await screen.press("enter")
        await screen.shows("Enter  convert to an adapter")
        await screen.press("enter")
        await screen.until(lambda _: bool(screen.app.notices) and not busy(screen))
        assert "iter_4.pth" in str(screen.app.notices[0][1])
        await screen.shows("Enter  convert to an adapter")
    assert not (run / "iter_4-adapter").exists()


@pytest.mark.slow
async def test_from_checkpoint_to_a_verified_model(
    workspace: Workspace, with_run: Path, tiny_model: Path
) -> None:
    async with opened(workspace) as screen:
        await screen.shows(f"{RUN} / iter_12.pth", "seconds, no base model")
        await screen.shows(f"onto {tiny_model.name} · seconds ·", "▸ Enter  convert")
        await screen.press("up")
        await screen.shows("loss ", "3 kept", "? 你是谁")  # what it answered when it was saved
        await screen.press("enter")
        await screen.shows(f"✓  Adapter      runs/{RUN}/iter_12-adapter", "▸ Enter  merge")
        adapter = with_run / "iter_12-adapter"
        assert (adapter / "adapter_model.safetensors").exists()
        assert workspace.last().adapter == str(adapter)

        await screen.press("enter")
        await screen.shows(f"✓  Merge        models/{RUN}-iter_12", "▸ Enter  verify")
        merged = workspace.models / f"{RUN}-iter_12"
        assert (merged / "tokenizer.json").exists()

        await screen.press("enter")
        await screen.shows("◐  Verify", "x  cancel")
        await screen.shows("they agree on", "▸ Enter  chat with the model", seconds=120)
        assert "x" not in screen.app.screen.active_bindings, "nothing is at work"
        await screen.until(lambda text: joined(f"vllm serve {merged}") in joined(text))
        await screen.press("tab", "end")  # what does not fit can be scrolled to
        await screen.until(lambda text: joined(f"{merged} HOST:models/") in joined(text))
        await screen.press("tab", "y")
        await screen.shows("Copy the command for", "sglang")
        await screen.press("enter")
        await screen.until(lambda _: str(merged) in screen.app.clipboard)
        assert screen.app.clipboard.startswith("vllm serve ")
        await screen.press("up")
        await screen.shows("Largest logit difference", "? 你是谁")
        assert found_rows(merged) >= 6, "the run's questions, the dataset's, and some more"

    # A new window reads the same from the disk, and Enter goes on to the chat.
    workspace.remember(merged="")
    async with opened(workspace) as screen:
        await screen.shows("they agree on", "▸ Enter  chat with the model")
        await screen.press("enter")
        await screen.until(lambda _: screen.app.current == "chat")
    assert workspace.last().merged == str(merged)


@pytest.mark.slow
async def test_another_checkpoint_and_all_steps_in_one_go(
    workspace: Workspace, with_run: Path
) -> None:
    async with opened(workspace) as screen:
        await screen.shows("iter_12.pth")
        await screen.press("c")
        await screen.shows(f"{RUN} / iter_4.pth", "loss")
        await screen.type("iter_4")
        await screen.press("enter")
        await screen.shows(f"{RUN} / iter_4.pth")
        await screen.press("a")
        await screen.shows("◐  Verify", seconds=60)
        # A cancelled check leaves the model unchecked, and no word of a worker that died.
        await screen.press("x")
        await screen.shows("Verify was cancelled", "▸ Enter  verify")
        assert not screen.app.notices
    assert (workspace.models / f"{RUN}-iter_4" / "config.json").exists()
    assert not (workspace.models / f"{RUN}-iter_4.verified.json").exists()


@pytest.mark.slow
async def test_a_merge_goes_on_without_the_app_and_leaves_nothing_when_cancelled(
    workspace: Workspace, with_run: Path, tiny_model: Path
) -> None:
    base = shutil.copytree(tiny_model, workspace.models / "base")
    big(base)
    async with opened(workspace) as screen:
        await screen.shows("iter_12.pth")
        await screen.press("b")
        await screen.shows("models/base")
        await screen.press("enter")
        await screen.shows("onto base")
        await screen.press("enter")
        await screen.shows("▸ Enter  merge")
        held = asyncio.create_task(asyncio.to_thread(hold_in_a_merge, workspace))
        await screen.press("enter")
        exporter = await held
        await screen.shows("◐  Merge", "x  cancel")
        await screen.press("ctrl+q")
    [living] = job.running(workspace)
    parts = workspace.models
    assert any(one.name.endswith(".part") for one in parts.iterdir())
    async with opened(workspace) as screen:  # another app shows it, and may end it
        await screen.shows("◐  Merge", "x  cancel", " of ")
        await screen.press("x")
        await screen.until(lambda _: (living.folder / job.CANCEL).exists())
        exporter.resume()
        await screen.shows("Merge was cancelled", "▸ Enter  merge")
        assert not screen.app.notices
    assert not living.running
    until = time.monotonic() + 20  # the process tidies up, and the app waits for it
    while len(list(parts.iterdir())) > 1 and time.monotonic() < until:
        await asyncio.sleep(0.05)
    assert [one.name for one in parts.iterdir()] == ["base"]


async def test_a_job_is_told_and_cancelled_with_its_own_checkpoint_only(
    workspace: Workspace, with_run: Path
) -> None:
    first, other = with_run / "iter_12.pth", with_run / "iter_4.pth"
    found = plan.plan(first, workspace)
    order = plan.order(found, ("convert",), workspace=workspace, settings=Settings())

    async def choose(screen: Driver, checkpoint: Path) -> None:
        await screen.press("c")
        await screen.shows("type to narrow, or a path")
        await screen.type(str(checkpoint))
        await screen.press("enter")
        await screen.shows(f"{RUN} / {checkpoint.name}")

    with job.begun(workspace, order) as (held, _):  # at work for as long as this lasts
        async with opened(workspace) as screen:
            await screen.shows(f"{RUN} / iter_12.pth", "◐  Adapter", "◐ Adapter …", "▸ x  cancel")
            await choose(screen, other)
            await screen.hides("◐")
            await screen.shows("▸ Enter  convert")
            await screen.press("x")
            assert not (held.folder / job.CANCEL).exists(), "what is shown does not work"

            await screen.press("enter")  # the other one's own job is followed to its end
            await screen.shows(f"✓  Adapter      runs/{RUN}/iter_4-adapter", "▸ Enter  merge")
            await screen.until(lambda _: len(job.running(workspace)) == 1)  # its process has left
            await screen.press("c")  # which of them is at work stands in the list
            text = await screen.shows("type to narrow, or a path", "◐ being exported")
            [line] = [line for line in text.splitlines() if "◐ being" in line]
            assert f"{RUN} / iter_12.pth" in line
            await screen.press("escape")

            await choose(screen, first)
            await screen.shows("◐  Adapter", "◐ Adapter …", "▸ x  cancel")
            await screen.press("x")
            await screen.until(lambda _: (held.folder / job.CANCEL).exists())
            assert not (job.of(workspace, other).folder / job.CANCEL).exists()


def hold_in_a_merge(workspace: Workspace) -> psutil.Process:
    """Stop the exporter, with SIGSTOP, once it has told how far its merge is."""
    until = time.monotonic() + 60
    while not any(told.step == "merge" and told.done for told in states(workspace)):
        assert time.monotonic() < until, "no merge has begun"
        time.sleep(0.002)
    [exporter] = [one for one in psutil.process_iter() if is_exporter(one, workspace)]
    exporter.suspend()
    return exporter


def states(workspace: Workspace) -> list[job.State]:
    return [one.state for one in job.running(workspace) if one.state is not None]


def is_exporter(process: psutil.Process, workspace: Workspace) -> bool:
    """Whether it works on a job of `workspace`."""
    try:
        words = process.cmdline()
    except psutil.Error:
        return False
    folder = str(workspace.state)
    return "engine.export.exporter" in words and any(one.startswith(folder) for one in words)


def big(model: Path) -> None:
    """Give `model` so much weight beside what is trained that merging takes seconds."""
    weights = load(model / "model.safetensors")
    for number in range(40):
        weights[f"extra.{number}"] = np.zeros(1 << 23, dtype="f4")
    save(model / "model.safetensors", weights)


async def test_a_base_is_chosen_for_the_checkpoint_that_is_shown(workspace: Workspace) -> None:
    for name in ("run-01", "run-02"):
        write_run(workspace, name, "finished", step=4, saved=(4,))
    for name in ("one", "two"):
        (workspace.models / name).mkdir(parents=True)
        (workspace.models / name / "config.json").write_text("{}")

    async def choose(screen: Driver, key: str, what: str) -> None:
        await screen.press(key)
        await screen.shows("type to narrow, or a path")
        await screen.type(what)
        await screen.press("enter")

    async with opened(workspace) as screen:
        for run, base in (("run-01", "one"), ("run-02", "two")):
            await choose(screen, "c", run)
            await screen.shows(f"{run} / iter_4.pth", "press b: the base model")
            await choose(screen, "b", base)
            await screen.shows(f"onto {base}")
        await choose(screen, "c", "run-01")
        await screen.shows("run-01 / iter_4.pth", "onto one")


async def test_the_base_model_must_be_one(workspace: Workspace) -> None:
    write_run(workspace, "run-01", "finished", step=4, saved=(4,))
    async with opened(workspace) as screen:
        await screen.shows("run-01 / iter_4.pth")
        await screen.press("b")
        await screen.type("./runs")
        await screen.press("enter")
        await screen.shows("It is nothing that export knows.")


@pytest.mark.slow
async def test_a_base_that_is_not_here_is_asked_for(
    workspace: Workspace, with_run: Path, tiny_model: Path
) -> None:
    async with opened(workspace) as screen:
        await screen.shows("iter_12.pth")
        await screen.press("enter")
        await screen.shows("▸ Enter  merge")
        described = with_run / "iter_12-adapter" / "adapter_config.json"
        described.write_text(described.read_text().replace("/tiny-llama", "/gone"))
        await screen.press("1", "4")
        await screen.shows("press b: the base model")
        await screen.press("enter")
        await screen.shows("The base model is not here", "b names it.")
        await screen.press("escape", "b")
        await screen.type(str(tiny_model))
        await screen.press("enter")
        await screen.shows("onto tiny-llama")
