"""The app in memory, driven as a person does: keys in, text out."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from textual.pilot import Pilot

from engine.settings import Settings
from engine.workspace import Workspace
from tests.support.screen import screen_lines
from tui.app import Tunedeck


class Driver:
    """Presses keys and reads the screen of a running app."""

    def __init__(self, app: Tunedeck, pilot: Pilot[int]) -> None:
        self.app, self.pilot = app, pilot

    async def press(self, *keys: str) -> None:
        """Press `keys` by Textual's names, and let the app answer."""
        await self.pilot.press(*keys)
        await self.pilot.pause()

    async def type(self, text: str) -> None:
        """Type `text` where the cursor is, character by character."""
        for character in text:
            self.app.simulate_key(character)
        await self.pilot.pause()

    async def erase(self) -> None:
        """Empty the field that has the focus."""
        await self.press("ctrl+u", "ctrl+k")

    def lines(self) -> list[str]:
        """The screen's lines."""
        return screen_lines(self.app)

    def keys_line(self) -> str:
        """The keys that the pane tells."""
        return self.lines()[-2]

    def text(self) -> str:
        """The screen."""
        return "\n".join(self.lines())

    async def until(self, holds: Callable[[str], bool], seconds: float = 30) -> str:
        """Wait until the screen `holds`; return its text."""
        end = time.monotonic() + seconds
        while not holds(self.text()):
            assert time.monotonic() < end, f"it never came:\n{self.text()}"
            await self.pilot.pause(0.03)
        return self.text()

    async def shows(self, *words: str, seconds: float = 30) -> str:
        """Wait until all `words` are on the screen."""
        return await self.until(lambda text: all(word in text for word in words), seconds)

    async def hides(self, *words: str, seconds: float = 30) -> str:
        """Wait until none of `words` is on the screen."""
        return await self.until(lambda text: not any(word in text for word in words), seconds)


@asynccontextmanager
async def opened(
    workspace: Workspace, size: tuple[int, int] = (80, 24), settings: Settings | None = None
) -> AsyncIterator[Driver]:
    """The app on `workspace`, with a screen of `size` cells."""
    app = Tunedeck(workspace, settings or Settings())
    async with app.run_test(size=size, notifications=True) as pilot:
        await pilot.pause()
        yield Driver(app, pilot)
