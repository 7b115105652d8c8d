"""Replacing in a text file: what cannot change is copied in large blocks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

from engine.dataset.editing.blocks import Block, Odd, Starts, array_blocks, line_blocks
from engine.dataset.editing.changes import Changes
from engine.dataset.editing.editor import (
    CellEditor,
    Edit,
    JsonEditor,
    LineEditor,
    QuickEditor,
    RowEditor,
    Wanted,
)
from engine.dataset.files.decode import BadRow
from engine.dataset.files.delimited import Delimited
from engine.dataset.files.text_part import TextPart
from engine.errors import Problem

_SPACE = b" \t\r\n"


class TextReplace:
    """Writes the text of `part` to `sink` (None: nowhere) with what is `wanted` replaced."""

    def __init__(
        self, part: TextPart, wanted: Wanted, sink: IO[bytes] | None, changes: Changes
    ) -> None:
        self._part = part
        self._sink = sink
        self._changes = changes
        self._editor = _editor(part, wanted)
        self._quick = _quick(wanted, changes) or self._editor
        self._rows = 0
        self._line = 1
        self._keep_lines = changes.listing

    def run(self) -> None:
        """Go through the whole file. Raises `Problem` for an array that is not right JSON."""
        format = self._part.layout.format
        if format == "jsonl":
            self._write(self._part.source.read(0, self._part.layout.start))
            for block in line_blocks(self._part):
                self._lines(block)
        elif format == "json":
            self._array()
        else:
            self._write(self._part.head())
            self._spans(0)
        self._changes.rows += self._rows

    # -- JSON Lines -------------------------------------------------------------

    def _lines(self, block: Block) -> None:
        places = self._editor.places(block.data)
        if block.rows is None or places is None:
            self._each_line(block.data)
        elif not places:
            self._copy(block.data, block.rows)
        else:
            self._some_lines(block.data, block.rows, places)

    def _some_lines(self, data: bytes, count: int, places: list[int]) -> None:
        """Edit the lines of right JSON, none of them blank, in which these places are."""
        done = end = row = counted = 0
        for place in places:
            if place < end:
                continue
            begin = data.rfind(b"\n", 0, place) + 1
            end = data.find(b"\n", place)
            end = len(data) if end < 0 else end
            row += data.count(b"\n", counted, begin)
            counted = begin
            begin += len(data[begin:end]) - len(data[begin:end].lstrip(_SPACE))
            content = data[begin:end].rstrip(_SPACE)
            self._write(data[done:begin])
            self._edit(self._rows + row, content, self._line + row, self._quick)
            done = begin + len(content)
        self._copy(data[done:], count, data)

    def _each_line(self, data: bytes) -> None:
        for line in _split(data):
            content = line.strip(_SPACE)
            begin = line.find(content)
            self._write(line[:begin])
            if content:
                self._edit(self._rows, content, self._line)
                self._rows += 1
            self._write(line[begin + len(content) :])
            self._line += line.count(b"\n")
        self._changes.tell(len(data))

    # -- a JSON array -------------------------------------------------------------

    def _array(self) -> None:
        head = self._part.head()
        self._write(head)
        self._line += head.count(b"\n")
        try:
            for block in array_blocks(self._part, len(head)):
                self._rows_of(block)
                self._write(block.behind)
                self._line += block.behind.count(b"\n") if self._keep_lines else 0
        except Odd:
            self._spans(self._rows)

    def _rows_of(self, block: Block) -> None:
        data, count = block.data, block.rows or 0
        places = self._editor.places(data)
        if places is not None and not places:
            self._copy(data, count)
            return
        starts = Starts(block)
        found = iter(starts) if places is None else (starts.row(place) for place in places)
        done, last = 0, -1
        for number, begin, end in found:
            if number == last:
                continue
            last = number
            self._write(data[done:begin])
            line = self._line + data.count(b"\n", 0, begin) if self._keep_lines else 0
            self._edit(self._rows + number, data[begin:end], line, self._quick)
            done = end
        self._copy(data[done:], count, data)

    # -- row by row ---------------------------------------------------------------

    def _spans(self, first: int) -> None:
        """The rows from `first` on, one by one, and what stands behind the last."""
        layout = self._part.layout
        for index, span in self._part.spans():
            if index < first:
                continue
            content = layout.content(span)
            if self._editor.places(content) == [] and layout.format != "json":
                self._write(span)
            else:
                self._edit(index, content, 0)
                self._write(span[len(content) :])
            self._rows += 1
            self._changes.tell(len(span))
        faults = self._part.faults()
        if faults:
            raise self._unreadable(faults[0][1])
        self._write(self._part.tail())

    def _unreadable(self, why: str) -> Problem:
        return self._part.cut_off() or self._changes.unreadable(self._part.path, why)

    # -- writing ------------------------------------------------------------------

    def _edit(self, row: int, content: bytes, line: int, editor: RowEditor | None = None) -> None:
        """Write the row `content`, edited (by `editor`, if it is known to be right JSON)."""
        edits: list[Edit] = []
        try:
            text, edits = (editor or self._editor).edit(content)
        except BadRow as bad:
            if self._part.layout.format == "json":
                why = self._part_problem(row, bad)
                raise self._unreadable(why) from None
            self._changes.broken_row(row)
            text = content
        if edits:
            where = (line or self._part.line(row)) if self._keep_lines else 0
            self._changes.add(row, where, edits)
        self._write(text)

    def _part_problem(self, row: int, bad: BadRow) -> str:
        found = next(iter(self._part.records(row, row + 1)), None)
        return (found.problem if found is not None else None) or bad.reason

    def _copy(self, data: bytes, rows: int, counted: bytes | None = None) -> None:
        """Write `data`, the end of a block (`counted`, if it is not all of it) of so many rows."""
        block = data if counted is None else counted
        self._write(data)
        self._rows += rows
        if self._keep_lines:
            self._line += block.count(b"\n")
        self._changes.tell(len(block))

    def _write(self, data: bytes) -> None:
        if self._sink is not None and data:
            self._sink.write(data)


def _editor(part: TextPart, wanted: Wanted) -> RowEditor:
    layout = part.layout
    if isinstance(layout, Delimited):
        return CellEditor(wanted, layout.columns or [], layout.separator)
    return LineEditor(wanted) if layout.format == "text" else JsonEditor(wanted)


def _quick(wanted: Wanted, changes: Changes) -> QuickEditor | None:
    """An editor for rows of right JSON; None when they must be parsed to be edited."""
    if wanted.text is None or wanted.new is None or wanted.fields or changes.listing:
        return None
    quick = QuickEditor.takes(wanted.text, wanted.new)
    return QuickEditor(wanted, wanted.text, wanted.new) if quick else None


def _split(data: bytes) -> Iterator[bytes]:
    """The lines of `data` with their ends; a lone carriage return ends none."""
    begin = 0
    while begin < len(data):
        end = data.find(b"\n", begin) + 1 or len(data)
        yield data[begin:end]
        begin = end
