"""Asks a prompt set: every question to every loaded model, each by itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from engine.chat.answer import Answer, Message, Sampling, Token
from engine.chat.set_table import Cell
from engine.chat.sets import Item
from engine.chat.sources import ModelSpec, is_endpoint
from engine.errors import Problem

GIVEN_UP = 2
"""After so many failures in a row a model is asked no more."""


class Session(Protocol):
    """What is needed of `engine.chat.session.ChatSession`."""

    def generate(
        self, slot: str, messages: Sequence[Message], sampling: Sampling
    ) -> Iterator[Token | Answer]:
        """The pieces of an answer, then the whole."""


def run(
    session: Session,
    items: Sequence[Item],
    slots: Sequence[str],
    sampling: Sampling,
    cancelled: Callable[[], bool] = lambda: False,
    system: str | None = None,
) -> Iterator[Cell]:
    """The answers as they come: all of one question, then those of the next.

    A model that fails leaves a cell with its error. Once `cancelled` nothing
    more is asked, and an answer that was cut off by it is left out.

    Args:
        session: has the models of `slots` loaded.
        items: the questions; one's own system text goes before `system`.
        slots: who is asked, in this order.
        sampling: for every answer alike.
        cancelled: asked before and after each answer.
        system: for all questions; None is each model's own.
    """
    failures = dict.fromkeys(slots, 0)
    for number, item in enumerate(items):
        for slot in slots:
            if cancelled():
                return
            if failures[slot] >= GIVEN_UP:
                continue
            try:
                answer = _answer(session, slot, item, sampling, system)
            except Problem as problem:
                failures[slot] += 1
                yield Cell(number, slot, error=problem.what)
                continue
            if answer.ended == "stopped" and cancelled():
                return
            failures[slot] = 0
            yield Cell.of(number, item, slot, answer)


def titles(specs: Mapping[str, ModelSpec]) -> dict[str, str]:
    """What to call the models of `specs`: as short as tells them apart."""
    short = {slot: _title(spec, Path(spec.model).name) for slot, spec in specs.items()}
    full = {slot: _title(spec, spec.model) for slot, spec in specs.items()}
    return short if len(set(short.values())) == len(short) else distinct(full)


def distinct(names: Mapping[str, str]) -> dict[str, str]:
    """`names` by slot, with the slot behind those that stand there twice."""
    counted = Counter(names.values())
    return {
        slot: name if counted[name] == 1 else f"{name} ({slot})" for slot, name in names.items()
    }


def _title(spec: ModelSpec, model: str) -> str:
    if is_endpoint(spec.model):
        model = spec.model
    adapter = spec.adapter if model == spec.model else Path(spec.adapter or "").name
    return f"{model} + {adapter}" if adapter else model


def _answer(
    session: Session, slot: str, item: Item, sampling: Sampling, system: str | None
) -> Answer:
    system = system if item.system is None else item.system
    messages = [] if system is None else [{"role": "system", "content": system}]
    messages.append({"role": "user", "content": item.question})
    for event in session.generate(slot, messages, sampling):
        if isinstance(event, Answer):
            return event
    raise AssertionError("an answer always ends")
