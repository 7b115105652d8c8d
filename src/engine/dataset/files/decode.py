"""One row's bytes made into a value, or into a reason with a place."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from engine.i18n import N_, _

# The reasons of Python's json module, in words for people.
_REASONS = {
    "Expecting ',' delimiter": N_("a comma or a closing bracket is missing"),
    "Expecting ':' delimiter": N_("a colon is missing"),
    "Expecting property name enclosed in double quotes": N_("a name in double quotes is missing"),
    "Expecting value": N_("a value is missing"),
    "Extra data": N_("there is more text behind the row"),
    "Illegal trailing comma before end of array": N_("a comma before the closing bracket"),
    "Illegal trailing comma before end of object": N_("a comma before the closing bracket"),
    "Invalid \\escape": N_("a backslash that escapes nothing"),
    "Invalid \\uXXXX escape": N_("\\u without four hexadecimal digits"),
    "Invalid control character at": N_("a line break or control character inside a string"),
    "Unterminated string starting at": N_("a string that is not closed"),
}


_CHINESE = re.compile(rb"(?:[\xa1-\xf7][\xa1-\xfe]){2,}(?![\x80-\xff])")
"""Two characters or more and nothing else up to the next ASCII one, as GB2312, the best part of
GBK, writes them."""


class BadRow(ValueError):
    """The bytes are no JSON value. `offset` counts bytes from the row's first one."""

    def __init__(self, reason: str, offset: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.offset = offset


class Place(NamedTuple):
    """A place in a text file, both from 1; the column counts characters."""

    line: int
    column: int

    def __str__(self) -> str:
        return _("line {line}, column {column}").format(line=self.line, column=self.column)


def decode(raw: bytes) -> Any:
    """The JSON value in `raw`. Raises `BadRow`."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise not_utf8(error) from error
    try:
        return _DECODER.decode(text)
    except BadRow:
        raise
    except json.JSONDecodeError as error:
        reason = _REASONS.get(error.msg.rstrip(":"))
        offset = len(text[: error.pos].encode("utf-8"))
        raise BadRow(_(reason) if reason else error.msg, offset) from error
    except RecursionError as error:
        raise BadRow(_("brackets nested too deep"), 0) from error
    except ValueError as error:  # a number with thousands of digits
        raise BadRow(str(error), 0) from error


def not_utf8(error: UnicodeDecodeError) -> BadRow:
    """What is wrong with the bytes that `error` is about; what they say, if they are GBK.

    A file of rows from several machines has some in the encoding of Chinese Windows.
    """
    start = error.start
    while start and error.object[start - 1] > 0x7F:  # its beginning may pass for UTF-8
        start -= 1
    found = _CHINESE.match(error.object, start)
    try:
        text = found[0].decode("gb2312") if found and _usual(found[0]) else ""
    except UnicodeDecodeError:
        text = ""
    if text:
        return BadRow(_("not UTF-8 but GBK: {text}").format(text=text[:12]), start)
    return BadRow(_("a byte that is not UTF-8"), error.start)


def _usual(text: bytes) -> bool:
    """Whether GB2312 text is mostly of the characters that are in use, sorted before the others.

    What is written in another encoding (Latin-1, a Cyrillic one, UTF-8 that is cut) can be
    read as GB2312 as well, but is then full of rare ones.
    """
    usual = sum(0xB0 <= one <= 0xD7 or one in (0xA1, 0xA3) for one in text[::2])
    return 4 * usual >= 3 * len(text[::2])


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose names are all different.

    Of a name given twice Python keeps the last value, and so do `datasets` for an
    array; for JSON Lines they refuse the whole file. Nobody means it.
    """
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _value in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise BadRow(_("the name '{name}' is given twice").format(name=twice), 0)
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_unique)
