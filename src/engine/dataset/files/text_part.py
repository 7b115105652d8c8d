"""A text file's rows: JSON, JSON Lines, CSV, TSV or plain lines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.dataset.files.decode import BadRow, Place
from engine.dataset.files.layouts import BOM, Layout
from engine.dataset.files.offsets import CHUNK, Offsets
from engine.dataset.files.rows import Part, Row
from engine.dataset.files.source import Source
from engine.errors import Problem
from engine.i18n import _

LONGEST_ROW = 1 << 24
"""Bytes; a longer row is flagged, not read."""
_SAMPLE = 20
"""Rows that tell a JSON file's columns."""


class TextPart(Part):
    """A text file, of which nothing is held but where its rows begin."""

    def __init__(self, source: Source, layout: Layout, cache: Path | None = None) -> None:
        super().__init__(source.path, source.size)
        self.layout = layout
        self.source = source
        kind = f"{layout.format} {layout.options}"
        self._offsets = Offsets(source, layout.scanner(), layout.start, cache, kind)

    @property
    def known(self) -> int:
        """See `Part`."""
        return self._offsets.known

    @property
    def complete(self) -> bool:
        """See `Part`."""
        return self._offsets.complete

    @property
    def done(self) -> int:
        """See `Part`."""
        return self.size if self.complete else self.source.done(self._offsets.done)

    def advance(self) -> bool:
        """See `Part`."""
        return self._offsets.advance()

    def records(self, start: int = 0, end: int | None = None) -> Iterator[Row]:
        """See `Part`."""
        line = 0
        for index, raw in self._offsets.spans(start, end, LONGEST_ROW):
            line = line or self._offsets.line(index)
            try:
                value, problem = self._decode(raw), None
            except BadRow as bad:
                value, problem = None, f"{self._place(index, raw, bad.offset)}: {bad.reason}"
            yield Row(self.first + index, line, value, problem, self.path)
            line = line + raw.count(b"\n") if len(raw) <= LONGEST_ROW else 0

    def columns(self) -> list[str]:
        """See `Part`."""
        names = self.layout.columns
        if names is None:
            rows = [row.value for row in self.records(0, _SAMPLE) if isinstance(row.value, dict)]
            names = list(dict.fromkeys(str(name) for row in rows for name in row))
        return names

    def spans(self) -> Iterator[tuple[int, bytes]]:
        """Every row with the separator behind it, as they stand in the file."""
        return self._offsets.spans()

    def stretch(self, first: int, last: int) -> Iterator[bytes]:
        """The rows from `first` up to `last` with their separators, in large pieces."""
        start, end = self._offsets.span(first)[0], self._offsets.span(last - 1)[1]
        for at in range(start, end, CHUNK):
            yield self._offsets.read(at, min(at + CHUNK, end))

    def raw(self, row: int) -> bytes:
        """The bytes of one row, without what separates it from the next."""
        return self.layout.content(self._offsets.read(*self._offsets.span(row)))

    def head(self) -> bytes:
        """The text before the first row."""
        self._offsets.reach(0)
        end = self._offsets.span(0)[0] if self._offsets.known else self._offsets.done
        return self._offsets.read(0, end)

    def tail(self) -> bytes:
        """The text behind the last row and what `spans` gives with it; the file is indexed."""
        count = self.known
        behind = self._offsets.span(count - 1)[1] if count else self._offsets.done
        return self._offsets.read(behind, self._offsets.done)

    def line(self, row: int) -> int:
        """See `Part`."""
        return self._offsets.line(row)

    def faults(self) -> list[tuple[int, str]]:
        """See `Part`."""
        found = []
        for offset, reason in self._offsets.faults:
            found.append((self._offsets.row_at(offset), f"{self._place_at(offset)}: {_(reason)}"))
        if self.source.fault is not None and self.complete:
            place = self._place_at(self._offsets.done)
            found.append((self.known - 1, f"{place}: {self.source.fault}"))
        return found

    def cut_off(self) -> Problem | None:
        """What is wrong with a compressed file whose text ends before it should, as far as read."""
        if self.source.fault is None:
            return None
        what = _("Cannot read {path}").format(path=self.path)
        return Problem(what, self.source.fault, _("Copy it again from where it came from."))

    def fingerprint(self) -> str:
        """See `Part`."""
        return self.source.fingerprint()

    def changed(self) -> bool:
        """See `Part`."""
        return self.source.changed()

    def close(self) -> None:
        """See `Part`."""
        self.source.close()

    def _decode(self, span: bytes) -> Any:
        if len(span) > LONGEST_ROW:
            reason = _("the row is longer than {size} MB and is not shown")
            raise BadRow(reason.format(size=LONGEST_ROW >> 20), 0)
        return self.layout.decode(self.layout.content(span))

    def _place(self, row: int, raw: bytes, offset: int) -> str:
        before = raw[:offset]
        if b"\n" not in before:
            return self._place_at(self._offsets.span(row)[0] + offset)
        line = self._offsets.line(row) + before.count(b"\n")
        return self._called(Place(line, _width(before[before.rfind(b"\n") + 1 :]) + 1))

    def _place_at(self, offset: int) -> str:
        start = max(0, offset - CHUNK)
        before = self._offsets.read(start, offset)
        begin = before.rfind(b"\n") + 1
        return self._called(Place(self._offsets.line_at(offset), _width(before[begin:]) + 1))

    def _called(self, place: Place) -> str:
        return f"{self.path.name}, {place}" if self.named else str(place)


def _width(raw: bytes) -> int:
    """Characters in `raw`; a byte order mark is none."""
    return len(raw.removeprefix(BOM).decode("utf-8", "replace"))
