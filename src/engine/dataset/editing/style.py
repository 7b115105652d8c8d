"""How a row is spelled in its file, so that a new one can be written the same way."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable
from typing import Any

import msgspec

from engine.dataset.files.decode import BadRow, decode

_INNER = re.compile(r"\n([ \t]*)\S")
_COLONS = (": ", ":")
_COMMAS = (", ", ",")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class Style(msgspec.Struct, frozen=True):
    """One way to write JSON.

    `indent` is what one level is indented by (None: all on one line), `margin`
    the indentation of the row itself, which all its lines but the first carry.
    """

    indent: str | None = None
    margin: str = ""
    newline: str = "\n"
    comma: str = ", "
    colon: str = ": "
    ascii: bool = False

    def write(self, value: Any) -> str:
        """`value` as JSON text, beginning where the row begins."""
        text = self._dump(value, self.ascii)
        if not self.ascii and _LONE_SURROGATE.search(text):
            text = self._dump(value, True)  # a half of a character exists as an escape only
        if self.indent is None:
            return text
        return text.replace("\n", self.newline + self.margin)

    def _dump(self, value: Any, ascii_only: bool) -> str:
        comma = self.comma if self.indent is None else self.comma.rstrip()
        return json.dumps(
            value, ensure_ascii=ascii_only, indent=self.indent, separators=(comma, self.colon)
        )


def style_of(rows: Iterable[bytes]) -> Style:
    """The style in which one of `rows` (JSON texts of one file, the best first) is written.

    It is the style that writes a row as it stands to the byte; where no row can
    be written so (its numbers or escapes are spelled in ways of their own), the
    nearest to the first.
    """
    nearest: Style | None = None
    for raw in rows:
        try:
            value, text = decode(raw), raw.decode("utf-8")
        except (BadRow, UnicodeDecodeError):
            continue
        for style in _candidates(text):
            nearest = nearest or style
            if style.write(value) == text:
                return style
    return nearest or Style()


def _candidates(text: str) -> Iterable[Style]:
    """The styles that `text` may be written in, the likeliest first."""
    newline = "\r\n" if "\r\n" in text else "\n"
    indent, margin = _indentation(text.replace("\r\n", "\n"))
    likely = "\\u" in text and text.isascii()
    for ascii_only, comma, colon in itertools.product((likely, not likely), _COMMAS, _COLONS):
        yield Style(indent, margin, newline, comma, colon, ascii_only)


def _indentation(text: str) -> tuple[str | None, str]:
    """One level's indentation, None for a text on one line, and the last line's."""
    inner = _INNER.search(text)
    if inner is None:
        return None, ""
    last = text[text.rfind("\n") + 1 :]
    margin = last[: len(last) - len(last.lstrip(" \t"))]
    return inner[1].removeprefix(margin), margin
