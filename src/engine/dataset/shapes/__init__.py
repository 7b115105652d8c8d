"""The shapes a row can have, and what XTuner needs of each.

A shape is one entry of `SHAPES`, or made by a map function (`by_name` of a module's
path or of an XTuner function's name). Standard library only: the dataset worker
uses these modules too.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

from engine.dataset.shapes.base import ERROR, WARNING, Finding, Found, Shape, Turn, errors, kind
from engine.dataset.shapes.columns import ALPACA, ALPACA_OWN
from engine.dataset.shapes.mapped import by_function, by_mapping, is_mapped
from engine.dataset.shapes.messages import OPENAI, OPENAI_OWN, SHAREGPT
from engine.dataset.shapes.xtuner import TEXT, XTUNER
from engine.errors import Problem
from engine.i18n import _
from engine.text import whole

__all__ = [
    "ERROR", "SHAPES", "WARNING", "Finding", "Found", "Shape", "Turn", "by_mapping", "by_name",
    "conversation", "detect", "detect_all", "errors", "first_words", "kind", "loss_marks",
    "turns", "unknown", "unmarked",
]  # fmt: skip

SHAPES = (XTUNER, OPENAI, OPENAI_OWN, SHAREGPT, ALPACA, ALPACA_OWN, TEXT)
"""In the order in which they are tried."""
_BY_NAME = {shape.name: shape for shape in SHAPES}


def by_name(name: str) -> Shape:
    """The shape called `name`, or that of the map function `name`: a .py file, or XTuner's.

    Raises `Problem` for an unknown one.
    """
    if name in _BY_NAME:
        return _BY_NAME[name]
    if is_mapped(name):
        return by_function(name)
    raise Problem(
        _("There is no shape called {name}").format(name=name or "''"),
        todo=_("Known shapes: {names}.").format(names=", ".join(_BY_NAME)),
    )


def detect(row: Any) -> str:
    """The name of the shape that `row` has, or ""."""
    return next((shape.name for shape in SHAPES if shape.matches(row)), "")


def detect_all(rows: Iterable[Any]) -> str:
    """The shape that most of `rows` have (or one that takes those rows too), or ""."""
    counted = Counter(name for row in rows if (name := detect(row)))
    if not counted:
        return ""
    most = counted.most_common(1)[0][0]
    return next((name for name in counted if most in _BY_NAME[name].covers), most)


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


def loss_marks(row: Any, shape: str = "xtuner") -> tuple[bool, bool]:
    """Whether some turns of `row` say if their answer is trained on, and whether some do not.

    A file must do the one or the other throughout: where only some turns say it,
    the datasets library fills in null for the rest, and XTuner takes that for no.
    """
    mark = by_name(shape).loss_mark if shape else None
    if mark is None or not isinstance(row, dict):
        return False, False
    column, key = mark
    found = row.get(column)
    marks = [key in one for one in (found if isinstance(found, list) else ()) if _answers(one)]
    return any(marks), not all(marks)


def _answers(turn: Any) -> bool:
    """Whether `turn` holds an answer, of those that have a mark."""
    return isinstance(turn, dict) and turn.get("role", "assistant") == "assistant"


def unmarked(row: int, shape: str = "xtuner") -> Finding:
    """The finding for a row without loss marks in a file that has them elsewhere."""
    column, key = by_name(shape).loss_mark or ("", "")
    return Finding(
        row,
        f"{column}[].{key}",
        _("'{key}' is missing here but not elsewhere: XTuner would not train on the answer").format(
            key=key
        ),
        _("Write it in every turn, or in none."),
    )


def unknown(path: object, row: Any) -> Problem:
    """The error for a dataset none of whose first rows has a known shape."""
    if not isinstance(row, dict):
        return Problem(
            _("The rows of {path} have no shape that XTuner knows").format(path=path),
            _("Its first row is {kind}.").format(kind=kind(row)),
            _("Write rows as objects with named columns."),
        )
    names = ", ".join(str(name) for name in list(row)[:12]) or _("none")
    return Problem(
        _("The rows of {path} have no shape that XTuner knows").format(path=path),
        _("Its columns are: {names}.").format(names=names),
        _("Say what is question and answer: `tunedeck data map {path}`.").format(path=path),
    )
