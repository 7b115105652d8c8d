"""Texts that can be trained on, but hardly say what their author meant.

What is looked for has nothing to do with a shape: marks of the prompt template
or the tokenizer inside a text, control characters, damaged characters.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from engine.dataset.shapes import Turn
from engine.i18n import N_, _

SPECIAL_TOKEN = "special-token"
TEMPLATE_MARK = "template-mark"
CONTROL = "control-character"
DAMAGED = "damaged-character"
EMPTY_ANSWER = "empty-answer"
DUPLICATE = "duplicate"
MIXED = "mixed-column"
SHAPE = "shape"
"""The codes of warnings; `SHAPE` is what a shape itself warns of."""


class Warned(NamedTuple):
    """What is odd about a field of a row, and what to do about it."""

    row: int
    field: str
    code: str
    reason: str
    remedy: str


# Tabs and line breaks are text. C1 controls are what UTF-8 read as Latin-1 leaves.
_CONTROL = "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"
_DAMAGED = "\ufffd\ufffe\uffff\ufeff"
_ODD = re.compile(f"[{_CONTROL}{_DAMAGED}]")
_NAMES = {
    "\ufffd": N_("the replacement character, left where a text was decoded wrongly"),
    "\ufeff": N_("a byte order mark inside the text"),
    "\ufffe": N_("no character at all"),
    "\uffff": N_("no character at all"),
}
_QUESTIONS = ("input", "instruction", "system", "question", "prompt")
_MARKS = re.compile(r"<[^\s<>{}]+>|\[/?[A-Z_]+\]")


class Marks:
    """What must not stand in a text: the tokenizer's special tokens, the template's marks."""

    def __init__(self, special: Iterable[str] = (), template: Iterable[str] = ()) -> None:
        self.special = frozenset(token for token in special if token.strip())
        everything = sorted(self.special.union(template), key=len, reverse=True)
        self._firsts = tuple({mark[0] for mark in everything})
        self._pattern = re.compile("|".join(map(re.escape, everything)))

    @classmethod
    def of(cls, tokenizer: Any, template: Mapping[str, Any]) -> Marks:
        """Those of a tokenizer and of one of XTuner's prompt templates."""
        added = getattr(tokenizer, "added_tokens_decoder", {}).values()
        special = {str(token) for token in added if getattr(token, "special", False)}
        parts = [part for part in template.values() if isinstance(part, str)]
        return cls(
            special.union(tokenizer.all_special_tokens),
            {mark for part in parts for mark in _MARKS.findall(part)},
        )

    def find(self, text: str) -> str | None:
        """The first mark in `text`."""
        if not any(first in text for first in self._firsts):
            return None
        found = self._pattern.search(text)
        return found[0] if found else None


def look(index: int, row: Any, turns: list[Turn], marks: Marks) -> Iterator[Warned]:
    """What is odd about the texts of `row`, whose questions and answers are `turns`."""
    yield from _empty(index, row, turns)
    seen = "\n".join(part for turn in turns for part in turn)
    if _ODD.search(seen) is None and marks.find(seen) is None:
        return  # as nearly always
    for field, text in texts(row):
        if text and text in seen:  # other columns never reach the model
            yield from _odd(index, field, text, marks)


def _odd(index: int, field: str, text: str, marks: Marks) -> Iterator[Warned]:
    mark = marks.find(text)
    if mark is not None and mark in marks.special:
        yield Warned(
            index,
            field,
            SPECIAL_TOKEN,
            _("the text holds {token}, which becomes the special token").format(token=mark),
            _("Remove it, or write it in another way."),
        )
    elif mark is not None:
        yield Warned(
            index,
            field,
            TEMPLATE_MARK,
            _("the text holds {mark}, a mark of the prompt template").format(mark=mark),
            _("Remove it: the template adds its own."),
        )
    for code, characters in ((CONTROL, _CONTROL), (DAMAGED, _DAMAGED)):
        found = re.search(f"[{characters}]", text)
        if found is not None:
            yield Warned(index, field, code, _name(found[0]), _("Remove it, or clean the source."))


def _name(character: str) -> str:
    place = f"U+{ord(character):04X}"
    known = _NAMES.get(character)
    if known is not None:
        return f"{place}: " + _(known)
    return _("the text holds the control character {place}").format(place=place)


def _empty(index: int, row: Any, turns: list[Turn]) -> Iterator[Warned]:
    """The answers without a word."""
    numbers = [number for number, turn in enumerate(turns) if not turn.output.strip()]
    if not numbers:
        return
    blank = [field for field, text in texts(row) if not text.strip()]
    fields = iter(field for field in blank if not field.endswith(_QUESTIONS))
    for number in numbers:
        reason = (
            _("the answer is empty")
            if len(turns) == 1
            else _("the answer of turn {number} is empty").format(number=number)
        )
        remedy = _("Write an answer, or remove the row: the model learns to say nothing.")
        yield Warned(index, next(fields, ""), EMPTY_ANSWER, reason, remedy)


def texts(value: Any, field: str = "") -> Iterator[tuple[str, str]]:
    """Every text in `value` with its place: ``conversation[0].output``."""
    if isinstance(value, str):
        yield field, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from texts(item, f"{field}.{key}" if field else str(key))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from texts(item, f"{field}[{number}]")


def duplicate(row: int, first: int) -> Warned:
    """The warning for a row that says what an earlier one says."""
    return Warned(
        row,
        "",
        DUPLICATE,
        _("the same questions and answers as row {first}").format(first=first),
        _("Remove one of them, unless it is to count twice."),
    )


def mixed(row: int, column: str, here: str, first: int, there: str) -> Warned:
    """The warning for a column that holds another kind of value than before."""
    return Warned(
        row,
        column,
        MIXED,
        _("'{column}' is {here} here and {there} in row {first}").format(
            column=column, here=here, there=there, first=first
        ),
        _("Write it in one way: older versions of the datasets library refuse such a file."),
    )
