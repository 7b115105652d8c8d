"""Open a dataset file of any size and read its rows.

Only the standard library and numpy are used: the dataset worker reads the same
file with this module under the training interpreter.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from engine.dataset import shapes, sniff
from engine.dataset.decode import BadRow, Place, decode
from engine.dataset.offsets import CHUNK, Cancelled, Offsets, Progress
from engine.errors import Failed, Problem
from engine.i18n import _

_SPACE = b" \t\r\n"
LONGEST_ROW = 1 << 29


@dataclass(frozen=True)
class Row:
    """One row: its value, or what is wrong with it ("line 3, column 7: a comma is missing")."""

    index: int
    line: int
    value: Any | None
    problem: str | None


class Dataset:
    """A JSON array or a JSON Lines file, its rows numbered from 0.

    Made by `open`. Nothing is held of the file but where its rows begin, and
    that only as far as somebody looked.
    """

    def __init__(self, path: Path, format: str, offsets: Offsets, descriptor: int) -> None:
        self.path = path
        self.format = format
        """"json" (an array) or "jsonl"."""
        self.shape = ""
        """A name in `shapes.SHAPES`, or "" when the first rows have none of them."""
        self._offsets = offsets
        self._descriptor = descriptor

    @classmethod
    def open(cls, path: Path | str, shape: str | None = None) -> Dataset:
        """Open `path`; its shape is told from the first rows unless `shape` names it.

        Returns after the first page has been read, however large the file is.
        Raises `Problem` when it is no such file.
        """
        path = Path(path)
        if shape is not None:
            shapes.by_name(shape)
        descriptor = _open(path)
        try:
            size = os.fstat(descriptor).st_size
            found = sniff.sniff(path, os.pread(descriptor, sniff.HEAD, 0))
            offsets = Offsets(descriptor, size, found.scanner, found.start)
            dataset = cls(path, found.format, offsets, descriptor)
            values = [row.value for row in dataset.page(0, 20) if row.problem is None]
            dataset.shape = shape or shapes.detect_all(values)
        except BaseException:
            os.close(descriptor)
            raise
        return dataset

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __del__(self) -> None:
        # Who closes is not always known: threads may still read what was shown last.
        self.close()

    def __enter__(self) -> Dataset:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def rows(self) -> int | None:
        """The number of rows; None until the whole file has been looked through."""
        return self._offsets.known if self._offsets.complete else None

    @property
    def known(self) -> int:
        """The number of rows found so far."""
        return self._offsets.known

    @property
    def size(self) -> int:
        """The file's bytes when it was opened."""
        return self._offsets.size

    def index(self, progress: Progress | None = None, cancelled: Cancelled | None = None) -> int:
        """Look through the rest of the file; return the number of rows.

        `progress` gets bytes done and in all. Raises `Failed` when cancelled.
        """
        while self._offsets.advance():
            if progress is not None:
                progress(self._offsets.done, self._offsets.size)
            if cancelled is not None and cancelled():
                raise Failed(
                    _("Stopped before the whole of {path} was read").format(path=self.path)
                )
        return self._offsets.known

    def page(self, start: int, count: int) -> list[Row]:
        """Up to `count` rows from `start` on; fewer at the end of the file."""
        return list(self.records(start, start + count))

    def records(self, start: int = 0, end: int | None = None) -> Iterator[Row]:
        """Rows from `start` up to `end`, one after the other, broken ones flagged."""
        line = 0
        for index, raw in self._offsets.spans(start, end):
            line = line or self._offsets.line(index)
            try:
                yield Row(index, line, self._decode(raw), None)
            except BadRow as bad:
                place = self._place(index, raw, bad.offset)
                yield Row(index, line, None, f"{place}: {bad.reason}")
            line += raw.count(b"\n")

    def spans(self) -> Iterator[tuple[int, bytes]]:
        """Every row with the separator behind it, as they stand in the file."""
        return self._offsets.spans()

    def row(self, index: int) -> Any:
        """The value of one row. Raises `Problem` for a broken one and for one that is not there."""
        page = self.page(index, 1) if index >= 0 else []
        if not page:
            count = self.index()
            raise Problem(
                _("There is no row {row} in {path}").format(row=index, path=self.path),
                _("It has {count} rows, numbered from 0.").format(count=count),
                _("Give a number from 0 to {last}.").format(last=count - 1) if count else "",
            )
        if page[0].problem is not None:
            raise self.unreadable(page[0].problem)
        return page[0].value

    def raw(self, index: int) -> bytes:
        """The bytes of one row, without what separates it from the next."""
        if index < 0 or not self._offsets.reach(index):
            raise IndexError(index)
        return self.content(self._offsets.read(*self._offsets.span(index)))

    def head(self) -> bytes:
        """The file's bytes before its first row."""
        self._offsets.reach(0)
        end = self._offsets.span(0)[0] if self._offsets.known else self._offsets.size
        return self._offsets.read(0, end)

    def tail(self) -> bytes:
        """The file's bytes behind its last row and what `spans` gives with it."""
        count = self.index()
        return self._offsets.read(self._offsets.span(count - 1)[1], self.size) if count else b""

    def content(self, span: bytes) -> bytes:
        """A row's own bytes in what `spans` gives."""
        content = span.rstrip(_SPACE)
        if self.format == "json" and content.endswith(b","):
            content = content[:-1].rstrip(_SPACE)
        return content

    def line(self, index: int) -> int:
        """The line of the file, from 1, on which a row begins."""
        if index < 0 or not self._offsets.reach(index):
            raise IndexError(index)
        return self._offsets.line(index)

    def faults(self) -> list[tuple[int, str]]:
        """What is wrong between the rows: (the row before it, "line 3, column 7: …").

        Complete once the file is indexed; always empty for JSON Lines.
        """
        found = []
        for offset, reason in self._offsets.faults:
            place = self._place_at(offset)
            found.append((self._offsets.row_at(offset), f"{place}: {_(reason)}"))
        return found

    def unreadable(self, why: str) -> Problem:
        """The error for a file that is not right JSON; `why` names the place."""
        return Problem(
            _("{path} is not right JSON").format(path=self.path),
            why,
            _("Correct that place, then try again."),
        )

    def fingerprint(self) -> str:
        """Changes when the file's size, time or beginning or end change."""
        status = os.fstat(self._descriptor)
        digest = hashlib.sha256(f"{status.st_size} {status.st_mtime_ns}".encode())
        digest.update(os.pread(self._descriptor, CHUNK, 0))
        digest.update(os.pread(self._descriptor, CHUNK, max(0, status.st_size - CHUNK)))
        return digest.hexdigest()

    def _decode(self, span: bytes) -> Any:
        if len(span) > LONGEST_ROW:
            raise BadRow(_("the row is longer than {size} MB").format(size=LONGEST_ROW >> 20), 0)
        return decode(self.content(span))

    def _place(self, index: int, raw: bytes, offset: int) -> Place:
        before = raw[:offset]
        if b"\n" not in before:
            return self._place_at(self._offsets.span(index)[0] + offset)
        line = self._offsets.line(index) + before.count(b"\n")
        return Place(line, _width(before[before.rfind(b"\n") + 1 :]) + 1)

    def _place_at(self, offset: int) -> Place:
        start = max(0, offset - CHUNK)
        before = self._offsets.read(start, offset)
        begin = before.rfind(b"\n") + 1
        return Place(self._offsets.line_at(offset), _width(before[begin:]) + 1)


def _width(raw: bytes) -> int:
    """Characters in `raw`; a byte order mark is none."""
    return len(raw.removeprefix(sniff.BOM).decode("utf-8", "replace"))


def _open(path: Path) -> int:
    what = _("Cannot read {path}").format(path=path)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError as error:
        todo = _("Check the name; relative names count from the current folder.")
        raise Problem(what, _("There is no such file."), todo) from error
    except OSError as error:
        raise Problem(what, error.strerror or str(error), _("Check its permissions.")) from error
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        why = _("It is a folder.") if stat.S_ISDIR(mode) else _("It is not a regular file.")
        raise Problem(what, why, _("Give a JSON or JSON Lines file."))
    return descriptor
