"""The Train pane under test, as a person has it before them, and what it needs."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from textual.pilot import Pilot

from engine.settings import Settings
from engine.workspace import Workspace
from tests.support.screen import screen_lines
from tui.app import Tunedeck


class Screen:
    """The app under test, as a person has it before them."""

    def __init__(self, pilot: Pilot[int]) -> None:
        self.pilot = pilot

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.pilot.pause()

    def text(self) -> str:
        return "\n".join(screen_lines(self.pilot.app))

    async def until(self, holds: Callable[[str], bool], seconds: float = 20) -> str:
        """Wait until the text `holds`, and return it."""
        end = time.monotonic() + seconds
        while not holds(self.text()):
            assert time.monotonic() < end, f"it never came:\n{self.text()}"
            await self.pilot.pause(0.05)
        return self.text()

    async def shows(self, *words: str) -> str:
        return await self.until(lambda text: all(word in text for word in words))

    async def hides(self, *words: str) -> str:
        return await self.until(lambda text: not any(word in text for word in words))


@asynccontextmanager
async def opened(workspace: Workspace, size: tuple[int, int] = (80, 24)) -> AsyncIterator[Screen]:
    app = Tunedeck(workspace, Settings())
    async with app.run_test(size=size, notifications=True) as pilot:
        yield Screen(pilot)


def config(workspace: Workspace, name: str = "assistant.py") -> None:
    workspace.configs.mkdir(exist_ok=True)
    (workspace.configs / name).write_text("lr = 1e-4\n")
    workspace.remember(config=f"configs/{name}")
