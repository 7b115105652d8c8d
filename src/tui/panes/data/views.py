"""Which rows are shown, and in which order: all, the broken ones, the longest first, …"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from engine.i18n import N_, _
from tui.dialogs.choose import Choice
from tui.panes.data.facts import BROKEN, CUT, DOUBLE, DOUBTFUL, DROPPED, Facts

ALL = "all"
TITLES = {
    ALL: N_("all rows"),
    "flagged": N_("all that deserve a look"),
    "broken": N_("broken"),
    "cut": N_("cut at max_length"),
    "dropped": N_("dropped"),
    "warnings": N_("warnings"),
    "duplicates": N_("duplicates"),
    "matches": N_("matches of the search"),
    "marked": N_("marked"),
    "longest": N_("longest first"),
}
"""The views, by name."""


class Known(NamedTuple):
    """What views are made of."""

    facts: Facts
    matches: Sequence[int]


_MADE: dict[str, Callable[[Known], Sequence[int]]] = {
    "flagged": lambda known: known.facts.flagged,
    "broken": lambda known: known.facts.rows(BROKEN),
    "cut": lambda known: known.facts.rows(CUT),
    "dropped": lambda known: known.facts.rows(DROPPED),
    "warnings": lambda known: known.facts.rows(DOUBTFUL, DOUBLE),
    "duplicates": lambda known: known.facts.rows(DOUBLE),
    "matches": lambda known: known.matches,
    "marked": lambda known: sorted(known.facts.marked),
    "longest": lambda known: _longest(known.facts),
}


def rows_of(view: str, known: Known) -> Sequence[int] | None:
    """The rows of `view` in its order; None for all in the file's."""
    return None if view == ALL else _MADE[view](known)


_NOTES = {"broken": BROKEN, "cut": CUT, "dropped": DROPPED, "duplicates": DOUBLE}


def counted(view: str, rows: int, known: Known) -> str:
    """The `rows` of `view`, and of how many where a check has listed the first of them only."""
    total = known.facts.total(_NOTES.get(view, ""))
    # A row that is broken, too, is listed as that.
    listed = rows + (known.facts.total(BROKEN) if view != "broken" else 0)
    if total <= listed:
        return f"{rows:,}"
    return _("{rows:,} of {total:,}").format(rows=rows, total=total)


def choices(known: Known) -> Iterator[Choice]:
    """The views that show anything now, each with its count."""
    for name, title in TITLES.items():
        rows = rows_of(name, known)
        if rows is None or len(rows):
            yield Choice(name, _(title), "" if rows is None else counted(name, len(rows), known))


def _longest(facts: Facts) -> Sequence[int]:
    """Rows by their tokens, those of the check."""
    return facts.report.longest_first() if facts.report is not None else []
