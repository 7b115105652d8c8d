"""One pass over rows: what is broken, what is odd, and how many tokens there are."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import Any, NamedTuple

from engine.dataset import shapes
from engine.dataset.checking import suspects
from engine.dataset.checking.suspects import SHAPE, Marks, Warned
from engine.dataset.checking.tally import BEHIND, CUT, DROPPED, UNREADABLE, Part
from engine.dataset.reader import Row
from engine.dataset.shapes import Finding
from engine.errors import Problem
from engine.i18n import _


class Counted(NamedTuple):
    """Tokens of a row, and those that XTuner trains on: 0 when it drops the row.

    `behind` says that it is dropped because it is cut before its first answer.
    """

    tokens: int
    kept: int
    behind: bool = False


Tokenize = Callable[[list[Any], str], list[Counted | Exception]]
"""``tokenize(values, shape)``: XTuner's view of each row (which is changed), or its error."""

BATCH = 64
"""Rows that are tokenized in one call."""


class RowPass:
    """Looks at rows; with `tokenize`, also at what XTuner makes of them.

    Without that it needs the standard library only.
    """

    def __init__(
        self, shape: str, marks: Marks | None = None, tokenize: Tokenize | None = None
    ) -> None:
        self.shape = shape
        self._shape = shapes.by_name(shape) if shape else None
        self._marks = marks or Marks()
        self._tokenize = tokenize

    def part(self, start: int, rows: Iterable[Row], each: Callable[[int], None]) -> Part:
        """Look at `rows`, the first of which is `start`.

        `each` is called with a row's number now and then, and may raise to stop.
        """
        part = Part(start, self.shape)
        waiting: list[tuple[int, Any]] = []
        for row in rows:
            part.begin_row()
            if self._structure(part, row) and self._tokenize is not None:
                waiting.append((row.index, row.value))
            if row.index % BATCH == BATCH - 1:
                self._count(part, waiting)
                waiting.clear()
                each(row.index)
        self._count(part, waiting)
        return part

    def _structure(self, part: Part, row: Row) -> bool:
        """Whether XTuner can be given the row."""
        if row.problem is not None:
            remedy = _("Correct the text there, or remove the row.")
            part.fault([Finding(row.index, "", row.problem, remedy)], UNREADABLE)
            return False
        if self._shape is None:
            return False
        value: Any = row.value
        findings = self._shape.check(row.index, value)
        errors = shapes.errors(findings)
        part.fault(errors)
        part.warn(_warned(finding) for finding in findings if finding not in errors)
        if errors:
            return False
        turns = self._shape.turns(value)
        told = {finding.field for finding in findings}
        odd = suspects.look(row.index, value, turns, self._marks)
        part.warn(one for one in odd if one.field not in told)
        part.digests[-1] = _digest(value, turns)
        part.columns(row.index, value)
        some, others = shapes.loss_marks(value, self._shape.name)
        part.marked = part.marked or some
        if others:
            part.without.append(row.index)
        return True

    def _count(self, part: Part, rows: list[tuple[int, Any]]) -> None:
        """Tokenize `rows`, which are changed by it."""
        if self._tokenize is None or not rows:
            return
        counted = self._tokenize([value for _index, value in rows], self.shape)
        for (index, _value), found in zip(rows, counted, strict=True):
            if isinstance(found, Exception):  # whatever XTuner cannot take would end its run
                part.fault([_refused(index, found)])
                continue
            place = index - part.start
            part.tokens[place], part.kept[place] = found.tokens, found.kept
            if not found.kept:
                part.status[place] |= DROPPED | (BEHIND if found.behind else 0)
            elif found.tokens > found.kept:
                part.status[place] |= CUT


def _warned(finding: Finding) -> Warned:
    return Warned(finding.row, finding.field, SHAPE, finding.reason, finding.remedy)


def _refused(index: int, error: Exception) -> Finding:
    if isinstance(error, Problem):
        return Finding(index, "", ": ".join(filter(None, (error.what, error.why))), error.todo)
    reason = f"{type(error).__name__}: {error}"
    return Finding(index, "", reason, _("Correct the row, or remove it."))


def _digest(value: Any, turns: list[shapes.Turn]) -> int:
    """Stands for a row's questions and answers; for the whole row when it has none. Never 0."""
    content = "\0".join(part for turn in turns for part in turn) or json.dumps(
        value, sort_keys=True, default=str
    )
    return (
        int.from_bytes(
            blake2b(content.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little"
        )
        or 1
    )
