"""A prompt set: a file of questions, each with what a right answer holds, where that is known.

A JSON array or JSON Lines (texts, or objects with the fields of `Item`), CSV or
TSV with a header, or plain text with one question a line.
"""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from engine.errors import Problem
from engine.i18n import _
from engine.text import whole

MOST_BYTES = 32 << 20
"""A larger file is a dataset, not a set of questions."""
_TABLES = {".csv": ",", ".tsv": "\t"}
_QUESTION = ("question", "prompt")
"""The field that holds the question: the first that is there."""
_GAPS = re.compile(r"\s+")
_Numbered = tuple[int, Any]
"""A line of the file, counted from 1, and what begins there."""


class Item(msgspec.Struct, frozen=True):
    """One question.

    An answer is right when it holds `expected` (upper and lower case, and the
    kind and number of spaces, do not count), or when `pattern`, a regular
    expression, is found in it; with both, when both hold. `system` None is the
    model's own system text.
    """

    id: str
    question: str
    expected: str = ""
    pattern: str = ""
    system: str | None = None

    def right(self, answer: str) -> bool | None:
        """Whether `answer` is right; None when nobody said what is."""
        if not self.expected and not self.pattern:
            return None
        holds = _alike(self.expected) in _alike(answer)
        return holds and (not self.pattern or re.search(self.pattern, answer) is not None)

    @property
    def wanted(self) -> str:
        """What a right answer holds, for a person."""
        pattern = f"/{self.pattern}/" if self.pattern else ""
        return "  ".join(filter(None, (self.expected, pattern)))


def read(path: Path) -> list[Item]:
    """The questions in `path`; raises `Problem` that names the line of what is wrong."""
    text = _text(path)
    suffix = path.suffix.lower()
    try:
        if suffix in _TABLES:
            found = list(_rows(text, _TABLES[suffix]))
        elif suffix in (".jsonl", ".ndjson"):
            found = list(_lines(text))
        elif suffix == ".json":
            found = list(_array(text))
        else:
            found = list(_plain(text))
        items = [_item(value, line, number) for number, (line, value) in enumerate(found, 1)]
    except _Wrong as wrong:
        raise Problem(
            _("Cannot read the questions in {path}").format(path=path),
            _("Line {line}: {why}").format(line=wrong.line, why=wrong.why),
            wrong.todo,
        ) from wrong
    if not items:
        raise Problem(
            _("Cannot read the questions in {path}").format(path=path),
            _("There is none in it."),
            _("Write one question a line, or a JSON list of them."),
        )
    _refuse_twice(items, found, path)
    return items


class _Wrong(Exception):
    """What is wrong, and in which line."""

    def __init__(self, line: int, why: str, todo: str = "") -> None:
        super().__init__(why)
        self.line, self.why, self.todo = line, why, todo


def _text(path: Path) -> str:
    what = _("Cannot read the questions in {path}").format(path=path)
    try:
        if path.stat().st_size > MOST_BYTES:
            todo = _("Take a part of it: `tunedeck data head`.")
            raise Problem(what, _("It is larger than {n} MB.").format(n=MOST_BYTES >> 20), todo)
        raw = path.read_bytes()
    except OSError as error:
        raise Problem(what, error.strerror or str(error), _("Check the path.")) from error
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        why = _("Line {line}: {why}").format(line=line, why=_("It is not UTF-8."))
        raise Problem(what, why, _("Save the file as UTF-8.")) from error


def _plain(text: str) -> Iterator[_Numbered]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, line.strip()


def _lines(text: str) -> Iterator[_Numbered]:
    for number, line in _plain(text):
        yield number, _decoded(line, number)


def _decoded(text: str, line: int) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _Wrong(line, _("It is not right JSON: {error}").format(error=error)) from error


def _array(text: str) -> Iterator[_Numbered]:
    """The members of a JSON array, each with its line."""
    decoder = json.JSONDecoder()
    at = _past_space(text, 0)
    if text[at : at + 1] != "[":
        todo = _("Write a list: [{example}, …]").format(example='"Who are you?"')
        raise _Wrong(text.count("\n", 0, at) + 1, _("The file does not begin with a list."), todo)
    at = _past_space(text, at + 1)
    while text[at : at + 1] != "]":
        line = text.count("\n", 0, at) + 1
        try:
            value, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            why = _("It is not right JSON: {error}").format(error=error.msg)
            raise _Wrong(error.lineno, why) from error
        except RecursionError as error:
            why = _("It is not right JSON: {error}").format(error=error)
            raise _Wrong(line, why) from error
        yield line, value
        at = _past_space(text, at)
        if text[at : at + 1] == ",":
            at = _past_space(text, at + 1)
        elif text[at : at + 1] != "]":
            line = text.count("\n", 0, at) + 1
            raise _Wrong(line, _("A comma or the list's end is missing here."))


def _past_space(text: str, at: int) -> int:
    while text[at : at + 1] in (" ", "\t", "\r", "\n"):
        at += 1
    return at


def _rows(text: str, separator: str) -> Iterator[_Numbered]:
    begin = 1
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        names = reader.fieldnames or []
        if not set(_QUESTION) & set(names):
            todo = _("Name the columns in the first line; one must be 'question'.")
            why = _("No column is called 'question' (there: {names}).")
            raise _Wrong(1, why.format(names=", ".join(names) or _("none")), todo)
        begin = reader.line_num + 1
        for row in reader:
            if None in row:
                raise _Wrong(begin, _("It has more fields than the first line names."))
            # An empty cell is one that was not filled in.
            yield begin, {name: value for name, value in row.items() if value}
            begin = reader.line_num + 1
    except csv.Error as error:
        raise _Wrong(begin, str(error)) from error


def _item(value: Any, line: int, number: int) -> Item:
    if isinstance(value, str):
        value = {"question": value}
    if not isinstance(value, Mapping):
        raise _Wrong(line, _("It is neither a text nor an object with a 'question'."))
    question = next((name for name in _QUESTION if name in value), "question")
    system = value.get("system")
    item = Item(
        id=_field(value, "id", line) or str(number),
        question=_field(value, question, line),
        expected=_field(value, "expected", line),
        pattern=_field(value, "pattern", line),
        system=None if system is None else _field(value, "system", line),
    )
    if not item.question.strip():
        raise _Wrong(line, _("The question is missing."), _("Write it as 'question'."))
    try:
        re.compile(item.pattern)
    except (re.error, OverflowError, RecursionError) as error:
        why = _("The pattern is no regular expression: {error}").format(error=error)
        raise _Wrong(
            line, why, _("A text to be found as it stands goes into 'expected'.")
        ) from None
    return item


def _field(value: Mapping[str, Any], name: str, line: int) -> str:
    found = value.get(name)
    if found is None:
        return ""
    if isinstance(found, bool | int | float):
        found = json.dumps(found)
    if not isinstance(found, str):
        raise _Wrong(line, _("'{name}' is not a text.").format(name=name))
    return whole(found)


def _refuse_twice(items: list[Item], found: list[_Numbered], path: Path) -> None:
    seen: dict[str, int] = {}
    for item, (line, _value) in zip(items, found, strict=True):
        if item.id in seen:
            why = _("The id {id} stands there already, in line {first}.")
            raise Problem(
                _("Cannot read the questions in {path}").format(path=path),
                _("Line {line}: {why}").format(
                    line=line, why=why.format(id=item.id, first=seen[item.id])
                ),
                _("Give each question an id of its own, or none."),
            )
        seen[item.id] = line


def _alike(text: str) -> str:
    return _GAPS.sub(" ", unicodedata.normalize("NFKC", text)).strip().casefold()
