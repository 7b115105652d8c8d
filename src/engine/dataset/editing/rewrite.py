"""Copy a dataset row by row, leaving rows out, repeating or changing them.

What is not changed stays the same to the byte: rows, what separates them, a byte
order mark, line ends, indentation.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple, Protocol

from engine.dataset.files.decode import BadRow, decode
from engine.dataset.files.offsets import Cancelled, Progress
from engine.dataset.reader import Dataset
from engine.errors import Failed, Problem
from engine.i18n import _

LITERALS = ("json", "jsonl")
"""Formats with one JSON text for each row, which can be copied to the byte."""
SUFFIXES = {".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl"}
"""What can be written anew, by the file's suffix."""
_EVERY = 512
"""Rows between two looks at whether anybody still waits."""
_STRETCH = 2048
"""The same where rows are copied together."""


class Piece(NamedTuple):
    """A row's JSON text, and what stands between it and a next row.

    `end` is what really stands behind it: for the last row the two differ. Both
    are b"" where rows are no text.
    """

    row: int
    content: bytes
    separator: bytes
    end: bytes


class Target(Protocol):
    """A file that is being written."""

    def put(self, piece: Piece) -> None:
        """Write one more row."""

    def finish(self, end: bytes) -> None:
        """Write what stands behind the last row; `end` is that of the source's last row."""


Choose = Callable[[Piece], Iterable[tuple[Target, bytes]]]
"""Where a row goes: to each of these targets, with this text."""


