"""Open a dataset of any size and read its rows.

The text formats need only the standard library and numpy: the dataset worker
reads the same files with this module under the training interpreter. The
columnar ones (Parquet, Arrow) need pyarrow, imported when such a file is opened.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from engine.dataset import shapes
from engine.dataset.files.find import Found, find
from engine.dataset.files.offsets import Cancelled, Progress
from engine.dataset.files.rows import Part, Row
from engine.dataset.files.text_part import TextPart
from engine.errors import Failed, Problem
from engine.i18n import _

__all__ = ["Dataset", "Row"]


class Dataset:
    """The rows of one file, of several, or of a folder of them, numbered from 0.

    Made by `open`. Nothing is held of a file but where its rows begin, and that
    only as far as somebody looked. Every reading method raises `Problem` when a
    file was written to meanwhile (`changed` asks beforehand).
    """

    def __init__(self, path: Path, found: Found) -> None:
        self.path = path
        """What was opened: a file or a folder (the first of several)."""
        self.paths = found.paths
        """The files, in the order of their rows."""
        self.format = found.format
        """"json" (an array), "jsonl", "csv", "tsv", "text" (plain lines), "parquet",
        "arrow", or "disk" (a folder that `datasets` wrote with save_to_disk)."""
        self.compression = found.compression
        """"", "gz" or "zst"."""
        self.notes = found.notes
        """What a person should know about how it was opened."""
        self.size = found.size
        """The files' bytes on disk."""
        self.shape = ""
        """A name in `shapes.SHAPES`, or "" when the first rows have none of them."""
        self._found = found
        self._parts: list[Part] = []
        self._lock = threading.Lock()
        self._closed = False

    @classmethod
    def open(
        cls,
        path: Path | str | Sequence[Path | str],
        shape: str | None = None,
        cache: Path | None = None,
    ) -> Dataset:
        """Open a file, several files, or a folder: all its files of one format, by name.

        Args:
            path: the file or folder, or a list of files of one format.
            shape: a name in `shapes.SHAPES`; told from the first rows without it (or with "").
            cache: a folder that keeps the index of large files for the next time.

        Returns after the first page has been read, however large the files are.
        Raises `Problem` when there is nothing that can be read.
        """
        if shape:
            shapes.by_name(shape)
        paths = [Path(path)] if isinstance(path, str | Path) else [Path(each) for each in path]
        dataset = cls(paths[0], find(paths, cache))
        try:
            values = [row.value for row in dataset.page(0, 20) if row.problem is None]
            dataset.shape = shape or shapes.detect_all(values)
        except BaseException:
            dataset.close()
            raise
        return dataset

    def close(self) -> None:
        """Close the files."""
        self._closed = True
        for part in self._parts:
            part.close()

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

    # -- how many -------------------------------------------------------------

    @property
    def rows(self) -> int | None:
        """The number of rows; None until everything has been looked through."""
        opened = self._parts
        complete = len(opened) == len(self.paths) and opened[-1].complete
        return self.known if complete else None

    @property
    def known(self) -> int:
        """The number of rows found so far."""
        return self._parts[-1].first + self._parts[-1].known if self._parts else 0

    def index(self, progress: Progress | None = None, cancelled: Cancelled | None = None) -> int:
        """Look through the rest; return the number of rows.

        `progress` gets bytes done and in all. Raises `Failed` when cancelled.
        """
        before = 0
        for part in self._opened():
            while part.advance():
                if progress is not None:
                    progress(min(before + part.done, self.size), self.size)
                if cancelled is not None and cancelled():
                    raise Failed(
                        _("Stopped before the whole of {path} was read").format(path=self.path)
                    )
            before += part.size
        return self.known

    # -- rows -----------------------------------------------------------------

    def page(self, start: int, count: int) -> list[Row]:
        """Up to `count` rows from `start` on; fewer at the end."""
        return list(self.records(start, start + count))

    def records(self, start: int = 0, end: int | None = None) -> Iterator[Row]:
        """Rows from `start` up to `end`, one after the other, broken ones flagged."""
        for part in self._opened():
            first = part.first
            if not part.complete or first + part.known > start:
                yield from part.records(max(0, start - first), None if end is None else end - first)
            if end is not None and first + part.known >= end:
                return

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

    def line(self, index: int) -> int | None:
        """The line (from 1) of its file on which a row begins; None where there are no lines."""
        part, row = self._place(index)
        return part.line(row)

    def file(self, index: int) -> Path:
        """The file that a row is in."""
        return self._place(index)[0].path

    def columns(self) -> list[str]:
        """The names of the columns, as far as the first rows tell them."""
        return next((part.columns() for part in self._opened()), [])

    def faults(self) -> list[tuple[int, str]]:
        """What is wrong between the rows: (the row before it, "line 3, column 7: …").

        Complete once everything is indexed.
        """
        return [
            (part.first + row, reason)
            for part in list(self._parts)
            for row, reason in part.faults()
        ]

    def unreadable(self, why: str) -> Problem:
        """The error for a row that cannot be read; `why` names the place."""
        for part in list(self._parts):
            if isinstance(part, TextPart) and (cut := part.cut_off()) is not None:
                return cut
        todo = _("Correct that place, then try again.")
        if self.format in ("json", "jsonl"):
            return Problem(_("{path} is not right JSON").format(path=self.path), why, todo)
        return Problem(_("{path} holds a broken row").format(path=self.path), why, todo)

    # -- the text itself (not of Parquet and Arrow, which have none) -------------

    def spans(self) -> Iterator[tuple[int, bytes]]:
        """Every row with the separator behind it, as they stand in the files."""
        for part in self._opened():
            text = self._text(part)
            for index, span in text.spans():
                yield text.first + index, span

    def stretch(self, first: int, last: int) -> Iterator[bytes]:
        """The text from row `first` up to row `last`, in large pieces (of one file, indexed)."""
        return self._text(self._only()).stretch(first, last)

    def raw(self, index: int) -> bytes:
        """The bytes of one row, without what separates it from the next. Raises `IndexError`."""
        part, row = self._place(index)
        return self._text(part).raw(row)

    def content(self, span: bytes) -> bytes:
        """A row's own bytes in what `spans` gives."""
        return self._text(next(self._opened())).layout.content(span)

    def head(self) -> bytes:
        """The text before the first row (of one file)."""
        return self._text(self._only()).head()

    def tail(self) -> bytes:
        """The text behind the last row and what `spans` gives with it (of one file)."""
        self.index()
        return self._text(self._only()).tail()

    # -- the files ------------------------------------------------------------

    def fingerprint(self) -> str:
        """Changes when a file's size, time or beginning or end change."""
        prints = [part.fingerprint() for part in self._opened()]
        if len(prints) == 1:
            return prints[0]
        return hashlib.sha256("".join(prints).encode()).hexdigest()

    def changed(self) -> bool:
        """Whether a file on disk is no longer the one that was opened."""
        return any(part.changed() for part in list(self._parts))

    def load_args(self) -> dict[str, Any]:
        """The keyword arguments with which XTuner reads the same rows.

        Of ``datasets.load_from_disk`` for the format "disk", of
        ``datasets.load_dataset`` (split "train") for all others.
        """
        return self._found.load_args()

    # -- parts ----------------------------------------------------------------

    def _opened(self) -> Iterator[Part]:
        """The parts in order, each opened when it is reached.

        A part's first row has a number only when the parts before it are
        complete: who goes on to the next one has this one looked through.
        """
        for number in range(len(self.paths)):
            if number == len(self._parts):
                self._open_part(number)
            yield self._parts[number]

    def _open_part(self, number: int) -> None:
        first = 0
        if number:
            before = self._parts[number - 1]
            while before.advance():
                pass
            first = before.first + before.known
        with self._lock:
            if self._closed:
                raise Failed(_("{path} has been closed").format(path=self.path))
            if number == len(self._parts):  # else another thread was quicker
                part = self._found.open(number)
                part.first = first
                part.named = len(self.paths) > 1
                self._parts.append(part)

    def _place(self, index: int) -> tuple[Part, int]:
        """The part that holds a row, and its number there. Raises `IndexError`."""
        if index >= 0:
            for part in self._opened():
                if part.reach(index - part.first):
                    return part, index - part.first
        raise IndexError(index)

    def _only(self) -> Part:
        if len(self.paths) > 1:
            raise Problem(
                _("{path} is not one file but {count}").format(
                    path=self.path, count=len(self.paths)
                ),
                _("This works on one file at a time."),
                _("Give each file by itself."),
            )
        return next(self._opened())

    def _text(self, part: Part) -> TextPart:
        if not isinstance(part, TextPart):
            raise Problem(
                _("{path} is no text file").format(path=part.path),
                _("Its format ({format}) has no text to show or change.").format(
                    format=self.format
                ),
                _("Convert it to JSON Lines first."),
            )
        return part
