"""String literals inside JSON text, found and changed without touching anything else."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import NamedTuple

_TOKEN = re.compile(r'"(?P<string>[^"\\]*(?:\\.[^"\\]*)*)"|[{}\[\],]', re.S)
_COLON = re.compile(r"[ \t\r\n]*:")
_ESCAPE = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"  # a pair is one character
    r"|\\u[0-9a-fA-F]{4}|\\."
)


class Literal(NamedTuple):
    """A string that is a value: where its text lies between the quotes, and what it belongs to.

    `keys` are the names of the objects around it; `field` adds the places in
    lists: ``conversation[0].output``.
    """

    start: int
    end: int
    keys: tuple[str, ...]
    field: str


class _Level:
    """An object or a list that is open while reading."""

    __slots__ = ("index", "key", "listed")

    def __init__(self, listed: bool) -> None:
        self.listed = listed
        self.index = 0
        self.key = ""


def literals(text: str) -> Iterator[Literal]:
    """The string values in `text`, which is right JSON; names of objects are left out."""
    levels: list[_Level] = []
    place = 0
    while (token := _TOKEN.search(text, place)) is not None:
        place = token.end()
        mark = token[0]
        if mark in "{[":
            levels.append(_Level(mark == "["))
        elif mark in "}]":
            levels.pop()
        elif mark == ",":
            levels[-1].index += 1
        elif levels and not levels[-1].listed and (colon := _COLON.match(text, place)) is not None:
            levels[-1].key = json.loads(mark)
            place = colon.end()
        else:
            keys = tuple(level.key for level in levels if not level.listed)
            yield Literal(token.start("string"), token.end("string"), keys, _field(levels))


def _field(levels: list[_Level]) -> str:
    parts = [f"[{level.index}]" if level.listed else f".{level.key}" for level in levels]
    return "".join(parts).removeprefix(".")


class Change(NamedTuple):
    """A literal's new text as it stands between the quotes, and both texts as people read them."""

    raw: str
    before: str
    after: str
    times: int


def substitute(
    raw: str, pattern: re.Pattern[str], new: Callable[[re.Match[str]], str], escape: bool
) -> Change | None:
    """Replace what `pattern` finds in the literal `raw` (the text between its quotes).

    Escapes are seen through (``\\u5c16`` is 尖), and what is not replaced keeps its
    spelling. With `escape` what is put in is written in ASCII, as it also is where
    it replaces something written with ``\\u``. None when nothing is found.
    """
    text: str = json.loads(f'"{raw}"', strict=False) if "\\" in raw else raw
    spelling = _Spelling(raw)
    pieces: list[str] = []
    after: list[str] = []
    done, count = 0, 0
    for match in pattern.finditer(text):
        put = new(match)
        start, end = spelling.place(match.start()), spelling.place(match.end())
        spelled = raw[start:end]
        ascii_only = "\\u" in spelled or (escape and spelled.isascii())
        pieces += [raw[spelling.place(done) : start], spell(put, ascii_only)]
        after += [text[done : match.start()], put]
        done, count = match.end(), count + 1
    if count == 0:
        return None
    pieces.append(raw[spelling.place(done) :])
    after.append(text[done:])
    return Change("".join(pieces), text, "".join(after), count)


class _Spelling:
    """Where each character of a literal's decoded text stands in the literal."""

    def __init__(self, raw: str) -> None:
        self._behind: list[int] = []  # the decoded place behind each escape
        self._extra: list[int] = []  # how much longer the literal is than the text up to there
        extra = 0
        for escape in _ESCAPE.finditer(raw) if "\\" in raw else ():
            extra += escape.end() - escape.start() - 1
            self._behind.append(escape.end() - extra)
            self._extra.append(extra)

    def place(self, index: int) -> int:
        """The place in the literal of the decoded text's `index`."""
        escapes = bisect_right(self._behind, index)
        return index + (self._extra[escapes - 1] if escapes else 0)


def spell(text: str, ascii_only: bool) -> str:
    """`text` as it is written between a literal's quotes."""
    lone = any("\ud800" <= character <= "\udfff" for character in text)
    return json.dumps(text, ensure_ascii=ascii_only or lone)[1:-1]
