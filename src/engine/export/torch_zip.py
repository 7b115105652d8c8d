"""Where the entries of a zip that torch wrote lie in the file.

The standard library's reader makes an object of thirty fields for each of a
checkpoint's thousands of entries, and loads three decompressors that have nothing to do
here: torch stores its bytes as they are. This one takes the few fields that matter from
the directory at the file's end, and looks at an entry when it is asked for.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from engine.export.weights import read_into

_LOCAL = struct.Struct("<4s22xHH")  # an entry's own header: lengths of name, extra
_ENTRY = struct.Struct("<4s4xHH12xLHHH8xL")  # in the directory: flags … offset
_END = struct.Struct("<4s8xLL2x")
_WIDE_PLACE = struct.Struct("<4s4xQ4x")
_WIDE_END = struct.Struct("<4s36xQQ")
_COMMENT = 1 << 16
_WIDE = 0xFFFFFFFF
"""Stands where a number has no room in 32 bits; it is in the extra field then."""


class Torn(Exception):
    """There is no directory: the end of the file is missing or damaged."""


class NotStored(Exception):
    """An entry is compressed or encrypted."""


class _Member(NamedTuple):
    """What the directory says of an entry: where its header is, how many bytes it has."""

    header: int
    size: int
    stored: bool


class TorchZip:
    """The entries of an open zip, by their names without the archive's own prefix."""

    def __init__(self, descriptor: int) -> None:
        """Read the directory. Raises `Torn` when there is none to be read."""
        self._descriptor = descriptor
        try:
            self._entries = dict(self._listed(*_directory(descriptor)))
        except (struct.error, IndexError, EOFError, OSError) as error:
            raise Torn from error

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def _listed(self, begin: int, size: int) -> Iterator[tuple[str, _Member]]:
        data = _read(self._descriptor, begin, size)
        at = 0
        while at < size:
            mark, flags, method, count, name, extra, comment, header = _ENTRY.unpack_from(data, at)
            if mark != b"PK\1\2":
                raise Torn
            start = at + _ENTRY.size
            at = start + name + extra + comment
            if count == _WIDE or header == _WIDE:
                fields = bytes(data[start + name : start + name + extra])
                count, header = _wide(fields, count, header)
            words = data[start : start + name].decode("utf-8", "replace")
            stored = method == 0 and not flags & 1
            yield words.partition("/")[2], _Member(header, count, stored)

    def place(self, name: str) -> tuple[int, int] | None:
        """First byte and size of an entry, None when there is none of that name.

        Checksums are not looked at: torch can be told not to write them. Raises
        `NotStored`, and `Torn` when there is no entry at that place.
        """
        entry = self._entries.get(name)
        if entry is None:
            return None
        if not entry.stored:
            raise NotStored
        try:
            mark, words, extra = _LOCAL.unpack(_read(self._descriptor, entry.header, _LOCAL.size))
        except (EOFError, OSError) as error:
            raise Torn from error
        if mark != b"PK\3\4":
            raise Torn
        return entry.header + _LOCAL.size + words + extra, entry.size


def whole(path: Path) -> bool:
    """Whether `path` is a file that ends with a zip's directory."""
    try:
        with path.open("rb") as file:
            _directory(file.fileno())
    except (Torn, EOFError, OSError):
        return False
    return True


def _directory(descriptor: int) -> tuple[int, int]:
    """Where the directory begins, and its bytes; inside the file for certain."""
    size = os.fstat(descriptor).st_size
    first = max(size - _END.size - _COMMENT, 0)
    tail = _read(descriptor, first, size - first)
    at = tail.rfind(b"PK\5\6")
    if at < 0 or at + _END.size > len(tail):
        raise Torn
    _mark, length, begin = _END.unpack_from(tail, at)
    wide = at - _WIDE_PLACE.size
    if wide >= 0 and tail.startswith(b"PK\6\7", wide):
        _mark, end = _WIDE_PLACE.unpack_from(tail, wide)
        if end > size - _WIDE_END.size:
            raise Torn
        mark, length, begin = _WIDE_END.unpack(_read(descriptor, end, _WIDE_END.size))
        if mark != b"PK\6\6":
            raise Torn
    if begin + length > first + at:
        raise Torn
    return begin, length


def _wide(extra: bytes, count: int, header: int) -> tuple[int, int]:
    """Size and place out of the extra field of numbers of 64 bits.

    They stand there in this order, each only where the directory has no room for it; the
    packed size, between them, is the size itself.
    """
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            numbers = [one for (one,) in struct.iter_unpack("<Q", extra[at + 4 : at + 4 + length])]
            return (
                numbers[0] if count == _WIDE else count,
                numbers[-1] if header == _WIDE else header,
            )
        at += 4 + length
    raise Torn


def _read(descriptor: int, begin: int, size: int) -> bytearray:
    data = bytearray(size)
    read_into(descriptor, begin, memoryview(data))
    return data
