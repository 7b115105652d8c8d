"""The end of an export, told wherever the user is, and once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine import files
from engine.export import job, plan
from engine.export.job import Job, Said, State, Step
from engine.export.verify import Compared, Verified
from engine.settings import Settings
from engine.workspace import Workspace
from tests.export.conftest import save
from tests.support.driver import Driver, opened
from tests.support.run_files import write_run

NAME = "run-01 / iter_4.pth"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Two runs with a checkpoint each, whose adapters are made."""
    made = Workspace(tmp_path)
    made.remember(tab="export", run="run-02")
    for name in ("run-01", "run-02"):
        adapter = write_run(made, name, "finished", step=4, saved=(4,)) / "iter_4-adapter"
        adapter.mkdir()
        (adapter / "adapter_config.json").write_text("{}")
        save(adapter / "adapter_model.safetensors", {})
    return made


@contextmanager
def exported(workspace: Workspace, *steps: Step, run: str = "run-01") -> Iterator[Job]:
    """A job that is at work for as long as this lasts, then ends as `ends` has said."""
    found = plan.plan(workspace.runs / run / "iter_4.pth", workspace)
    wanted = plan.order(found, steps, workspace=workspace, settings=Settings())
    with job.begun(workspace, wanted) as (begun, _lock):
        yield begun


def ends(one: Job, step: Step, said: Said | None = None, result: str = "") -> None:
    status: job.Status = "done" if said is None else "failed"
    files.write_json(one.folder / job.STATE, State(status, step, time.time(), 0, 0, said, result))


def told(screen: Driver) -> list[str]:
    return [problem.what for _when, problem in screen.app.notices]


async def look(screen: Driver) -> None:
    """Let the shell look at the runs and exports once more, from the beginning."""
    before = screen.app.sight
    screen.app._watch.look_now()
    await screen.until(lambda _: screen.app.sight not in (None, before))


async def test_the_end_of_one_that_is_not_shown_is_told_once_with_its_name(
    workspace: Workspace,
) -> None:
    async with opened(workspace) as screen:
        await screen.shows("run-02 / iter_4.pth")
        with exported(workspace, "convert") as one:
            ends(one, "convert")
        await screen.shows(f"{NAME}: the adapter is made", "F5 shows it in Export; there c chooses")
        assert screen.app.query_one("#trouble").has_class("-good")
        await screen.press("escape", "f3")  # another pane
        await screen.hides("put away")
        with exported(workspace, "gguf") as one:
            ends(one, "gguf", Said("llama.cpp could not make the file", "It is full.", "Look."))
        await screen.shows(f"{NAME}: llama.cpp could not make the file", "It is full.", "Look. F5")
        assert not screen.app.query_one("#trouble").has_class("-good")
        with exported(workspace, "upload"):
            pass  # killed
        await screen.shows(f"{NAME}: uploading was cut off")
        await look(screen)
        assert [what.partition(": ")[0] for what in told(screen)] == [NAME] * 3
    async with opened(workspace) as screen:  # they were told
        await look(screen)
        await look(screen)
        assert not told(screen)


async def test_what_the_pane_shows_goes_to_the_notices_only(
    workspace: Workspace,
) -> None:
    async with opened(workspace) as screen:
        await screen.shows("run-02 / iter_4.pth")
        with exported(workspace, "convert", run="run-02") as one:
            await screen.press("f2", "f5")
            await screen.shows("◐  Adapter")
            ends(one, "convert")
        await screen.shows("✓ Adapter")
        await screen.until(lambda _: told(screen) == ["run-02 / iter_4.pth: the adapter is made"])
        assert "put away" not in screen.text()
        with exported(workspace, "convert", run="run-02") as one:
            await screen.press("f2", "f5")
            await screen.shows("◐  Adapter")
            ends(one, "convert", Said("It broke", "Who knows.", "", "", ("device",)))
        await screen.shows("✗ Adapter: It broke", "Who knows.", "o chooses the device.")
        await screen.until(lambda _: told(screen)[1:] == ["run-02 / iter_4.pth: It broke"])
        assert "put away" not in screen.text(), "it is before one's eyes"
    async with opened(workspace) as screen:  # who comes later finds it there
        await screen.shows("✗ Adapter: It broke", "Who knows.", "o chooses the device.")


async def test_what_was_done_elsewhere_to_the_checkpoint_that_is_shown_is_read_then(
    workspace: Workspace,
) -> None:
    async with opened(workspace) as screen:
        await screen.shows("run-02 / iter_4.pth")
        await look(screen)
        with exported(workspace, "convert", run="run-02") as one:  # by a verb, in another window
            ends(one, "convert", Said("It broke", "Who knows.", "", "", ("device",)))
        await screen.until(lambda _: told(screen) == ["run-02 / iter_4.pth: It broke"])
        await screen.shows("✗ Adapter: It broke", "Who knows.", "o chooses the device.")


async def test_a_model_that_answers_otherwise_is_no_good_news(workspace: Workspace) -> None:
    merged = workspace.models / "run-01-iter_4"
    merged.mkdir(parents=True)
    async with opened(workspace) as screen:
        await screen.shows("run-02 / iter_4.pth")
        with exported(workspace, "gguf") as one:
            answers = [Compared("?", "yes", "no")]
            plan.keep(merged, Verified(False, answers, 9.0, 0.5, 9.0, "bfloat16", "Far apart."))
            ends(one, "verify")
        await screen.shows("the model does not answer as it should", "Far apart.", "Do not use it.")
        assert not screen.app.query_one("#trouble").has_class("-good")


async def test_what_ended_while_no_window_was_open_is_told_at_opening(
    workspace: Workspace,
) -> None:
    with exported(workspace, "convert") as one:  # of a time before ends were told
        ends(one, "convert")
    with exported(workspace, "convert", run="run-02") as one:
        async with opened(workspace) as screen:
            await look(screen)
            await screen.until(lambda _: (workspace.state / "told-exports.json").exists())
            assert not told(screen)
        ends(one, "convert")
    async with opened(workspace) as screen:
        await screen.shows("Since you were last here, 1 thing happened", "run-02 / iter_4.pth: the")
        assert len(told(screen)) == 1


async def test_a_checkpoint_that_is_gone_is_left_for_the_newest_that_is_there(
    workspace: Workspace,
) -> None:
    gone = workspace.runs / "run-02"
    async with opened(workspace) as screen:
        await screen.shows("run-02 / iter_4.pth")
        with exported(workspace, "convert", run="run-02") as one:
            await screen.press("f2", "f5")
            await screen.shows("◐  Adapter", "x  cancel")
            gone.rename(workspace.root / "elsewhere")
            ends(one, "convert", Said("It does not exist"))
        await screen.shows("run-02 / iter_4.pth: It does not exist", NAME, "Enter  merge")
        assert "x  cancel" not in screen.text()
        (workspace.root / "elsewhere").rename(gone)
        await screen.press("escape", "c")
        await screen.shows("type to narrow")
        await screen.type("run-02")
        await screen.press("enter")
        await screen.shows("✓  Checkpoint   run-02 / iter_4.pth")
        (gone / "iter_4.pth").unlink()
        await screen.press("f2", "f5")
        await screen.shows(f"✓  Checkpoint   {NAME}")
