"""Many rows of JSON at once, proved whole without looking at each.

A block is cut out of the file where a row seems to end, and one call of a fast
parser proves that it is right JSON and how many rows it holds: whatever parses,
parses in one way only.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import msgspec

from engine.dataset.files.text_part import TextPart

SIZE = 1 << 17
"""Bytes of a block: what is looked at several times should stay in the processor's cache."""
_LONGEST = 1 << 26
_TRIES = 4
_SPACE = b" \t\r\n"
_ROWS = msgspec.json.Decoder(list[msgspec.Raw])
_LINES = msgspec.json.Decoder(msgspec.Raw)
_BAD = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)


class Block(NamedTuple):
    """Whole rows as they stand in the file. `rows` is None when they are not all right JSON."""

    data: bytes
    rows: int | None
    behind: bytes = b""
    """What stands between this block and the next one."""
    each: Sequence[msgspec.Raw] = ()
    """The rows of an array."""


class Odd(Exception):
    """The rows cannot be told apart in this way: look at them one by one."""


def line_blocks(part: TextPart) -> Iterator[Block]:
    """The rows of JSON Lines, each block's last line whole."""
    held, at = b"", part.layout.start
    while piece := part.source.read(at, at + max(SIZE, len(held))):
        at += len(piece)
        held += piece
        cut = held.rfind(b"\n") + 1
        if cut:
            yield Block(held[:cut], _count_lines(held[:cut]))
            held = held[cut:]
    if held:
        yield Block(held, _count_lines(held))


def _count_lines(data: bytes) -> int | None:
    try:
        data.isascii() or data.decode("utf-8")
        rows = len(_LINES.decode_lines(data))
    except _BAD:
        return None
    lines = data.count(b"\n") + (not data.endswith(b"\n"))
    return rows if rows == lines else None  # else there are blank lines, or a row goes over two


def array_blocks(part: TextPart, start: int) -> Iterator[Block]:
    """The rows of a JSON array, from `start` (where its first row begins) to its bracket.

    `behind` the last block is the rest of the file. Raises `Odd` where a block
    cannot be cut out or is no right JSON; the blocks before it are right.
    """
    joint, separator = _joint(part)
    held, at = b"", start
    while piece := part.source.read(at, at + max(SIZE, len(held))):
        at += len(piece)
        held += piece
        if joint and len(piece) >= SIZE:
            block = _cut(held, joint, separator)
            if block is not None:
                yield block
                held = held[len(block.data) + len(separator) :]
            elif len(held) > _LONGEST:
                raise Odd
    body = held.rstrip(_SPACE)
    if not body.endswith(b"]"):
        raise Odd
    body = body[:-1].rstrip(_SPACE)
    yield _block(body, held[len(body) :])


def _joint(part: TextPart) -> tuple[bytes, bytes]:
    """What stands between the first two rows with the second one's beginning, and without."""
    spans = part.spans()
    first, second = next(spans, None), next(spans, None)
    if first is None or second is None:
        return b"", b""
    separator = first[1][len(part.layout.content(first[1])) :]
    begin = second[1][: second[1].find(b":") + 1] if second[1].startswith(b"{") else b""
    return separator + (begin if len(begin) < 200 else second[1][:1]), separator


def _cut(held: bytes, joint: bytes, separator: bytes) -> Block | None:
    """The rows up to the last place that looks like one between two of them."""
    end = len(held)
    for _try in range(_TRIES):
        end = held.rfind(joint, 0, end)
        if end < 0:
            return None
        body = held[:end]
        try:
            return _block(body, separator)
        except Odd:
            continue
    raise Odd


def _block(body: bytes, behind: bytes) -> Block:
    try:
        body.isascii() or body.decode("utf-8")
        rows = _ROWS.decode(b"[" + body + b"]")
    except _BAD:
        raise Odd from None
    return Block(body, len(rows), behind, rows)


_view: Any = memoryview
"""A row's bytes without a copy; msgspec's types do not say that a Raw is a buffer."""


class Starts:
    """Where the rows of a right block of a JSON array begin and end."""

    def __init__(self, block: Block) -> None:
        self._lengths = list(map(len, map(_view, block.each)))
        self._starts = _even(block, self._lengths) or _one_by_one(block.data, self._lengths)

    def row(self, place: int) -> tuple[int, int, int]:
        """The row that holds the byte at `place`: its number, where it begins and ends."""
        number = max(0, bisect_right(self._starts, place) - 1)
        begin = self._starts[number]
        return number, begin, begin + self._lengths[number]

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        for number, (begin, length) in enumerate(zip(self._starts, self._lengths, strict=True)):
            yield number, begin, begin + length


def _even(block: Block, lengths: list[int]) -> list[int] | None:
    """The starts when the same stands between all rows."""
    if block.behind.join(block.each) != block.data:
        return None
    gap = len(block.behind)
    return list(accumulate((length + gap for length in lengths[:-1]), initial=0))


def _one_by_one(data: bytes, lengths: list[int]) -> list[int]:
    starts, at = [], 0
    for length in lengths:
        while data[at : at + 1] in (b" ", b"\t", b"\r", b"\n", b","):
            at += 1
        starts.append(at)
        at += length
    return starts
