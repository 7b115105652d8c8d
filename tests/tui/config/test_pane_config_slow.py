"""The Config pane where a disk or a preflight takes its time: no key is lost meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.config import preflight
from engine.config.text import textfile
from engine.config.text.source import ConfigSource
from engine.workspace import Workspace
from tests.support.config_pane import (
    LARGE,
    SMALL,
    app_on,
    opened,
    pane,
    screen,
    shows,
    type_value,
    until,
)

NOT_CHECKED = "not checked yet"
STALE = "before the last edit"


class Held:
    """Something that a thread calls, and that goes on when the test lets it."""

    def __init__(self, real: Callable[..., Any]) -> None:
        self._real = real
        self.go = threading.Event()
        self.calls = 0
        self.ends = 0

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        self.calls += 1
        assert self.go.wait(60)
        try:
            return self._real(*arguments, **options)
        finally:
            self.ends += 1


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    """Every config's way to the disk."""
    held = Held(textfile.write)
    held.go.set()
    monkeypatch.setattr(textfile, "write", held)
    yield held
    held.go.set()


@pytest.fixture
def look(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    """Every preflight."""
    held = Held(preflight.preflight)
    monkeypatch.setattr(preflight, "preflight", held)
    yield held
    held.go.set()


@pytest.fixture
def config(config: Path) -> Path:
    """A config that is told at once what it lacks."""
    source = ConfigSource.open(config)
    source.set("pretrained_model_name_or_path", "/nowhere/模型")
    source.save()
    return config


async def test_an_edit_waits_for_the_one_before_it(
    workspace: Workspace, config: Path, disk: Held
) -> None:
    app, before = app_on(workspace), config.read_bytes()
    async with app.run_test(size=SMALL, notifications=True) as pilot:
        await opened(pilot, app)
        for name, text in (("lr", "5e-4"), ("max_length", "64")):
            await type_value(pilot, app, name, text)
            await pilot.press("enter")
            await until(pilot, lambda: not pane(app).form.editing and shows(app, "saved"))
        disk.go.clear()
        writes = disk.calls
        await pilot.press("u", "u")
        await until(pilot, lambda: disk.calls == writes + 1)
        # A field that is opened now has nothing to do with what is on its way.
        await type_value(pilot, app, "save_steps", "7")
        disk.go.set()
        await until(pilot, lambda: config.read_bytes() == before)
        await until(pilot, lambda: shows(app, "undone"))
        assert pane(app).form.editor.value == "7"
        await pilot.press("enter")
        await until(pilot, lambda: ConfigSource.open(config).get("save_steps") == 7)


async def test_the_first_edit_is_undone_while_it_is_on_its_way_and_leaving_tells_of_it(
    workspace: Workspace, config: Path, disk: Held
) -> None:
    app, before = app_on(workspace), config.read_bytes()
    async with app.run_test(size=SMALL, notifications=True) as pilot:
        await opened(pilot, app)
        disk.go.clear()
        await type_value(pilot, app, "lr", "5e-4")
        await pilot.press("enter")
        await until(pilot, lambda: disk.calls == 1)
        await pilot.press("escape")  # out of the field
        await pilot.press("u", "ctrl+r", "u")
        await pilot.press("ctrl+q")
        await until(pilot, lambda: shows(app, "Leave Tunedeck?", "4 edits are not saved yet"))
        await pilot.press("n")
        disk.go.set()
        await until(pilot, lambda: disk.ends == 4 and not pane(app).busy)
        assert config.read_bytes() == before
        assert not pane(app).leaving()


async def test_a_config_goes_to_train_when_its_edits_are_in_the_file(
    workspace: Workspace, config: Path, disk: Held
) -> None:
    app = app_on(workspace)
    async with app.run_test(size=SMALL, notifications=True) as pilot:
        await opened(pilot, app)
        disk.go.clear()
        await type_value(pilot, app, "lr", "5e-4")
        await pilot.press("enter")
        await until(pilot, lambda: disk.calls == 1)
        await pilot.press("escape")  # out of the field
        await pilot.press("t")
        await until(pilot, lambda: shows(app, "1 edit is not saved yet", "Press t again"))
        assert pane(app).display
        disk.go.set()
        await until(pilot, lambda: not pane(app).busy)
        await pilot.press("t")
        await until(pilot, lambda: not pane(app).display)
        assert ConfigSource.open(config).get("lr") == 5e-4


async def test_a_config_opened_during_an_edit_of_another_one_stays_open(
    workspace: Workspace, config: Path, disk: Held
) -> None:
    other = workspace.root / "外面.py"
    other.write_text("lr = 1e-5\n", encoding="utf-8")
    app = app_on(workspace)
    async with app.run_test(size=SMALL, notifications=True) as pilot:
        await opened(pilot, app)
        await type_value(pilot, app, "lr", "5e-4")
        disk.go.clear()
        await pilot.press("enter")
        await until(pilot, lambda: disk.calls == 1)
        pane(app).read(str(other))
        await until(pilot, lambda: "read" not in [worker.group for worker in app.workers])
        await pilot.pause()
        disk.go.set()
        await until(pilot, lambda: shows(app, "外面.py", "1e-5"))
        assert ConfigSource.open(config).get("lr") == 5e-4
        assert other.read_text(encoding="utf-8") == "lr = 1e-5\n"


async def test_what_was_edited_during_a_preflight_is_looked_at_after_it(
    workspace: Workspace, config: Path, look: Held
) -> None:
    app = app_on(workspace)
    async with app.run_test(size=SMALL, notifications=True) as pilot:
        await opened(pilot, app)
        await pilot.press("p", "p")  # one will do: it is the same text
        await until(pilot, lambda: shows(app, "preflight is looking") and look.calls == 1)
        await type_value(pilot, app, "lr", "5e-4")
        await pilot.press("enter")
        await until(pilot, lambda: shows(app, "saved"))
        await pilot.press("p")
        look.go.set()
        await until(pilot, lambda: shows(app, "✗ ") and not pane(app).verdict.checking)
        await until(pilot, lambda: "preflight is looking" not in screen(app))
        assert look.calls == 2 and STALE not in screen(app)


async def test_a_preflight_says_nothing_of_a_config_that_was_opened_meanwhile(
    workspace: Workspace, config: Path, look: Held
) -> None:
    other = workspace.root / "外面.py"
    other.write_text("lr = 1e-5\n", encoding="utf-8")
    app = app_on(workspace)
    async with app.run_test(size=SMALL, notifications=True) as pilot:
        await opened(pilot, app)
        await pilot.press("p")
        await until(pilot, lambda: look.calls == 1)
        pane(app).read(str(other))
        await until(pilot, lambda: shows(app, "外面.py", NOT_CHECKED))
        look.go.set()
        await until(pilot, lambda: look.ends == 1)
        await pilot.pause()
        assert NOT_CHECKED in screen(app) and "✗" not in screen(app)
        await pilot.press("p")
        await until(pilot, lambda: look.calls == 2 and shows(app, "✗ "))


async def test_a_finding_is_explained_in_a_window_of_another_size(
    workspace: Workspace, config: Path
) -> None:
    app = app_on(workspace)
    async with app.run_test(size=SMALL, notifications=True) as pilot:
        await opened(pilot, app)
        await pilot.press("p")
        await until(pilot, lambda: shows(app, "▸ Tab  to the findings"))
        await pilot.press("tab")
        text = "Give the folder that holds the"
        await until(pilot, lambda: shows(app, text))
        # Where there is room it begins with what the list says.
        await pilot.resize_terminal(*LARGE)
        await until(pilot, lambda: shows(app, text) and screen(app).count("There is no model") == 2)