def rewrite(
    dataset: Dataset,
    targets: Sequence[Target],
    choose: Choose,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> int:
    """Hand every row of `dataset` to the `targets` that `choose` names; return how many went.

    `progress` gets rows done and in all. Raises `Failed` when cancelled.
    """
    end, put, rows = b"", 0, dataset.index(cancelled=cancelled)
    for piece in pieces(dataset):
        for target, content in choose(piece):
            target.put(piece._replace(content=content))
            put += 1
        end = piece.end
        if piece.row % _EVERY == 0:
            if progress is not None:
                progress(piece.row, rows)
            if cancelled is not None and cancelled():
                raise Failed(_("Stopped before the file was written; nothing has changed"))
    for target in targets:
        target.finish(end)
    if progress is not None:
        progress(rows, rows)
    return put


def rewrite_some(
    dataset: Dataset,
    copy: Copy,
    rows: Iterable[int],
    contents: Callable[[Piece], Sequence[bytes]],
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> int:
    """`rewrite` for a few `rows` of one file of text: what lies between them is not looked at.

    `contents` says what stands in a row's place. The last row is always handed to it: what
    stands behind it is not what stands between rows.
    """
    total = dataset.index(cancelled=cancelled)
    some = {row for row in rows if row < total} | set(range(total)[-1:])
    if len(some) > max(total // 8, _EVERY):  # reading each by itself would take longer

        def choose(piece: Piece) -> Iterable[tuple[Target, bytes]]:
            return [(copy, content) for content in contents(piece)]

        return rewrite(dataset, [copy], choose, progress, cancelled)
    end, put, at, looked = b"", 0, 0, 0

    def look(row: int) -> None:
        nonlocal looked
        looked = row
        if progress is not None:
            progress(row, total)
        if cancelled is not None and cancelled():
            raise Failed(_("Stopped before the file was written; nothing has changed"))

    for row in sorted(some):
        for start in range(at, row - 1, _STRETCH):
            stop = min(start + _STRETCH, row - 1)
            copy.stretch(dataset.stretch(start, stop))
            look(stop)
        if at < row:  # by itself: what is behind it is written when another row follows
            copy.put(_piece(dataset, row - 1, total - 1))
        put += row - at
        piece = _piece(dataset, row, total - 1)
        for content in contents(piece):
            copy.put(piece._replace(content=content))
            put += 1
        end, at = piece.end, row + 1
        if at - looked >= _EVERY:
            look(at)
    copy.finish(end)
    look(total)
    return put


def _piece(dataset: Dataset, row: int, last: int) -> Piece:
    """One row, as `pieces` gives it."""
    span = b"".join(dataset.stretch(row, row + 1))
    content = dataset.content(span)
    end = span[len(content) :]
    if row < last:
        between = end
    else:
        between = _piece(dataset, row - 1, last).end if row else _between(dataset, end)
    return Piece(row, content, between, end)


def pieces(dataset: Dataset) -> Iterator[Piece]:
    """Every row of `dataset`. Raises `Problem` for a broken one where rows are no text."""
    if dataset.format not in LITERALS:
        for row in dataset.records():
            if row.problem is not None:
                raise Problem(_("Row {row} cannot be read").format(row=row.index), row.problem)
            text = json.dumps(row.value, ensure_ascii=False, default=str)
            yield Piece(row.index, text.encode("utf-8", "backslashreplace"), b"", b"")
        return
    last = dataset.index() - 1
    between = b""
    for index, span in dataset.spans():
        content = dataset.content(span)
        end = span[len(content) :]
        between = end if index < last else between or _between(dataset, end)
        yield Piece(index, content, between, end)


def _between(dataset: Dataset, end: bytes) -> bytes:
    """What would stand between two rows of a file that has only one."""
    if dataset.format == "json":
        return b"," + dataset.head().rpartition(b"[")[2]
    return b"\r\n" if b"\r\n" in end else b"\n"


class Copy:
    """Writes a file that looks like `dataset`: its head, its separators, its tail."""

    def __init__(self, dataset: Dataset, sink: IO[bytes]) -> None:
        self._dataset = dataset
        self._sink = sink
        self._separator = b""
        sink.write(dataset.head())

    def put(self, piece: Piece) -> None:
        """See `Target`."""
        self._sink.write(self._separator)
        self._sink.write(piece.content)
        self._separator = piece.separator

    def stretch(self, parts: Iterable[bytes]) -> None:
        """Write rows as they stand in the file, each with what separates it from the next."""
        self._sink.write(self._separator)
        for part in parts:
            self._sink.write(part)
        self._separator = b""

    def finish(self, end: bytes) -> None:
        """See `Target`."""
        self._sink.write(end)
        self._sink.write(self._dataset.tail())


class Lines:
    """Writes JSON Lines."""

    def __init__(self, sink: IO[bytes]) -> None:
        self._sink = sink

    def put(self, piece: Piece) -> None:
        """See `Target`. Raises `Problem` for a row over several lines that is no JSON."""
        content = piece.content
        if b"\n" in content or b"\r" in content:
            content = _on_one_line(piece)
        self._sink.write(content + b"\n")

    def finish(self, end: bytes) -> None:
        """See `Target`."""


class Array:
    """Writes a JSON array, one row under the other."""

    def __init__(self, sink: IO[bytes]) -> None:
        self._sink = sink
        self._before = b"[\n"

    def put(self, piece: Piece) -> None:
        """See `Target`. Raises `Problem` for a row that is no JSON: it would break the array."""
        _value(piece)
        self._sink.write(self._before + piece.content)
        self._before = b",\n"

    def finish(self, end: bytes) -> None:
        """See `Target`."""
        self._sink.write(b"[]\n" if self._before == b"[\n" else b"\n]\n")


def target(dataset: Dataset, path: Path, sink: IO[bytes]) -> Target:
    """What writes rows of `dataset` to `path`, whose suffix names the format."""
    format = format_of(path)
    if format == dataset.format and len(dataset.paths) == 1:
        return Copy(dataset, sink)
    return Array(sink) if format == "json" else Lines(sink)


def format_of(path: Path) -> str:
    """The format that can be written to `path`. Raises `Problem` for another suffix."""
    format = SUFFIXES.get(path.suffix.lower())
    if format is None:
        raise Problem(
            _("Cannot write {path}").format(path=path),
            _("Rows are written as a JSON array (.json) or as JSON Lines (.jsonl)."),
            _("Give the new file one of these suffixes."),
        )
    return format


def _value(piece: Piece) -> object:
    try:
        return decode(piece.content)
    except BadRow as bad:
        raise Problem(
            _("Row {row} is broken and cannot be put into this file").format(row=piece.row),
            bad.reason,
            _("Correct or remove the row first, or keep the file's format."),
        ) from bad


def _on_one_line(piece: Piece) -> bytes:
    text = json.dumps(_value(piece), ensure_ascii=b"\\u" in piece.content)
    return text.encode("utf-8", "backslashreplace")
