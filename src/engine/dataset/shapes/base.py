"""What a shape is, and the words for what can be wrong with a row.

Standard library only: the dataset worker uses these modules too.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from engine.dataset.mapping import Mapping
from engine.i18n import _

ERROR, WARNING = "error", "warning"


class Turn(NamedTuple):
    """One question and its answer."""

    input: str
    output: str
    system: str = ""


@dataclass(frozen=True)
class Finding:
    """What is wrong with a field of a row, and what to do about it.

    `level` is `ERROR` for what ends XTuner's run or is trained on wrongly, `WARNING`
    for what it drops or joins in silence. (What is odd about a text whatever the
    shape, an empty answer too, is `engine.dataset.checking.suspects`' to say.)
    """

    row: int
    field: str
    reason: str
    remedy: str
    level: str = ERROR


class Found(NamedTuple):
    """A finding before it has a row."""

    field: str
    reason: str
    remedy: str
    level: str = ERROR


@dataclass(frozen=True)
class Shape:
    """How rows of one kind are recognised, read and checked, and what XTuner needs for them.

    The config's ``dataset_map_fn`` is XTuner's function `map_fn`, or a module of
    ours made of `mapping`, or the user's own `module` (a path); where all three are
    empty the rows need none. `templated` is false for text that no prompt template
    goes around (``template_map_fn=None``).
    """

    name: str
    title: str
    columns: tuple[str, ...]
    turns: Callable[[dict[str, Any]], list[Turn]]
    problems: Callable[[dict[str, Any]], list[Found]]
    recognise: Callable[[dict[str, Any]], bool] = lambda row: True
    """Whether a row that has the columns is of this shape; the first that says so wins."""
    map_fn: str = ""
    mapping: Mapping | None = None
    module: str = ""
    opaque: bool = False
    """Whether only running the map function tells what becomes of a row: `turns` and
    `problems` say nothing."""
    templated: bool = True
    covers: tuple[str, ...] = ()
    """Shapes whose rows are right in this one too: it is chosen where both are met."""
    loss_mark: tuple[str, str] | None = None
    """A list column and a key in its members that says whether an answer is trained on."""

    def matches(self, row: Any) -> bool:
        """Whether `row` is of this shape."""
        return (
            isinstance(row, dict)
            and all(column in row for column in self.columns)
            and self.recognise(row)
        )

    def check(self, index: int, row: Any) -> list[Finding]:
        """Everything that keeps XTuner from training on `row` as it is meant."""
        if not isinstance(row, dict):
            reason = _("the row is {kind}, not an object").format(kind=kind(row))
            found = [
                Found("", reason, _("Write it as an object with named columns, or remove it."))
            ]
        else:
            found = self.problems(row)
        return [Finding(index, *problem) for problem in found]


def errors(findings: list[Finding]) -> list[Finding]:
    """Those of `findings` for which XTuner cannot train on the row."""
    return [finding for finding in findings if finding.level == ERROR]


_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


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


def missing(holder: dict[str, Any], key: str, field: str) -> Found:
    """The finding for a key that is not there."""
    others = ", ".join(str(name) for name in list(holder)[:8]) or _("none")
    reason = _("'{key}' is missing (there: {others})").format(key=key, others=others)
    return Found(
        field, reason, _("Add '{key}', or rename the column that holds it.").format(key=key)
    )


def text_problem(holder: dict[str, Any], key: str, field: str) -> Found | None:
    """What is wrong with a text that must be there."""
    if key not in holder:
        return missing(holder, key, field)
    value = holder[key]
    if not isinstance(value, str):
        reason = _("'{key}' is {kind}, not a text").format(key=key, kind=kind(value))
        return Found(field, reason, _("Write a text there, or remove the row."))
    return half_character(value, key, field)


def half_character(value: str, key: str, field: str) -> Found | None:
    """The finding for a text with a lone surrogate, which no tokenizer takes."""
    if not _LONE_SURROGATE.search(value):
        return None
    reason = _("'{key}' holds half a character (a lone \\ud800–\\udfff)").format(key=key)
    return Found(field, reason, _("Remove that escape, or write the whole character."))


def list_problem(row: dict[str, Any], column: str, example: str) -> Found | None:
    """What is wrong with a column that must hold a list; `example` shows one."""
    if column not in row:
        return missing(row, column, column)
    if isinstance(row[column], list):
        return None
    reason = _("'{key}' is {kind}, not a list").format(key=column, kind=kind(row[column]))
    return Found(column, reason, _("Write it as a list: {example}.").format(example=example))


def nothing_to_train_on(field: str) -> Found:
    """The finding for a row that XTuner drops because it has no answer."""
    reason = _("there is no answer: XTuner drops the row")
    return Found(field, reason, _("Add an answer, or remove the row."), WARNING)


def as_text(value: Any) -> str:
    """`value` if it is a text, else ""."""
    return value if isinstance(value, str) else ""
