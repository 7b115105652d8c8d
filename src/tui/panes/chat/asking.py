"""Asks the models of the Chat pane, in a thread: loads them first, passes on what they say."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec

from engine.chat import set_run
from engine.chat.conversation import Conversation, Node
from engine.chat.set_table import Cell
from engine.chat.sets import Item
from engine.errors import Problem
from engine.joined.candidates import Candidate, busy_gpus, ready
from engine.settings import Settings
from engine.workspace import Workspace

if TYPE_CHECKING:
    from engine.chat.session import Answer, ChatSession, Loaded, ModelSpec, Prompt, Sampling

FLUSH = 0.1
"""Seconds between two pieces of an answer on the screen: every token would cost the line."""


class Audience(Protocol):
    """Who hears what happens; called in the asking thread."""

    def loading(self, slot: str) -> None:
        """A model is being loaded."""

    def starting(self, slot: str, line: str) -> None:
        """What an engine writes while it starts for it."""

    def loaded(self, slot: str, loaded: Loaded) -> None:
        """It is in memory."""

    def begun(self, slot: str) -> None:
        """It has the question, and time passes until it answers."""

    def piece(self, slot: str, text: str) -> None:
        """More of its answer."""

    def answered(self, slot: str, answer: Answer) -> None:
        """The whole answer."""

    def failed(self, slot: str, problem: Problem) -> None:
        """It cannot answer."""


class Asking:
    """The models that are loaded, and how a question goes to all of them.

    Blocking; `stop` and `halted` may come from another thread.
    """

    def __init__(self, workspace: Workspace, settings: Settings) -> None:
        self._workspace = workspace
        self._settings = settings
        self._session: ChatSession | None = None
        self._loaded: dict[str, tuple[ModelSpec, Loaded]] = {}
        self._halted = False
        self._used = time.monotonic()
        self.share = False
        """Whether models may take a GPU on which a run of ours trains."""

    def ask(
        self,
        chosen: Mapping[str, Candidate],
        talk: Conversation,
        node: Node,
        sampling: Sampling,
        audience: Audience,
    ) -> None:
        """`node`'s question to every model of `chosen`, one after the other: they share a machine.

        All are loaded before the first answers, so that those on the same base share it.
        What goes wrong with one does not keep the others from answering.
        """
        self._halted = False
        there = [slot for slot in sorted(chosen) if self._try(slot, chosen[slot], audience)]
        for slot in there:
            if self._halted:
                break
            try:
                self._answer(slot, chosen[slot], talk, sampling, audience)
            except Problem as problem:
                audience.failed(slot, problem)
        self._used = time.monotonic()

    def ask_set(
        self,
        chosen: Mapping[str, Candidate],
        items: Sequence[Item],
        sampling: Sampling,
        system: str | None,
        audience: Audience,
        heard: Callable[[Cell], None],
    ) -> None:
        """Every question of a prompt set to every model of `chosen`, until `stop`.

        `audience` hears how the models are loaded, `heard` takes the answers.
        """
        self._halted = False
        there = [slot for slot in sorted(chosen) if self._try(slot, chosen[slot], audience)]
        if self._session is not None:
            for cell in set_run.run(
                self._session, items, there, sampling, lambda: self._halted, system
            ):
                heard(cell)
        self._used = time.monotonic()

    def prompt(self, slot: str, talk: Conversation) -> Prompt | None:
        """What the model in `slot` is given for the open branch; None if it is not loaded."""
        if self._session is None or slot not in self._loaded or talk.last is None:
            return None
        return self._session.prompt(slot, talk.messages(slot))

    def stop(self) -> None:
        """End the answer in progress, and ask no other model."""
        self._halted = True
        if self._session is not None:
            self._session.stop()

    def forget(self, slot: str) -> None:
        """Nothing sits in `slot` any more."""
        if self._loaded.pop(slot, None) is not None and self._session is not None:
            self._session.unload(slot)

    @property
    def holds(self) -> bool:
        """Whether a model is in memory."""
        return self._session is not None and self._session.occupied

    @property
    def idle_since(self) -> float:
        """When the last answer ended (by `time.monotonic`)."""
        return self._used

    def close(self) -> None:
        """Free everything."""
        session, self._session = self._session, None
        self._loaded.clear()
        if session is not None:
            session.close()

    def _try(self, slot: str, candidate: Candidate, audience: Audience) -> bool:
        """Whether the model is there now."""
        if self._halted:
            return False
        try:
            self._load(slot, candidate, audience)
        except Problem as problem:
            audience.failed(slot, problem)
            return False
        return True

    def _load(self, slot: str, candidate: Candidate, audience: Audience) -> None:
        from engine.chat.session import ChatSession

        if self._session is None:
            self._session = ChatSession(self._settings)
        known = self._loaded.get(slot)
        if known is None or known[0] != candidate.spec or not self._session.holds(slot):
            audience.loading(slot)
            self._session.busy = frozenset(busy_gpus(self._workspace))
            spec = ready(candidate)
            self._loaded.pop(slot, None)
            loaded = self._session.load(
                slot,
                msgspec.structs.replace(spec, share=spec.share or self.share),
                lambda line: audience.starting(slot, line),
            )
            self._loaded[slot] = spec, loaded
        audience.loaded(slot, self._loaded[slot][1])

    def _answer(
        self,
        slot: str,
        candidate: Candidate,
        talk: Conversation,
        sampling: Sampling,
        audience: Audience,
    ) -> None:
        from engine.chat.session import Token

        assert self._session is not None
        if not self._session.holds(slot):  # it died while another model answered
            self._load(slot, candidate, audience)
        waiting, shown = "", 0.0  # the first piece at once
        messages = talk.messages(slot)
        for event in self._session.generate(slot, messages, sampling, lambda: audience.begun(slot)):
            if not isinstance(event, Token):
                audience.answered(slot, event)
                return
            waiting += event.text
            if time.monotonic() - shown >= FLUSH:
                audience.piece(slot, waiting)
                waiting, shown = "", time.monotonic()
