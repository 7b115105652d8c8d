"""What is heard of answers while they are made, carried from the asking thread to the screen."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from engine.chat.answer import Answer, Loaded
from engine.chat.conversation import Node
from engine.errors import Problem
from engine.i18n import _
from engine.text import one_line

if TYPE_CHECKING:
    from tui.panes.chat.pane import ChatPane

Told = Callable[[], object]

SOON = 0.03
"""Seconds for which the screen waits at most, so that the question goes to the model first."""


class Hearing:
    """The audience of `Asking`: whatever the thread tells is done on the event loop, in its order.

    The thread does not wait for the screen: a model that could answer would wait, too.
    Made on the event loop.
    """

    def __init__(self, pane: ChatPane, node: Node) -> None:
        self._pane = pane
        self._node = node
        self._loop = asyncio.get_running_loop()
        self._told: asyncio.Queue[Told | None] = asyncio.Queue()
        self._busy = threading.Event()

    # -- on the event loop ------------------------------------------------------

    def until_busy(self) -> None:
        """Return when a model works for us, or at the latest after `SOON`.

        It holds up the screen on purpose: drawing would take the interpreter
        from the thread that hands the question over (a few ms).
        """
        self._busy.wait(SOON)

    async def deliver(self) -> None:
        """Do what the thread tells until it has nothing more to tell."""
        while (told := await self._told.get()) is not None:
            result = told()
            if inspect.isawaitable(result):
                await result

    # -- in the asking thread -----------------------------------------------------

    def loading(self, slot: str) -> None:
        """Below its question."""
        name = one_line(self._pane.chosen[slot].title)
        words = _("loading {name} …").format(name=name)
        self._tell(lambda: self._pane.exchange(slot).say(words))
        self._busy.set()

    def starting(self, slot: str, line: str) -> None:
        """In the place of what was said before."""
        name = self._pane.chosen[slot].spec.engine
        self._tell(lambda: self._pane.exchange(slot).say(f"{name}: {one_line(line)}"))

    def loaded(self, slot: str, loaded: Loaded) -> None:
        """Above its column."""
        self._tell(lambda: self._pane.loaded(slot, loaded))

    def begun(self, slot: str) -> None:
        """Now there is time to draw."""
        self._busy.set()

    def piece(self, slot: str, text: str) -> None:
        """Into its answer."""
        self._tell(lambda: self._pane.exchange(slot).grow(text))

    def answered(self, slot: str, answer: Answer) -> None:
        """The answer is whole."""
        self._tell(lambda: self._pane.answered(self._node, slot, answer))

    def failed(self, slot: str, problem: Problem) -> None:
        """Say so."""
        self._tell(lambda: self._pane.failed(slot, problem))

    def over(self) -> None:
        """There is nothing more to tell."""
        self._tell(None)
        self._busy.set()

    def _tell(self, told: Told | None) -> None:
        with contextlib.suppress(RuntimeError):  # the app, and its loop, have ended
            self._loop.call_soon_threadsafe(self._told.put_nowait, told)
