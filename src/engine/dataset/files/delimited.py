"""CSV and TSV: rows of cells under a header, read as `datasets` (that is, pandas) reads them."""

from __future__ import annotations

import csv
import io
import re
import sys
from array import array
from collections.abc import Iterator
from itertools import islice
from typing import Any

from engine.dataset.files.decode import BadRow, not_utf8
from engine.dataset.files.scan import Fault, Scanner, offsets
from engine.dataset.files.source import Source, SourceFile
from engine.i18n import N_, _

FIRST_ROWS = 10_000
"""Rows from which pandas, as `datasets` calls it, tells the columns' types."""
_FIRST_BYTES = 1 << 24
_SEPARATORS = ",;\t|"
_WORDS = "#N/A #NA <NA> N/A NA NULL NaN None n/a nan null -NaN -nan 1.#IND 1.#QNAN -1.#IND -1.#QNAN"
_MISSING = frozenset({"", "#N/A N/A", *_WORDS.split()})
"""Cells that pandas takes for no value."""
_INT = re.compile(r"\s*[+-]?[0-9]{1,19}\s*")
_FLOAT = re.compile(r"\s*[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\s*")
_INFINITE = re.compile(r"\s*[+-]?inf(?:inity)?\s*", re.I)
_BOOLS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_QUOTE, _NEWLINES = b'"', b"\r\n"


class Delimited:
    """The layout of a CSV or TSV file; its first row names the columns."""

    note = ""

    def __init__(self, source: Source, format: str, start: int, head: bytes) -> None:
        """`head` is the file's beginning, `start` where its text begins (behind a BOM)."""
        csv.field_size_limit(sys.maxsize)
        self.format = format
        self.start = start
        self.separator = "\t" if format == "tsv" else _separator(head[start:])
        self.options: dict[str, Any] = {"sep": self.separator}
        self._source = source
        self.columns: list[str] | None = _names(next(self._rows(), []))
        self._kinds: list[str] | None = None
        self._sure = True
        """Whether a cell that does not fit its column's type is an error."""

    def scanner(self) -> Scanner:
        """See `Layout`."""
        return DelimitedScanner(self.start, self.separator.encode())

    def content(self, span: bytes) -> bytes:
        """See `Layout`: blank lines behind the row go too."""
        inner = span.rstrip(b" \t\r\n")
        tail = span[len(inner) :]
        return inner + tail[: len(tail) - len(tail.lstrip(b" \t"))]

    def decode(self, content: bytes) -> dict[str, Any]:
        """See `Layout`."""
        names = self.columns or []
        cells = self._cells(content)
        if len(cells) != len(names):
            reason = _("{count} cells, where the header has {wanted}")
            raise BadRow(reason.format(count=len(cells), wanted=len(names)), 0)
        if self._kinds is None:
            self._kinds = self._find_kinds()
        return {
            name: self._value(name, cell, kind)
            for name, cell, kind in zip(names, cells, self._kinds, strict=True)
        }

    def _cells(self, content: bytes) -> list[str]:
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise not_utf8(error) from error
        try:
            cells = next(csv.reader([text], delimiter=self.separator), [])
            if text.count('"') % 2:
                _closed(text, self.separator)
        except csv.Error as error:
            raise BadRow(str(error), 0) from error
        return cells

    def _value(self, name: str, cell: str, kind: str) -> Any:
        if cell in _MISSING:
            return None
        if kind == "text":
            return cell
        if kind == "bool" and cell in _BOOLS:
            return _BOOLS[cell]
        if kind == "int" and _INT.fullmatch(cell):
            return int(cell)
        if kind in ("int", "float") and (_FLOAT.fullmatch(cell) or _INFINITE.fullmatch(cell)):
            return float(cell)
        if not self._sure:
            return cell
        reason = _("'{name}' is a text here, and a number in the first {count:,} rows")
        raise BadRow(reason.format(name=name, count=FIRST_ROWS), 0)

    def _find_kinds(self) -> list[str]:
        """The type of each column: "int", "float", "bool" or "text"."""
        kinds = [_Kind() for _name in self.columns or []]
        open_kinds = list(enumerate(kinds))
        read = 0
        for cells in islice(self._rows(), 1, FIRST_ROWS + 1):
            for place, kind in open_kinds:
                if place < len(cells):
                    kind.add(cells[place])
                else:
                    kind.missing = True
            open_kinds = [(place, kind) for place, kind in open_kinds if not kind.text]
            read += sum(map(len, cells))
            if not open_kinds:
                break
            if read > _FIRST_BYTES:
                self._sure = False
                break
        return [kind.name for kind in kinds]

    def _rows(self) -> Iterator[list[str]]:
        """The records from the header on; blank lines are none."""
        file = SourceFile(self._source)
        file.seek(self.start)
        text = io.TextIOWrapper(io.BufferedReader(file), "utf-8", "replace", newline="")
        try:
            for cells in csv.reader(text, delimiter=self.separator):
                if len(cells) > 1 or (cells and cells[0].strip(" \t")):
                    yield cells
        except csv.Error:
            return  # the row itself will say what is wrong
        finally:
            text.detach().detach()


