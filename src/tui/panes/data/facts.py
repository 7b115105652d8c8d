"""What is known of the rows beside what stands in the file: flaws, lengths, marks."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from engine.i18n import N_, _, sentences

if TYPE_CHECKING:
    from engine.dataset.checking.check import CheckReport

BROKEN, CUT, DROPPED, DOUBLE, DOUBTFUL = "✗", N_("cut"), N_("drop"), N_("dup"), "!"
"""What the last column says of a row: four cells at most, in any language."""


class Facts:
    """About the rows of one dataset, by their numbers."""

    def __init__(self) -> None:
        self.report: CheckReport | None = None
        self.marked: set[int] = set()
        """Rows that the user has marked."""
        self.flagged: list[int] = []
        """Rows that deserve a look, in order."""
        self._notes: dict[int, str] = {}
        self._reasons: dict[int, list[str]] = {}
        self._tokens: dict[int, int] = {}

    def checked(self, report: CheckReport) -> None:
        """A check has found these things."""
        self.report = report
        self._notes, self._reasons = {}, {}
        for rows, note in (
            ([warning.row for warning in report.warnings], DOUBTFUL),
            (report.duplicates, DOUBLE),
            (report.cut or (), CUT),
            (report.dropped_rows or (), DROPPED),
            ([finding.row for finding in report.broken], BROKEN),
        ):
            self._notes.update(dict.fromkeys(rows, note))  # the worst comes last and stays
        self.flagged = sorted(self._notes)
        for one in report.warnings:
            said = f"{DOUBTFUL} {sentences(one.reason, one.remedy)}"
            self._reasons.setdefault(one.row, []).append(said)

    def forget(self) -> None:
        """The rows, or the eyes that they are seen with, are others now. Marks stay."""
        self.report, self.flagged = None, []
        self._notes.clear()
        self._reasons.clear()
        self._tokens.clear()

    def rows(self, *notes: str) -> list[int]:
        """The rows of which one of `notes` is said, in order."""
        return [row for row in self.flagged if self._notes[row] in notes]

    def total(self, note: str) -> int:
        """How many rows have `note`, those too that no list has; 0 while nobody has looked."""
        from engine.dataset.checking.suspects import DUPLICATE

        report = self.report
        if report is None:
            return 0
        totals = {
            BROKEN: report.broken_rows,
            CUT: report.cut_total,
            DROPPED: report.dropped,
            DOUBLE: report.warning_counts.get(DUPLICATE),
        }
        return totals.get(note) or 0

    def tokens(self, row: int) -> int | None:
        """The row's tokens before any cut; None while nobody has counted them."""
        known = self.report.tokens_of(row) if self.report is not None else None
        return self._tokens.get(row) if known is None else known

    def counted(self, row: int, tokens: int) -> None:
        """A row has so many tokens (0: it cannot be used)."""
        self._tokens[row] = tokens

    def reasons(self, row: int) -> list[str]:
        """What is odd about `row`, each with what to do about it."""
        found = self._reasons.get(row, [])
        if not found and self._notes.get(row) == DOUBLE:  # only the first of them are spelt out
            same = _("the same questions and answers as an earlier row")
            return [f"{DOUBTFUL} {same}"]
        return found

    def packed_with(self, row: int) -> list[int] | None:
        """The rows that share a packed sample with `row`; None when that is not known."""
        return self.report.packed_with(row) if self.report is not None else None

    def note(self, row: int, max_length: int) -> str:
        """What the last column says of `row`."""
        note = self._notes.get(row, "")
        if not note and (self.tokens(row) or 0) > max_length:
            return CUT
        return note


def note_text(note: str) -> Text:
    """A note as it is drawn, translated; never told by its colour alone."""
    said = _(note) if note.isalpha() else note
    return Text(said, style="red" if note == BROKEN else "yellow")


def following(rows: Sequence[int], row: int) -> int | None:
    """The next of `rows` (sorted) behind `row`, around the end; None when there are none."""
    if not rows:
        return None
    at = bisect_right(rows, row)
    return rows[at if at < len(rows) else 0]


def preceding(rows: Sequence[int], row: int) -> int | None:
    """The next of `rows` (sorted) before `row`, around the beginning; None when there are none."""
    return rows[bisect_left(rows, row) - 1] if rows else None


def ranges(rows: Iterable[int]) -> list[range]:
    """`rows`, sorted, as ranges of neighbours."""
    found: list[range] = []
    for row in rows:
        if found and found[-1].stop == row:
            found[-1] = range(found[-1].start, row + 1)
        else:
            found.append(range(row, row + 1))
    return found
