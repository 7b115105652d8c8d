"""Rows with a list of messages: OpenAI, ShareGPT, and what a mapping makes such."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from engine.dataset.mapping import Mapping, apply
from engine.dataset.shapes.base import (
    WARNING,
    Found,
    Shape,
    Turn,
    as_text,
    half_character,
    kind,
    list_problem,
    missing,
    nothing_to_train_on,
)
from engine.dataset.suggest import ROLES
from engine.i18n import _


def message_turns(row: dict[str, Any], mapping: Mapping) -> list[Turn]:
    """The turns in `row`, as far as it can be read."""
    sides = dict(mapping.roles)
    found = row.get(mapping.messages)
    messages = [
        {mapping.role: one[mapping.role], mapping.text: message_text(one.get(mapping.text))}
        for one in (found if isinstance(found, list) else ())
        if isinstance(one, dict) and as_text(one.get(mapping.role)) in sides
    ]
    readable = {mapping.messages: messages, mapping.system: as_text(row.get(mapping.system))}
    return [
        Turn(turn["input"], turn["output"], turn["system"]) for turn in apply(mapping, readable)
    ]


def message_text(value: Any) -> str:
    """The text of a message, or of its text parts."""
    if isinstance(value, list):
        parts = (part.get("text") for part in value if isinstance(part, dict))
        return "".join(part for part in parts if isinstance(part, str))
    return value if isinstance(value, str) else ""


def message_problems(row: dict[str, Any], mapping: Mapping, xtuners: bool = False) -> list[Found]:
    """What the map function cannot take in `row`, leaves out or joins.

    `xtuners`: the function is XTuner's openai_map_fn, not a module of ours.
    """
    column = mapping.messages
    example = f'[{{"{mapping.role}": "…", "{mapping.text}": "…"}}]'
    problem = list_problem(row, column, example)
    if problem is not None:
        return [problem]
    found: list[Found] = []
    for number, message in enumerate(row[column]):
        found += _message(message, f"{column}[{number}]", mapping, xtuners)
    if any(problem.level != WARNING for problem in found):
        return found
    sides = dict(mapping.roles)
    order = [sides[message[mapping.role]] for message in row[column]]
    return found + list(_order(order, column, xtuners))


def _message(message: Any, field: str, mapping: Mapping, xtuners: bool) -> Iterator[Found]:
    """What is wrong with one message by itself."""
    if not isinstance(message, dict):
        reason = _("the message is {kind}, not an object").format(kind=kind(message))
        example = f'{{"{mapping.role}": "…", "{mapping.text}": "…"}}'
        yield Found(field, reason, _("Write it as {example}.").format(example=example))
        return
    role = message.get(mapping.role)
    sides = dict(mapping.roles)
    if mapping.role not in message:
        yield missing(message, mapping.role, f"{field}.{mapping.role}")
    elif as_text(role) not in sides:
        shown = f"'{role}'" if isinstance(role, str) else kind(role)
        reason = _("the role is {role}, which the map function does not take").format(role=shown)
        remedy = _("Use one of {roles}; or map it: `tunedeck data map FILE --role ROLE=SIDE`.")
        yield Found(f"{field}.{mapping.role}", reason, remedy.format(roles=", ".join(sides)))
    if mapping.text not in message:
        yield missing(message, mapping.text, f"{field}.{mapping.text}")
    else:
        yield from _content(message[mapping.text], field, mapping.text, xtuners)
    if mapping.loss and str(message.get(mapping.loss, True)).lower() not in ("true", "false"):
        value = message[mapping.loss]
        if value is not None or xtuners:
            reason = _("'{key}' is {kind}, not true or false").format(
                key=mapping.loss, kind=kind(value)
            )
            yield Found(f"{field}.{mapping.loss}", reason, _("Write true or false."))


def _content(value: Any, field: str, key: str, xtuners: bool) -> Iterator[Found]:
    """What is wrong with what a message says."""
    place = f"{field}.{key}"
    if isinstance(value, list) and xtuners:
        reason = _("'{key}' is in parts, which XTuner's openai_map_fn cannot take").format(key=key)
        remedy = _("Choose the shape {shape}, which joins them.").format(shape=OPENAI_OWN.name)
        yield Found(place, reason, remedy)
        return
    if isinstance(value, list):
        for number, part in enumerate(value):
            is_text = isinstance(part, dict) and part.get("type") == "text"
            if not is_text or not isinstance(part.get("text"), str):
                named = part.get("type") if isinstance(part, dict) else kind(part)
                reason = _("part {number} is not text ({kind})").format(number=number, kind=named)
                yield Found(f"{place}[{number}]", reason, _("Leave only text, or remove the row."))
    elif not isinstance(value, str) and (xtuners or value is not None):
        reason = _("'{key}' is {kind}, not a text").format(key=key, kind=kind(value))
        remedy = _("Write a text there, or remove the row.")
        if value is None:
            remedy = _("Write a text there (a call of a tool is not trained on), or remove it.")
        yield Found(place, reason, remedy)
        return
    if half := half_character(message_text(value), key, place):
        yield half


def _order(order: list[str], column: str, xtuners: bool) -> Iterator[Found]:
    """What becomes of messages that are not question and answer in turn."""
    if "answer" not in order:
        yield nothing_to_train_on(column)
        return
    waiting: set[str] = set()  # what came since the last answer
    remedy = _("Put question and answer in turn, or remove the message.")
    for number, side in enumerate(order):
        reason = ""
        if side == "answer" and "question" not in waiting:
            reason = _unasked(order[:number], xtuners)
        elif side == "question" and side in waiting:
            reason = (
                _("it follows another question: XTuner writes them without a space between")
                if xtuners
                else _("it follows another question: they are joined by a line break")
            )
        elif side == "system" and side in waiting and xtuners:
            reason = _("it follows another system text: XTuner forgets that one")
        if reason:
            yield Found(f"{column}[{number}]", reason, remedy, WARNING)
        waiting = set() if side == "answer" else waiting | {side}
    if waiting:
        reason = _("no answer follows: it is left out")
        yield Found(f"{column}[{len(order) - 1}]", reason, remedy, WARNING)


def _unasked(before: list[str], xtuners: bool) -> str:
    """What becomes of an answer that has no question of its own; `before` are the sides so far."""
    first = _("it is an answer before the first question: it is left out")
    if xtuners:  # which skips answers at the very beginning only
        alone = _("no question stands before it: XTuner asks it an empty one")
        return alone if set(before) - {"answer"} else first
    joined = _("it follows another answer: they are joined by a line break")
    return joined if "question" in before else first


def _openai_problems(row: dict[str, Any]) -> list[Found]:
    return message_problems(row, _OPENAI, xtuners=True)


def _in_parts(row: dict[str, Any]) -> bool:
    """Whether the messages of an OpenAI row are written in content parts."""
    messages = row["messages"] if isinstance(row["messages"], list) else []
    return any(isinstance(one, dict) and isinstance(one.get("content"), list) for one in messages)


def _from_and_value(row: dict[str, Any]) -> bool:
    messages = row["conversations"] if isinstance(row["conversations"], list) else []
    return all(isinstance(one, dict) and "from" in one for one in messages)


_OPENAI = Mapping(
    messages="messages",
    role="role",
    text="content",
    roles=(("system", "system"), ("user", "question"), ("assistant", "answer")),
    loss="loss",
)
_OPENAI_OWN = replace(_OPENAI, roles=(*_OPENAI.roles, ("developer", "system")))
_SHAREGPT = Mapping(
    messages="conversations",
    role="from",
    text="value",
    roles=tuple((role, side) for role, side in ROLES.items() if role.isascii()),
    system="system",
)

OPENAI = Shape(
    "openai",
    "OpenAI messages",
    ("messages",),
    lambda row: message_turns(row, _OPENAI),
    _openai_problems,
    recognise=lambda row: not _in_parts(row),
    map_fn="openai_map_fn",
    loss_mark=("messages", "loss"),
)
OPENAI_OWN = Shape(
    "openai_own",
    "OpenAI messages, in parts",
    ("messages",),
    lambda row: message_turns(row, _OPENAI_OWN),
    lambda row: message_problems(row, _OPENAI_OWN),
    mapping=_OPENAI_OWN,
    covers=("openai",),
)
SHAREGPT = Shape(
    "sharegpt",
    "ShareGPT",
    ("conversations",),
    lambda row: message_turns(row, _SHAREGPT),
    lambda row: message_problems(row, _SHAREGPT),
    recognise=_from_and_value,
    mapping=_SHAREGPT,
)