class _Kind:
    """What the cells of one column have in common so far."""

    def __init__(self) -> None:
        self.int = self.float = self.bool = True
        self.some = self.missing = False

    @property
    def text(self) -> bool:
        return not (self.int or self.float or self.bool)

    @property
    def name(self) -> str:
        if self.int and self.some:
            return "float" if self.missing else "int"
        if self.float:
            return "float"
        return "bool" if self.bool else "text"

    def add(self, cell: str) -> None:
        if cell in _MISSING:
            self.missing = True
            return
        self.some = True
        self.bool = self.bool and cell in _BOOLS
        self.int = self.int and _INT.fullmatch(cell) is not None
        if self.float and not self.int:
            number = _FLOAT.fullmatch(cell) or _INFINITE.fullmatch(cell)
            self.float = number is not None


def _closed(text: str, separator: str) -> None:
    """Raise `BadRow` when a quote is opened in `text` and not closed."""
    try:
        next(csv.reader([text], delimiter=separator, strict=True), None)
    except csv.Error as error:
        if "unexpected end" in str(error):
            raise BadRow(_("a quoted cell that is not closed"), text.rfind('"')) from error


def _separator(text: bytes) -> str:
    """The separator of the first line: a comma, unless it has none but another one."""
    header = text.lstrip(_NEWLINES).splitlines()[:1]
    line = header[0].decode("utf-8", "replace") if header else ""
    return next((mark for mark in _SEPARATORS if mark in line), ",")


def _names(cells: list[str]) -> list[str]:
    """The columns' names as pandas gives them: none empty, none twice."""
    names: list[str] = []
    for place, cell in enumerate(cells):
        name = base = cell or f"Unnamed: {place}"
        number = 0
        while name in names or (number and name in cells):
            number += 1
            name = f"{base}.{number}"
        names.append(name)
    return names


