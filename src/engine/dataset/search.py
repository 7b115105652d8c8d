"""Find the rows of a dataset that hold a text, in the order of the file, as they turn up."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from engine.dataset.files.decode import BadRow, decode
from engine.dataset.files.offsets import Cancelled, Progress
from engine.dataset.reader import Dataset
from engine.errors import Failed, Problem
from engine.i18n import _

LITERALS = ("json", "jsonl")
"""Formats whose rows are JSON text: most of their rows are told apart without decoding them."""
_EVERY = 512
"""Rows between two looks at whether anybody still waits."""
_SHORT = frozenset('\n\r\t\b\f"\\/')
"""Characters with an escape of their own in JSON."""


class Query:
    """What is looked for: a text as it stands, or with `regex` a pattern of Python's ``re``.

    Only values count, at any depth: names of columns match nothing, else a word
    such as "output" would find every row. Raises `Problem` for an empty text and
    for a pattern that is none.
    """

    def __init__(self, text: str, regex: bool = False) -> None:
        if not text:
            raise Problem(_("Nothing to look for"), "", _("Type a text first."))
        self.text = text
        self.regex = regex
        try:
            self.pattern = re.compile(text if regex else re.escape(text))
        except (re.error, RecursionError, OverflowError) as error:
            raise Problem(
                _("{pattern} is not a regular expression").format(pattern=text),
                str(error),
                _("Correct it, or look for the text as it is."),
            ) from error
        self._may_hold = _any if regex else _spelled(text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Query) and (self.text, self.regex) == (other.text, other.regex)

    def __hash__(self) -> int:
        return hash((self.text, self.regex))

    def holds(self, value: Any) -> bool:
        """Whether a text or number in `value` (decoded JSON) matches."""
        if isinstance(value, str):
            return self.pattern.search(value) is not None
        if isinstance(value, dict):
            return any(self.holds(one) for one in value.values())
        if isinstance(value, list):
            return any(self.holds(one) for one in value)
        return value is not None and self.pattern.search(str(value)) is not None

    def holds_raw(self, content: bytes) -> bool:
        """The same for a row's JSON text; of broken JSON the text itself counts."""
        if not self._may_hold(content):
            return False
        try:
            return self.holds(_decode(content))
        except (BadRow, RecursionError):
            return self.pattern.search(content.decode("utf-8", "replace")) is not None


def search(
    dataset: Dataset,
    query: Query,
    *,
    start: int = 0,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Iterator[int]:
    """The numbers of the rows from `start` on that match, each as soon as it is found.

    `progress` gets rows looked at and rows in all (0 while that is unknown).
    Raises `Failed` when cancelled. Opens nothing and keeps nothing, so several
    searches may run on one dataset.
    """
    for index, matches in _looked_at(dataset, query, start):
        if matches:
            yield index
        if index % _EVERY == 0:
            if progress is not None:
                progress(index, dataset.rows or 0)
            if cancelled is not None and cancelled():
                raise Failed(_("Stopped before the whole file was searched"))
    if progress is not None:
        rows = dataset.index()
        progress(rows, rows)


def _looked_at(dataset: Dataset, query: Query, start: int) -> Iterator[tuple[int, bool]]:
    """Every row from `start` on: its number, and whether it matches."""
    if dataset.format in LITERALS:
        for index, span in dataset.spans():
            if index >= start:
                yield index, query.holds_raw(dataset.content(span))
        return
    for row in dataset.records(start):
        yield row.index, row.problem is None and query.holds(row.value)


def _decode(content: bytes) -> Any:
    try:
        return msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return decode(content)  # takes what Python's json takes: NaN, lone surrogates


def _any(_content: bytes) -> bool:
    return True


def _spelled(text: str) -> Callable[[bytes], bool]:
    """A quick look at a row's bytes: False when `text` is surely not in it.

    JSON may spell each character in several ways (尖, ``\\u5c16``, ``\\n``), and a
    row may mix them. Where it is not spelled plainly, one of its characters tells
    rows apart; a row that passes is decoded to be sure.
    """
    plain = text.encode("utf-8", "surrogatepass")
    escape = b"\\" if _SHORT.intersection(text) else b"\\u00" if text.isascii() else b"\\u"
    telling = min((one for one in set(text) if one > "\x7f"), key=_letters, default="")
    signs = [telling.encode("utf-8", "surrogatepass"), *_escapes(telling)] if telling else []

    def may_hold(content: bytes) -> bool:
        if plain in content:
            return True
        if escape not in content:
            return False
        return not signs or any(sign in content for sign in signs)

    return may_hold


def _escapes(character: str) -> list[bytes]:
    """All spellings of `character` with ``\\u``; hexadecimal letters may be small or capital."""
    units = character.encode("utf-16-be", "surrogatepass")
    escape = "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
    cases = [(one, one.upper()) if one in "abcdef" else (one,) for one in escape]
    return ["".join(spelling).encode() for spelling in itertools.product(*cases)]


def _letters(character: str) -> tuple[int, int]:
    """Fewest first: characters whose code has few letters have few spellings."""
    code = character.encode("utf-16-be", "surrogatepass").hex()
    return sum(one.isalpha() for one in code), ord(character)
