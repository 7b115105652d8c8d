"""One pass over rows: what is broken, what is odd, and how many tokens there are."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from engine.dataset import shapes, suspects
from engine.dataset.reader import Row
from engine.dataset.shapes import Finding
from engine.dataset.suspects import SHAPE, Marks, Warned
from engine.dataset.tally import CUT, DROPPED, UNREADABLE, Part
from engine.i18n import _

if TYPE_CHECKING:
    from engine.dataset.batching import Batching
    from engine.dataset.feed import Feed

BATCH = 64
"""Rows that are tokenized in one call."""


class RowPass:
    """Looks at rows; with `feed`, also at what XTuner makes of them.

    Without a model it needs the standard library only.
    """

    def __init__(
        self,
        shape: str,
        feed: Feed | None = None,
        tokenizer: Batching | None = None,
        marks: Marks | None = None,
    ) -> None:
        self.shape = shape
        self._shape = shapes.by_name(shape) if shape else None
        self._feed = feed
        self._tokenizer = tokenizer
        self._marks = marks or Marks()

    def part(self, start: int, rows: Iterable[Row], each: Callable[[int], None]) -> Part:
        """Look at `rows`, the first of which is `start`.

        `each` is called with a row's number now and then, and may raise to stop.
        """
        part = Part(start, self.shape)
        waiting: list[tuple[int, Any]] = []
        for row in rows:
            part.begin_row()
            if self._structure(part, row) and self._feed is not None:
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
            remedy = _("Correct the JSON there, or remove the row.")
            part.fault([Finding(row.index, "", row.problem, remedy)], UNREADABLE)
            return False
        if self._shape is None or row.value is None:
            return False
        findings = self._shape.check(row.index, row.value)
        errors = shapes.errors(findings)
        part.fault(errors)
        part.warn(_warned(finding) for finding in findings if finding not in errors)
        if errors:
            return False
        turns = self._shape.turns(row.value)
        told = {finding.field for finding in findings}
        odd = suspects.look(row.index, row.value, turns, self._marks)
        part.warn(one for one in odd if one.field not in told)
        part.digests[-1] = _digest(row.value, turns)
        part.columns(row.index, row.value)
        some, others = shapes.loss_marks(row.value, self._shape.name)
        part.marked = part.marked or some
        if others:
            part.without.append(row.index)
        return True

    def _count(self, part: Part, rows: list[tuple[int, Any]]) -> None:
        """Tokenize `rows`, which are changed by it."""
        if self._feed is None or self._tokenizer is None or self._shape is None or not rows:
            return
        ready: list[tuple[int, Any]] = []
        for index, value in rows:
            try:
                example = self._feed.prepare(value, self._shape.name)
            except Exception as error:  # whatever XTuner cannot take would end its run
                part.fault([_refused(index, error)])
                continue
            if example is None:
                part.status[index - part.start] |= DROPPED
            else:
                ready.append((index, example))
        self._tokenizer.learn(_texts(example for _index, example in ready))
        for index, example in ready:
            try:
                sample = self._feed.tokenize(example, self._tokenizer)
            except Exception as error:
                part.fault([_refused(index, error)])
                continue
            place = index - part.start
            part.tokens[place] = sample.length
            if not sample.trained:
                part.status[place] |= DROPPED
                continue
            part.kept[place] = len(sample.input_ids)
            if sample.length > len(sample.input_ids):
                part.status[place] |= CUT


def _warned(finding: Finding) -> Warned:
    return Warned(finding.row, finding.field, SHAPE, finding.reason, finding.remedy)


def _refused(index: int, error: Exception) -> Finding:
    reason = f"{type(error).__name__}: {error}"
    return Finding(index, "", reason, _("Correct the row, or remove it."))


def _texts(examples: Iterable[dict[str, Any]]) -> Iterable[str]:
    """The texts that XTuner's ``encode_fn`` will ask the tokenizer for."""
    for example in examples:
        for turn in example["conversation"]:
            for name in ("input", "output", "sep"):
                text = turn.get(name)
                if isinstance(text, str):
                    yield text


def _digest(value: Any, turns: list[shapes.Turn]) -> int:
    """Stands for a row's questions and answers; for the whole row when it has none. Never 0."""
    content = repr(turns) if turns else json.dumps(value, sort_keys=True, default=str)
    return int.from_bytes(blake2b(content.encode(), digest_size=8).digest(), "little") or 1
