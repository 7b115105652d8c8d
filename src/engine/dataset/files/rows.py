"""What a dataset is made of: rows, and the parts (files) that hold them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Row:
    """One row: its value, or what is wrong with it ("line 3, column 7: a comma is missing").

    `index` counts through all files of the dataset, `line` (from 1) is one of the
    file `path`; None where the format has no lines.
    """

    index: int
    line: int | None
    value: Any | None
    problem: str | None
    path: Path | None = None


class Part(ABC):
    """One file of a dataset, its rows numbered from 0 here and from `first` in the dataset.

    Rows are found as far as they are asked for. Every reading method raises
    `Problem` when the file is no longer the one that was opened.
    """

    first = 0
    """The dataset's number of this part's first row; right once the parts before are complete."""
    named = False
    """Whether messages must say which file they are about."""

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self.size = size
        """The file's bytes on disk, against which `done` counts."""

    @property
    @abstractmethod
    def known(self) -> int:
        """Rows found so far."""

    @property
    @abstractmethod
    def complete(self) -> bool:
        """Whether the whole file has been looked through."""

    @property
    @abstractmethod
    def done(self) -> int:
        """Bytes looked through so far."""

    @abstractmethod
    def advance(self) -> bool:
        """Look through a little more; False when there was nothing left."""

    @abstractmethod
    def records(self, start: int, end: int | None) -> Iterator[Row]:
        """Rows from `start` up to `end`, one after the other, broken ones flagged."""

    @abstractmethod
    def columns(self) -> list[str]:
        """The names of the columns, as far as the first rows tell them."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Changes when the file's content (or its time) does."""

    @abstractmethod
    def changed(self) -> bool:
        """Whether the file on disk is no longer the one that was opened."""

    @abstractmethod
    def close(self) -> None:
        """Close the file."""

    def reach(self, row: int) -> bool:
        """Look through the file until `row` and its end are known; False when there is none."""
        while self.known <= row + 1 and not self.complete:
            self.advance()
        return row < self.known

    def line(self, _row: int) -> int | None:
        """The line of the file, from 1, on which a row begins; None where there are no lines."""
        return None

    def faults(self) -> list[tuple[int, str]]:
        """What is wrong between the rows: (the row before it, what). Complete once all is read."""
        return []
