"""Alarms in the app: told once, also those of the night, and the bell where it is wanted."""

from __future__ import annotations

import errno
import time
from pathlib import Path

import pytest

from engine import files
from engine.export import job
from engine.run import state
from engine.run.alarms.board import Board
from engine.run.progress import Follower
from engine.run.state import Alarm, Event
from engine.settings import Alarms, Settings
from engine.workspace import Workspace
from tests.support.driver import opened
from tests.support.run_files import write_run
from tests.support.screen import NASTY, wait_until
from tui.app import Tunedeck
from tui.panes.train.why import why_lines


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def board(workspace: Workspace) -> Board:
    folder = write_run(workspace, "assistant-01", "training", step=20)
    return Board(folder, Follower(folder).update, lambda text: None)


async def test_what_happened_in_the_night_is_told_at_opening_and_once(
    workspace: Workspace,
) -> None:
    board(workspace).settle({"loss-nan": Alarm("loss-nan", {"step": "7"}), "disk": Alarm("disk")})
    workspace.remember(tab="train")
    async with opened(workspace, (140, 45)) as screen:
        await screen.shows("Since you were last here, 2 things happened", "training", "20%  ! The")
        await screen.press("f7")
        await screen.shows("Notices", "Make room now")
    async with opened(workspace, (140, 45)) as screen:
        await screen.shows("! The next checkpoint")  # the mark stays while it lasts
        await wait_until(screen.pilot, lambda: screen.app.sight is not None)
        assert not screen.app.notices


async def test_a_run_whose_folder_is_moved_says_so(workspace: Workspace) -> None:
    folder = write_run(workspace, "assistant-01", "training", step=20)
    workspace.remember(tab="train")
    async with opened(workspace, (140, 45)) as screen:
        await screen.shows("assistant-01  step 20/100")
        moved = folder.rename(workspace.runs / "elsewhere")
        files.append_json(moved / state.EVENTS, Event(time.time(), "moved", path=str(folder)))
        screen.app._watch.look_now()
        await screen.shows("assistant-01: its folder was moved to")
    assert f"moved here from {folder}" in "\n".join(map(str, why_lines(moved)))


async def test_an_alarm_while_the_app_is_open(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    rung: list[str] = []
    monkeypatch.setattr(Tunedeck, "bell", lambda app: rung.append("ring"))
    it = board(workspace)
    async with opened(workspace, (140, 45)) as screen:
        screen.app.chosen = Settings(alarms=Alarms(bell=True))
        await screen.shows("assistant-01  step 20/100")
        it.settle({"hook": Alarm("hook", {"status": "3", "output": NASTY})})
        screen.app._watch.look_now()
        await screen.shows("Your alarm command failed (3): [/x] [b]", "--try-hook")
        assert rung == ["ring"]
        it.settle({"hook": None})
        screen.app._watch.look_now()
        await wait_until(
            screen.pilot, lambda: not (screen.app.sight and screen.app.sight.runs[0].alarms)
        )


async def test_an_alarm_is_told_where_exports_cannot_be_looked_at(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(lock: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    it = board(workspace)
    exported = workspace.state / job.FOLDER / "assistant-01-iter_4.pth-01234567"
    exported.mkdir(parents=True)
    for name in (".lock", job.STATE):
        (exported / name).write_text("{}")
    async with opened(workspace, (140, 45)) as screen:
        await screen.shows("assistant-01  step 20/100")
        monkeypatch.setattr("engine.export.job.fcntl.flock", no_locks)
        it.settle({"disk": Alarm("disk")})
        screen.app._watch.look_now()
        await wait_until(
            screen.pilot,
            lambda: {"Make room now"} <= {one.todo[:13] for _when, one in screen.app.notices},
        )
