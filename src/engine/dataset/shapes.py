"""The shapes a row can have, and what XTuner needs of each.

A shape is one entry of `SHAPES`. Standard library only: the dataset worker uses
this module too.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from engine.errors import Problem
from engine.i18n import _
from engine.text import whole


class Turn(NamedTuple):
    """One question and its answer."""

    input: str
    output: str
    system: str = ""


@dataclass(frozen=True)
class Finding:
    """What is wrong with a field of a row, and what to do about it."""

    row: int
    field: str
    reason: str
    remedy: str


Found = tuple[str, str, str]
"""A finding before it has a row: field, reason, remedy."""

LOSS_MARK = "output_with_loss"
"""In a turn of XTuner's shape: false for an answer that is not to be trained on."""
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Shape:
    """How rows of one kind are recognised, read and checked.

    `map_fn` is the name of XTuner's function that turns such a row into a
    ``conversation`` (the config's ``dataset_map_fn``), None where none is needed.
    """

    name: str
    title: str
    map_fn: str | None
    columns: tuple[str, ...]
    turns: Callable[[dict[str, Any]], list[Turn]]
    problems: Callable[[dict[str, Any]], list[Found]]

    def matches(self, row: Any) -> bool:
        """Whether `row` has this shape's columns."""
        return isinstance(row, dict) and all(column in row for column in self.columns)

    def check(self, index: int, row: Any) -> list[Finding]:
        """Everything that keeps XTuner from training on `row`; empty when it is right."""
        if not isinstance(row, dict):
            reason = _("the row is {kind}, not an object").format(kind=kind(row))
            found = [("", reason, _("Write it as an object with named columns, or remove it."))]
        else:
            found = self.problems(row)
        return [Finding(index, *problem) for problem in found]


