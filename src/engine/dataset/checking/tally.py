"""What a look at every row finds: made part by part, put together in order.

Per row it keeps a few numbers in arrays; findings are listed up to a bound and
counted beyond it. So memory hardly grows with the file.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from engine.dataset.checking.suspects import DUPLICATE, Warned, duplicate, mixed
from engine.dataset.shapes import Finding, unmarked
from engine.dataset.shapes.base import kind

LISTED = 10_000
"""Broken rows listed; all are counted."""
LISTED_ROWS = 200_000
"""Numbers of rows listed, of each kind: who deletes the duplicates wants all of them."""
LISTED_OF_A_KIND = 1_000
"""Warnings listed of each code; all are counted."""

_JSON = (str, int, float, bool, list, dict)

BROKEN, CUT, DROPPED, UNREADABLE, BEHIND = 1, 2, 4, 8, 16
"""Bits of a row's status. `BEHIND`: it is dropped, because its answers lie behind max_length."""


@dataclass
class Part:
    """What was found in the rows from `start` on. One entry a row in each array.

    `shape` is theirs, `tokens` are before the cut at max_length, `kept` what is trained on (0 for a
    row that is not), `digests` stand for the row's content (0 for a broken row).
    """

    start: int
    shape: str = ""
    broken: list[Finding] = field(default_factory=list)
    broken_total: int = 0
    warnings: list[Warned] = field(default_factory=list)
    codes: Counter[str] = field(default_factory=Counter)
    status: bytearray = field(default_factory=bytearray)
    tokens: array[int] = field(default_factory=lambda: array("I"))
    kept: array[int] = field(default_factory=lambda: array("I"))
    digests: array[int] = field(default_factory=lambda: array("Q"))
    marked: bool = False
    without: array[int] = field(default_factory=lambda: array("Q"))
    kinds: dict[tuple[str, type], int] = field(default_factory=dict)
    """Columns and the kinds of value in them, each with the first row that has it."""
    duplicates: list[int] = field(default_factory=list)
    """Rows that say what an earlier one says, of the whole file (see `finish`)."""

    def begin_row(self) -> None:
        """Room for one more row."""
        self.status.append(0)
        self.tokens.append(0)
        self.kept.append(0)
        self.digests.append(0)

    def fault(self, findings: Iterable[Finding], status: int = 0) -> None:
        """Note what breaks rows of this part."""
        for finding in findings:
            self.broken_total += 1
            if len(self.broken) < LISTED:
                self.broken.append(finding)
            if self.start <= finding.row < self.start + len(self.status):
                self.status[finding.row - self.start] |= BROKEN | status

    def warn(self, warnings: Iterable[Warned]) -> None:
        """Note what is odd about rows."""
        for warning in warnings:
            self.codes[warning.code] += 1
            if self.codes[warning.code] <= LISTED_OF_A_KIND:
                self.warnings.append(warning)

    def columns(self, index: int, row: Any) -> None:
        """Note what kinds of value the columns of `row` hold."""
        for column, value in row.items():
            if value is not None:
                self.kinds.setdefault((column, type(value)), index)

    def add(self, other: Part) -> None:
        """Put the part that follows behind this one."""
        self.status += other.status
        self.tokens += other.tokens
        self.kept += other.kept
        self.digests += other.digests
        self.broken += other.broken[: LISTED - len(self.broken)]
        self.broken_total += other.broken_total
        listed = Counter(self.codes)
        for warning in other.warnings:
            listed[warning.code] += 1
            if listed[warning.code] <= LISTED_OF_A_KIND:
                self.warnings.append(warning)
        self.codes += other.codes
        self.marked = self.marked or other.marked
        self.without += other.without
        for key, row in other.kinds.items():
            self.kinds.setdefault(key, row)

    def finish(self) -> None:
        """What only the whole file tells: loss marks, duplicates, mixed columns."""
        if self.marked:
            self.fault(unmarked(row, self.shape) for row in self.without)
        self.warn(self._duplicates())
        self.warn(self._mixed())
        self.broken.sort(key=lambda finding: finding.row)
        self.warnings.sort(key=lambda warning: warning.row)

    def _duplicates(self) -> Iterable[Warned]:
        import numpy as np

        digests = np.frombuffer(self.digests, dtype=np.uint64)
        order = np.argsort(digests, kind="stable")  # equal ones stay in the rows' order
        ordered = digests[order]
        new = np.ones(len(ordered), dtype=bool)
        new[1:] = ordered[1:] != ordered[:-1]
        first = order[np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))]
        again = ~new & (ordered != 0)
        rows, firsts = order[again], first[again]
        by_row = np.argsort(rows)
        self.duplicates = rows[by_row][:LISTED_ROWS].tolist()
        found = zip(rows[by_row].tolist(), firsts[by_row].tolist(), strict=True)
        for row, earlier in found:
            if self.codes[DUPLICATE] >= LISTED_OF_A_KIND:
                self.codes[DUPLICATE] = len(rows)
                return
            yield duplicate(row, earlier)

    def _mixed(self) -> Iterable[Warned]:
        firsts: dict[str, tuple[int, str]] = {}
        for (column, made), row in sorted(self.kinds.items(), key=lambda item: item[1]):
            name = kind(made()) if made in _JSON else made.__name__
            first, there = firsts.setdefault(column, (row, name))
            if there != name:
                yield mixed(row, column, name, first, there)

    def rows_with(self, status: int) -> list[int]:
        """The rows that have a bit of `status`."""
        import numpy as np

        bits = np.frombuffer(self.status, dtype=np.uint8)
        found: list[int] = np.flatnonzero(bits & status).tolist()
        return found
