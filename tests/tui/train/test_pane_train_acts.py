"""What becomes of runs in the Train pane: queued, resumed, noted, renamed, thrown away."""

from __future__ import annotations

import os
import re
import time

import msgspec
import pytest
from textual.widgets import Static

from engine import files
from engine.run import history, notes, state
from engine.run.folder import RunFolder
from engine.run.processes import Identity
from engine.run.state import Order, RunState, Wait
from engine.workspace import Workspace
from tests.support.driver import opened
from tests.support.run_files import write_run
from tests.support.train_pane import change, frozen


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


async def test_what_has_ended_is_not_asked_whether_to_kill_it(workspace: Workspace) -> None:
    write_run(workspace, "assistant-01", "finished", step=5)
    async with opened(workspace) as screen:
        await screen.shows("✓ assistant-01  finished")
        await screen.press("K")
        text = await screen.shows("has ended already")
        assert "Kill assistant-01 now?" not in text