def kind(value: Any) -> str:
    """What a JSON value is, in words."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return _("true or false")
    if isinstance(value, int | float):
        return _("a number")
    if isinstance(value, str):
        return _("a text")
    return _("a list") if isinstance(value, list) else _("an object")


def _text_problem(holder: dict[str, Any], key: str, field: str) -> Found | None:
    """What is wrong with a text that must be there."""
    if key not in holder:
        others = ", ".join(str(name) for name in list(holder)[:8]) or _("none")
        reason = _("'{key}' is missing (there: {others})").format(key=key, others=others)
        return field, reason, _("Add '{key}', or rename the column that holds it.").format(key=key)
    value = holder[key]
    if not isinstance(value, str):
        reason = _("'{key}' is {kind}, not a text").format(key=key, kind=kind(value))
        return field, reason, _("Write a text there, or remove the row.")
    if _LONE_SURROGATE.search(value):
        reason = _("'{key}' holds half a character (a lone \\ud800–\\udfff)").format(key=key)
        return field, reason, _("Remove that escape, or write the whole character.")
    return None


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _xtuner_turns(row: dict[str, Any]) -> list[Turn]:
    conversation = row.get("conversation")
    if not isinstance(conversation, list):
        return []
    return [
        Turn(*(_as_text(turn.get(key)) for key in ("input", "output", "system")))
        for turn in conversation
        if isinstance(turn, dict)
    ]


def _xtuner_problems(row: dict[str, Any]) -> list[Found]:
    if "conversation" not in row:
        problem = _text_problem(row, "conversation", "conversation")
        return [problem] if problem else []
    conversation = row["conversation"]
    if not isinstance(conversation, list):
        reason = _("'conversation' is {kind}, not a list").format(kind=kind(conversation))
        remedy = _('Write it as a list of turns: [{"input": "…", "output": "…"}].')
        return [("conversation", reason, remedy)]
    found: list[Found] = []
    for number, turn in enumerate(conversation):
        field = f"conversation[{number}]"
        if not isinstance(turn, dict):
            reason = _("turn {number} is {kind}, not an object").format(
                number=number, kind=kind(turn)
            )
            found.append((field, reason, _('Write it as {"input": "…", "output": "…"}.')))
            continue
        for key in ("input", "output", "system"):
            # XTuner takes a question or a system text that is null or missing for an empty one.
            if turn.get(key) is None and (key == "system" or (key == "input" and key in turn)):
                continue
            problem = _text_problem(turn, key, f"{field}.{key}")
            found += [problem] if problem else []
        if not isinstance(turn.get(LOSS_MARK, True), bool):
            reason = _("'{key}' is {kind}, not true or false").format(
                key=LOSS_MARK, kind=kind(turn[LOSS_MARK])
            )
            found.append((f"{field}.{LOSS_MARK}", reason, _("Write true or false.")))
    return found


def loss_marks(row: Any) -> tuple[bool, bool]:
    """Whether some turns of `row` say if their answer is trained on, and whether some do not.

    A file must do the one or the other throughout: where only some turns say it,
    the datasets library fills in null for the rest, and XTuner takes that for no.
    """
    turns = row.get("conversation") if isinstance(row, dict) else None
    marks = [LOSS_MARK in turn for turn in turns or () if isinstance(turn, dict)]
    return any(marks), not all(marks)


def unmarked(row: int) -> Finding:
    """The finding for a row without loss marks in a file that has them elsewhere."""
    return Finding(
        row,
        f"conversation[].{LOSS_MARK}",
        _("'{key}' is missing here but not elsewhere: XTuner would not train on the answer").format(
            key=LOSS_MARK
        ),
        _("Write it in every turn, or in none."),
    )


def _alpaca_turns(row: dict[str, Any]) -> list[Turn]:
    question, more = _as_text(row.get("instruction")), _as_text(row.get("input"))
    return [Turn(f"{question}\n{more}" if more else question, _as_text(row.get("output")))]


def _alpaca_problems(row: dict[str, Any]) -> list[Found]:
    found = [
        problem
        for key in ("instruction", "output")
        if (problem := _text_problem(row, key, key)) is not None
    ]
    if row.get("input") is None:
        reason = _("'input' is missing: XTuner's alpaca_map_fn fails, or asks about \"None\"")
        found.append(("input", reason, _('Add "input": "" to the row.')))
    elif problem := _text_problem(row, "input", "input"):
        found.append(problem)
    return found


SHAPES = (
    Shape("xtuner", "XTuner", None, ("conversation",), _xtuner_turns, _xtuner_problems),
    Shape(
        "alpaca",
        "Alpaca",
        "alpaca_map_fn",
        ("instruction", "output"),
        _alpaca_turns,
        _alpaca_problems,
    ),
)


def by_name(name: str) -> Shape:
    """The shape called `name`. Raises `Problem` for an unknown one."""
    for shape in SHAPES:
        if shape.name == name:
            return shape
    raise Problem(
        _("There is no shape called {name}").format(name=name or "''"),
        todo=_("Known shapes: {names}.").format(names=", ".join(shape.name for shape in SHAPES)),
    )


def detect(row: Any) -> str:
    """The name of the shape that `row` has, or ""."""
    return next((shape.name for shape in SHAPES if shape.matches(row)), "")


def detect_all(rows: Iterable[Any]) -> str:
    """The shape that most of `rows` have, or ""."""
    counted = Counter(name for row in rows if (name := detect(row)))
    return counted.most_common(1)[0][0] if counted else ""


def conversation(row: Any, shape: str = "") -> list[Turn]:
    """The questions and answers in `row`; what is broken in it is left out."""
    name = shape or detect(row)
    return by_name(name).turns(row) if name and isinstance(row, dict) else []


def turns(row: Any, shape: str = "") -> int | None:
    """How many questions and answers `row` holds; None when it has no known shape."""
    return len(conversation(row, shape)) if shape or detect(row) else None


def first_words(row: Any, length: int = 80, shape: str = "") -> str:
    """The beginning of what a person asks in `row`; of its JSON where no shape fits."""
    found = conversation(row, shape)
    words = found[0].input or found[0].output if found else ""
    if not words:
        words = row if isinstance(row, str) else json.dumps(row, ensure_ascii=False)[: 4 * length]
    return whole(words.strip()[:length])


def unknown(path: object, row: Any) -> Problem:
    """The error for a dataset none of whose first rows has a known shape."""
    if isinstance(row, dict):
        names = ", ".join(str(name) for name in list(row)[:12]) or _("none")
        why = _("Its columns are: {names}.").format(names=names)
    else:
        why = _("Its first row is {kind}.").format(kind=kind(row))
    needed = "; ".join(f"{shape.title}: {', '.join(shape.columns)}" for shape in SHAPES)
    return Problem(
        _("The rows of {path} have no shape that XTuner knows").format(path=path),
        why,
        _("Rename the columns. Needed: {needed}.").format(needed=needed),
    )
