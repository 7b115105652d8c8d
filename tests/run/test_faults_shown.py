"""Faults of files under an app that is open: what is gone, not to be written, or slow is said.

The app is the real one, by keys. See docs/faults.md.
"""

from __future__ import annotations

import asyncio
import builtins
import io
import os
import shutil
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.run import state
from engine.workspace import Last, Workspace
from tests.support import mounts
from tests.support.driver import opened
from tests.support.run_files import START, add_log, add_steps, write_run
from tests.support.train_pane import config


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path)
    made.remember(tab="train")
    return made


class Disk:
    """The file system below `root`, whose answers can be withheld, as those of a network disk."""

    ASKED = ("open", "stat", "lstat", "readlink", "scandir", "listdir")

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self._root, self._answers = str(root), threading.Event()
        self._answers.set()
        self.waiting: set[str] = set()
        """Names of the threads that wait for an answer."""
        self.asked = 0
        """Questions since the answers are withheld."""
        self.on_the_loop: list[str] = []
        """Where the app's own thread asked while no answer came: there the screen would hang."""
        for name in self.ASKED:
            patch.setattr(os, name, self._asking(getattr(os, name)))
        for module in (io, builtins):
            patch.setattr(module, "open", self._asking(open))

    def hang(self) -> None:
        self.asked = 0
        self._answers.clear()

    def answer(self) -> None:
        self._answers.set()

    def _asking(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def asking(path: Any = ".", *rest: Any, **named: Any) -> Any:
            hangs = not self._answers.is_set() and not isinstance(path, int)
            if hangs and os.fspath(path).startswith(self._root):
                self._wait()
            return call(path, *rest, **named)

        return asking

    def _wait(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self.on_the_loop.append("".join(traceback.format_stack(limit=8)))
            return
        name = threading.current_thread().name
        self.asked += 1
        self.waiting.add(name)
        self._answers.wait(60)
        self.waiting.discard(name)


@pytest.fixture
def disk(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    made = Disk(workspace.root, monkeypatch)
    yield made
    made.answer()


def kept(workspace: Workspace) -> Last:
    """What another window would begin with."""
    return Workspace(workspace.root).last()


async def test_a_disk_that_does_not_answer(workspace: Workspace, disk: Disk) -> None:
    first = write_run(workspace, "one", "training", step=42, created=1000)
    write_run(workspace, "two", "finished", step=100, created=2000)
    config(workspace)
    rows = workspace.root / "rows.json"
    rows.write_text('[{"conversation": [{"input": "Who?", "output": "I"}]}]')
    workspace.remember(data=str(rows))
    async with opened(workspace) as screen:
        for key, pane, shown in (
            ("f3", "config", "configs/assistant.py"),
            ("f2", "data", "rows.json · 1 row"),
            ("f4", "train", "two"),
        ):
            await screen.press(key)
            await screen.shows(shown)
            await screen.until(lambda _text, pane=pane: kept(workspace).tab == pane)
        await screen.shows("two", "loss 0.589", "── loss one")
        disk.hang()
        try:
            await screen.until(lambda _text: disk.waiting >= {"runs", "watch"})
            await screen.press("f1")
            await screen.shows("In this pane")
            await screen.press("escape", "m")
            await screen.shows("learning rate")
            for _time in range(3):
                await screen.press("j", "y", "space", "k", "f8", "escape", "c", "c", "w", "f")
            await screen.press("f3", "f4", "f3", "f2", "o")
            assert not disk.on_the_loop, disk.on_the_loop[0]
            assert disk.asked == len(disk.waiting), "each that looks waits with one question"
            add_steps(first, 42, 50)
        finally:
            disk.answer()
        await screen.until(lambda _text: kept(workspace).tab == "data")
        await screen.shows("Open a dataset")  # as soon as it is known which there are
        await screen.press("escape", "f4")
        await screen.shows("step 50/100")


@pytest.mark.parametrize(
    ("tab", "ready", "key", "then"),
    [
        ("train", "── loss one", "l", "Launch a run"),
        ("chat", "^O", "h", "Earlier talks"),
        ("data", "No dataset is open", "o", "Open a dataset"),
        ("config", "configs/assistant.py", "o", "type to narrow"),
        ("export", "checkpoint", "c", "type to narrow, or a path"),
    ],
)
async def test_a_dialog_waits_for_the_disk_beside_the_screen(
    tab: str, ready: str, key: str, then: str, workspace: Workspace, disk: Disk
) -> None:
    write_run(workspace, "one", "training", step=42, created=1000)
    config(workspace)
    workspace.remember(tab=tab)
    async with opened(workspace) as screen:
        await screen.shows(ready)
        if tab == "chat":
            await screen.press("escape")
        disk.hang()
        try:
            await screen.press(key, key)  # who waits presses it again
            await screen.until(lambda _text: bool(disk.waiting - {"runs", "watch", "keeping"}))
            assert not disk.on_the_loop, disk.on_the_loop[0]
        finally:
            disk.answer()
        await screen.shows(then)
        await screen.press("escape")
        await screen.until(lambda _text: len(screen.app.screen_stack) == 1)


async def test_a_log_that_is_deleted_or_cut_short(workspace: Workspace) -> None:
    run = write_run(workspace, "one", "training", step=42, log="words of old")
    log = run / state.LOG
    async with opened(workspace, (140, 40)) as screen:
        await screen.shows("words of old", "training 42/100")
        log.unlink()
        text = await screen.shows("! the file is not there")
        assert "words of old" in text, "what was read stays"
        add_steps(run, 42, 45)
        await screen.shows(
            "training 45/100", "Iter(train) [45/100]", "! the file was cut short or replaced"
        )
        log.write_text("words of new\n")
        text = await screen.shows("words of new")
        assert "Iter(train) [45/100]" not in text


async def test_points_that_are_deleted_or_cut_short(workspace: Workspace) -> None:
    run = write_run(workspace, "one", "training", step=42)
    scalars = run / START / "vis_data" / "scalars.json"
    async with opened(workspace) as screen:
        await screen.shows("training 42/100", "── loss one")
        scalars.unlink()
        add_log(run, "it goes on")
        text = await screen.shows("it goes on")
        assert "training 42/100" in text and "── loss one" in text
        add_steps(run, 42, 50)
        await screen.shows("training 50/100")
        lines = scalars.read_text().splitlines(keepends=True)
        scalars.write_text("".join(lines[:3]))
        add_steps(run, 45, 60)
        await screen.shows("training 60/100")


async def test_a_folder_that_is_deleted_or_moved(workspace: Workspace) -> None:
    now = time.time()
    one = write_run(workspace, "one", "training", step=42, created=now)
    two = write_run(workspace, "two", "finished", step=100, created=now - 10)
    async with opened(workspace) as screen:
        await screen.shows("training 42/100", "one", "two")
        moved = one.rename(workspace.runs / "elsewhere")
        add_steps(moved, 42, 50)
        await screen.shows("training 50/100", "── loss one")
        shutil.rmtree(moved)
        await screen.shows("The run one is not there any more", "finished 100/100", "── loss two")
        shutil.rmtree(two)
        await screen.shows("No runs yet")


def test_an_app_on_a_disk_that_can_only_be_read(workspace: Workspace) -> None:
    write_run(workspace, "one", "training", step=42)
    config(workspace)

    async def use() -> None:
        async with opened(workspace) as screen:
            await screen.shows("training 42/100", "── loss one")
            for key, shown in (
                ("1", "1 Data"),
                ("2", "2 Config"),
                ("4", "4 Export"),
                ("5", "5 Chat"),
            ):
                await screen.press(key)
                await screen.shows(shown)
                await screen.press("escape")
            await screen.press("f4")
            await screen.shows("training 42/100")
            await screen.press("S")
            await screen.shows("The run one cannot be told to end", "Read-only file system")
            await screen.press("escape", "h", *"note", "enter", *"good", "enter")
            await screen.shows("Cannot write the notes", "Read-only file system")

    def work() -> None:
        mounts.read_only(workspace.root)
        asyncio.run(use())

    mounts.apart(work)
