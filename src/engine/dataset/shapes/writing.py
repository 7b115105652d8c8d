"""A question and its answer as a row of a dataset: the way back from `Shape.turns`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.dataset.mapping import Mapping, read_map_module
from engine.dataset.shapes.base import Shape, Turn, errors
from engine.dataset.shapes.xtuner import LOSS_MARK, XTUNER
from engine.errors import Problem
from engine.i18n import _

_XTUNERS_OWN = {
    "openai": Mapping(
        messages="messages",
        role="role",
        text="content",
        roles=(("system", "system"), ("user", "question"), ("assistant", "answer")),
        loss="loss",
    ),
    "alpaca": Mapping(question="instruction", extra=("input",), answer="output"),
}
"""What XTuner's own map functions do, as far as a row is written for them."""


def row_of(shape: Shape, turn: Turn, example: Any) -> dict[str, Any]:
    """A row of `shape` that says `turn`, with the keys and roles that `example` uses.

    `example` is another row of the file. The system text is written where that
    one has a place for it: a file without any leaves it to the training config.
    Raises `Problem` where a row of this shape cannot say `turn`.
    """
    example = example if isinstance(example, dict) else {}
    mapping = _mapping(shape)
    if shape.name == XTUNER.name:
        row = _conversation(turn, example)
    elif mapping is not None and mapping.messages:
        row = _messages(turn, example, mapping)
    elif mapping is not None and mapping.question:
        row = _columns(turn, example, mapping)
    else:
        row = {}
    said = [(one.input, one.output) for one in shape.turns(row)] if row else []
    if said != [turn[:2]] or errors(shape.check(0, row)):
        raise Problem(
            _("A question with its answer cannot be written as a row of this dataset"),
            _("Its shape is {shape}: what its rows need is not known.").format(shape=shape.title),
            _("Map its columns first (Data, m), or export it to another shape."),
        )
    return row


def _mapping(shape: Shape) -> Mapping | None:
    """What is where in a row; None where nobody knows (or it is XTuner's own shape)."""
    if shape.module:
        return read_map_module(Path(shape.module))
    return shape.mapping or _XTUNERS_OWN.get(shape.name)


def _conversation(turn: Turn, example: dict[str, Any]) -> dict[str, Any]:
    turns = example.get("conversation")
    first = turns[0] if isinstance(turns, list) and turns and isinstance(turns[0], dict) else {}
    row: dict[str, Any] = {"system": turn.system} if "system" in first else {}
    row |= {"input": turn.input, "output": turn.output}
    if LOSS_MARK in first:
        row[LOSS_MARK] = True
    return {"conversation": [row]}


def _messages(turn: Turn, example: dict[str, Any], mapping: Mapping) -> dict[str, Any]:
    found = example.get(mapping.messages)
    there = [one for one in (found if isinstance(found, list) else []) if isinstance(one, dict)]
    sides = dict(mapping.roles)
    # The sides are called as in the example; else what the mapping has first.
    names = {side: role for role, side in reversed(mapping.roles)}
    used = [role for one in there if isinstance(role := one.get(mapping.role), str)]
    names |= {sides[role]: role for role in used if role in sides}
    texts = [("question", turn.input), ("answer", turn.output)]
    row: dict[str, Any] = {}
    if turn.system and any(sides.get(role) == "system" for role in used):
        texts.insert(0, ("system", turn.system))
    elif mapping.system and mapping.system in example:
        row[mapping.system] = turn.system
    in_parts = any(isinstance(one.get(mapping.text), list) for one in there)
    messages: list[dict[str, Any]] = []
    for side, text in texts:
        content: Any = [{"type": "text", "text": text}] if in_parts else text
        messages.append({mapping.role: names.get(side, ""), mapping.text: content})
    if mapping.loss and any(mapping.loss in one for one in there):
        messages[-1][mapping.loss] = True
    return row | {mapping.messages: messages}


def _columns(turn: Turn, example: dict[str, Any], mapping: Mapping) -> dict[str, Any]:
    row = {mapping.question: turn.input}
    row |= dict.fromkeys((name for name in mapping.extra if name in example), "")
    row[mapping.answer] = turn.output
    if mapping.system and mapping.system in example:
        row[mapping.system] = turn.system
    return row
