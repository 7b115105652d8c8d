"""Whether a text can be anywhere in a piece of JSON, told from its bytes alone.

JSON may spell a character in several ways (``尖``, ``\\u5c16``, ``\\u5C16``). Most
pieces of a large file hold a text in none of them, and need not be parsed.
"""

from __future__ import annotations

import json
from itertools import product

_SHORT = {'"': '\\"', "\\": "\\\\", "/": "\\/", "\b": "\\b", "\f": "\\f"}
_SHORT |= {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_MOST = 8
"""Spellings that are looked for one by one."""


class Needles:
    """Finds where a text may be. It may be wrong in one way only: it names too many places."""

    def __init__(self, text: str) -> None:
        escapes = {json.dumps(character)[1:-1] for character in text if ord(character) > 0x7E}
        escapes |= {f"\\u{ord(character):04x}" for character in text if ord(character) < 0x80}
        self._escapes = [escape.encode() for escape in escapes]
        self._raw = _spellings(text, False)
        self._ascii = _spellings(text, True)
        self._only_ascii = text.isascii()

    def places(self, piece: bytes) -> list[int] | None:
        """The places where a spelling of the text begins; None when it may be anywhere."""
        if self._raw is None:
            return None
        found = _find(piece, self._raw)
        if b"\\u" not in piece:
            return found
        # Bytes of other characters are changed too, but what is looked for is ASCII.
        lower = piece.lower()
        if not any(escape in lower for escape in self._escapes):
            return found
        if self._only_ascii or self._ascii is None or not piece.isascii():
            return None  # it may be spelled half in one way and half in the other
        if any(escape in lower for escape in self._escapes if escape.startswith(b"\\u00")):
            return None
        return sorted({*found, *_find(lower, self._ascii)})


def _spellings(text: str, ascii_only: bool) -> list[bytes] | None:
    """How `text` may be written without needless ``\\u``; None when in too many ways."""
    ways: list[list[str]] = []
    for character in text:
        if character in _SHORT:
            ways.append([_SHORT[character], "/"] if character == "/" else [_SHORT[character]])
        elif ascii_only or ord(character) < 0x20 or "\ud800" <= character <= "\udfff":
            ways.append([json.dumps(character)[1:-1]])
        else:
            ways.append([character])
    count = 1
    for way in ways:
        count *= len(way)
    if count > _MOST:
        return None
    return ["".join(spelled).encode() for spelled in product(*ways)]


def _find(piece: bytes, needles: list[bytes]) -> list[int]:
    found = []
    for needle in needles:
        place = piece.find(needle)
        while place >= 0:
            found.append(place)
            place = piece.find(needle, place + 1)
    return sorted(found) if len(needles) > 1 else found
