"""XTuner's own shape (`conversation`), and plain text for pre-training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from engine.dataset import suggest
from engine.dataset.shapes.base import (
    WARNING,
    Found,
    Shape,
    Turn,
    as_text,
    kind,
    list_problem,
    nothing_to_train_on,
    text_problem,
)
from engine.i18n import _

LOSS_MARK = "output_with_loss"
"""In a turn: false for an answer that is not to be trained on."""


def _turns(row: dict[str, Any]) -> list[Turn]:
    conversation = row.get("conversation")
    if not isinstance(conversation, list):
        return []
    return [
        Turn(*(as_text(turn.get(key)) for key in ("input", "output", "system")))
        for turn in conversation
        if isinstance(turn, dict)
    ]


def _problems(row: dict[str, Any]) -> list[Found]:
    problem = list_problem(row, "conversation", '[{"input": "…", "output": "…"}]')
    if problem is not None:
        return [problem]
    if not row["conversation"]:
        return [nothing_to_train_on("conversation")]
    return [
        found
        for number, turn in enumerate(row["conversation"])
        for found in _turn(turn, number, f"conversation[{number}]")
    ]


def _turn(turn: Any, number: int, field: str) -> Iterator[Found]:
    if not isinstance(turn, dict):
        reason = _("turn {number} is {kind}, not an object").format(number=number, kind=kind(turn))
        yield Found(field, reason, _('Write it as {"input": "…", "output": "…"}.'))
        return
    for key in ("input", "output", "system"):
        # XTuner takes a question or a system text that is null or missing for an empty one.
        if turn.get(key) is None and (key == "system" or (key == "input" and key in turn)):
            continue
        if problem := text_problem(turn, key, f"{field}.{key}"):
            yield problem
    if not isinstance(turn.get(LOSS_MARK, True), bool):
        reason = _("'{key}' is {kind}, not true or false").format(
            key=LOSS_MARK, kind=kind(turn[LOSS_MARK])
        )
        yield Found(f"{field}.{LOSS_MARK}", reason, _("Write true or false."))


def _of_turns(row: dict[str, Any]) -> bool:
    """Whether the column holds turns, not messages with a role each."""
    turns = row["conversation"] if isinstance(row["conversation"], list) else []
    return not any(isinstance(turn, dict) and "role" in turn for turn in turns)


def _text_problems(row: dict[str, Any]) -> list[Found]:
    if problem := text_problem(row, "text", "text"):
        return [problem]
    if row["text"].strip():
        return []
    reason = _("the text is empty: XTuner drops the row")
    return [Found("text", reason, _("Write a text, or remove the row."), WARNING)]


def _only_text(row: dict[str, Any]) -> bool:
    """Whether the text is all there is to train on."""
    return isinstance(row["text"], str) and suggest.by_names(list(row)) is None


XTUNER = Shape(
    "xtuner",
    "XTuner",
    ("conversation",),
    _turns,
    _problems,
    recognise=_of_turns,
    loss_mark=("conversation", LOSS_MARK),
)
TEXT = Shape(
    "text",
    "Plain text",
    ("text",),
    lambda row: [Turn("", as_text(row.get("text")).strip())],
    _text_problems,
    recognise=_only_text,
    map_fn="pretrain_map_fn",
    templated=False,
)
