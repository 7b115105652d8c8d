"""What replacing changed, summed up over the files of a dataset."""

from __future__ import annotations

from pathlib import Path

import msgspec

from engine.dataset.editing.editor import Edit
from engine.dataset.files.offsets import Progress
from engine.errors import Problem
from engine.i18n import _
from engine.text import whole


class Place(msgspec.Struct, frozen=True):
    """A text that changes: where it is, and how it reads before and after.

    `line` is that of its file, 0 where there are no lines.
    """

    row: int
    line: int
    field: str
    before: str
    after: str
    count: int


class Changes:
    """Counts, and with `listing` the places too. Rows of a later file go on counting."""

    def __init__(self, size: int, listing: bool, progress: Progress | None) -> None:
        self.listing = listing
        self.rows = 0
        self.rows_changed = 0
        self.replacements = 0
        self.places: list[Place] = []
        self.broken: list[int] = []
        self._size = size
        self._done = self._told = 0
        self._progress = progress

    def add(self, row: int, line: int | None, edits: list[Edit]) -> None:
        """Note the `edits` of one row of the file under way."""
        self.rows_changed += 1
        self.replacements += sum(edit.times for edit in edits)
        if self.listing:
            self.places += [
                Place(
                    self.rows + row,
                    line or 0,
                    whole(edit.field),
                    whole(edit.before),
                    whole(edit.after),
                    edit.times,
                )
                for edit in edits
            ]

    def broken_row(self, row: int) -> None:
        """Note a row of the file under way that cannot be read and is copied as it is."""
        self.broken.append(self.rows + row)

    def tell(self, done: int) -> None:
        """So many bytes more are done."""
        self._done += done
        if self._progress is not None and self._done - self._told >= 1 << 18:
            self._told = self._done
            self._progress(min(self._done, self._size), self._size)

    def finish(self) -> None:
        """All is done."""
        if self._progress is not None:
            self._progress(self._size, self._size)

    def unreadable(self, path: Path, why: str) -> Problem:
        """The error for an array that is not right JSON."""
        return Problem(
            _("{path} is not right JSON").format(path=path),
            why,
            _("Correct that place, then try again."),
        )