class DelimitedScanner:
    """Rows of CSV: lines, except that a quoted cell may hold line breaks.

    A quote opens a cell only at the cell's beginning; anywhere else in a bare
    cell it is a character like others. Found with numpy; only where bare cells
    hold quotes are quotes looked at one by one.
    """

    def __init__(self, start: int, separator: bytes) -> None:
        self.faults: list[Fault] = []
        self._at = start
        self._separator = separator[0]
        self._held = b""  # spaces at a line's beginning: is there more on the line?
        self._before = ord("\n")  # the byte before the chunk
        self._inside = False
        self._just_closed = False  # by the byte before the chunk
        self._opened = start
        self._header = True

    def feed(self, chunk: bytes) -> array[int]:
        """See `Scanner`."""
        chunk = self._held + chunk
        full = chunk.rstrip(b" \t")
        last = full[-1] if full else self._before
        self._held = chunk[len(full) :] if last in _NEWLINES else b""
        chunk = full if self._held else chunk
        return self._feed(chunk) if chunk else array("Q")

    def _feed(self, chunk: bytes) -> array[int]:
        import numpy as np

        data = np.frombuffer(chunk, dtype=np.uint8)
        toggles, inside = self._toggles(chunk, data)
        starts = self._lines(chunk, data)
        if len(toggles) or self._inside:
            within = (np.searchsorted(toggles, starts) + self._inside) & 1
            starts = starts[within == 0]
        starts = self._with_text(chunk, data, starts)
        if inside and len(toggles):
            self._opened = self._at + int(toggles[-1])
        self._inside = inside
        self._before = chunk[-1]
        if self._header and len(starts):
            self._header, starts = False, starts[1:]
        found = offsets(starts, self._at)
        self._at += len(chunk)
        return found

    def _lines(self, chunk: bytes, data: Any) -> Any:
        """Where lines begin that are not empty, in quotes or not."""
        import numpy as np

        ends = data == 10
        if b"\r" in chunk:
            ends |= data == 13
        starts = np.flatnonzero(ends) + 1
        if self._before in _NEWLINES:
            starts = np.concatenate(([0], starts))
        if len(starts) and starts[-1] == len(data):
            starts = starts[:-1]
        first = data[starts]
        return starts[(first != 10) & (first != 13)]

    def _toggles(self, chunk: bytes, data: Any) -> tuple[Any, bool]:
        """The quotes that open or close a cell, and whether one is open at the end."""
        import numpy as np

        quotes = np.flatnonzero(data == _QUOTE[0]) if _QUOTE in chunk else np.empty(0, np.int64)
        ahead = data[quotes - 1]
        if len(quotes) and quotes[0] == 0:
            ahead[0] = self._before
        opens = (ahead == self._separator) | (ahead == 10) | (ahead == 13)
        fine = opens | (ahead == _QUOTE[0])  # the second of a doubled one opens again
        if len(quotes) and quotes[0] == 0 and self._before == _QUOTE[0]:
            fine[0] = opens[0] = self._just_closed
        if bool(fine[int(self._inside) :: 2].all()):
            inside = bool((len(quotes) + self._inside) & 1)
        else:
            quotes, inside = self._one_by_one(quotes, opens)
        self._just_closed = bool(len(quotes)) and int(quotes[-1]) == len(data) - 1 and not inside
        return quotes, inside

    def _one_by_one(self, quotes: Any, opens: Any) -> tuple[Any, bool]:
        import numpy as np

        toggles: list[int] = []
        inside, closed = self._inside, -2
        for place, can_open in zip(quotes.tolist(), opens.tolist(), strict=True):
            if inside:
                inside, closed = False, place
            elif can_open or place == closed + 1:
                inside = True
            else:
                continue
            toggles.append(place)
        return np.array(toggles, dtype=np.int64), inside

    def _with_text(self, chunk: bytes, data: Any, starts: Any) -> Any:
        """`starts` without those of lines that hold nothing but spaces."""
        import numpy as np

        first = data[starts]
        spaced = (first == 32) | ((first == 9) & (self._separator != 9))
        if not spaced.any():
            return starts
        blank = rb"[ ]*(?=[\r\n])" if self._separator == 9 else rb"[ \t]*(?=[\r\n])"
        match = re.compile(blank).match
        empty = [match(chunk, place) is not None for place in starts[spaced].tolist()]
        keep = np.ones(len(starts), dtype=bool)
        keep[np.flatnonzero(spaced)[empty]] = False
        return starts[keep]

    def finish(self) -> int:
        """See `Scanner`."""
        if self._inside:
            self.faults.append((self._opened, N_("a quoted cell that is not closed")))
        return self._at + len(self._held)
