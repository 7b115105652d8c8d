"""What came of a prompt set: answers by question and model, how they differ, the score."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from engine.chat.answer import Answer
from engine.chat.sets import Item

FORMAT = "tunedeck-set-1"
_GAPS = re.compile(r"\s+")


class Cell(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer of the model in `slot` to the question number `item` (from 0).

    `right` is None where nothing says what is right. `error`: why there is no
    answer. `differs`: it is not the first model's answer (`Table` says so).
    Times in seconds.
    """

    item: int
    slot: str
    answer: str = ""
    right: bool | None = None
    differs: bool = False
    tokens: int = 0
    first_token_s: float = 0.0
    tokens_per_s: float = 0.0
    ended: str = ""
    error: str = ""

    @classmethod
    def of(cls, number: int, item: Item, slot: str, answer: Answer) -> Cell:
        """What is kept of `answer`."""
        return cls(
            number,
            slot,
            answer.text,
            item.right(answer.text),
            tokens=answer.tokens,
            first_token_s=answer.first_token_s,
            tokens_per_s=answer.tokens_per_s,
            ended=answer.ended,
        )


class Score(msgspec.Struct, frozen=True):
    """How many answers of a model are right, of those where it can be told."""

    right: int
    of: int


class Table:
    """Answers as they come. `models` says in words what sits in each slot, in their order."""

    def __init__(self, name: str, items: Sequence[Item], models: Mapping[str, str]) -> None:
        self.name = name
        self.items = list(items)
        self.models = dict(models)
        self._cells: dict[tuple[int, str], Cell] = {}

    def add(self, cell: Cell) -> None:
        """Put an answer into its place."""
        self._cells[cell.item, cell.slot] = cell

    def cell(self, number: int, slot: str) -> Cell | None:
        """The answer, or why there is none; None where nobody was asked yet."""
        found = self._cells.get((number, slot))
        if found is None or found.error:
            return found
        return msgspec.structs.replace(found, differs=self._differs(found))

    def row(self, number: int) -> list[Cell]:
        """The answers to one question, as far as they have come."""
        found = (self.cell(number, slot) for slot in self.models)
        return [one for one in found if one is not None]

    def score(self, slot: str) -> Score:
        """The score of a model."""
        told = [one.right for one in self._cells.values() if one.slot == slot]
        counted = [right for right in told if right is not None]
        return Score(sum(counted), len(counted))

    @property
    def asked(self) -> int:
        """How many answers there are."""
        return len(self._cells)

    @property
    def total(self) -> int:
        """How many there will be."""
        return len(self.items) * len(self.models)

    def differing(self) -> int:
        """How many questions the models do not answer alike."""
        return sum(any(one.differs for one in self.row(at)) for at in range(len(self.items)))

    def _differs(self, cell: Cell) -> bool:
        first = self._cells.get((cell.item, next(iter(self.models))))
        if first is None or first.error:
            return False
        return _GAPS.sub(" ", first.answer).strip() != _GAPS.sub(" ", cell.answer).strip()


class Row(msgspec.Struct, frozen=True):
    """One question with the answers to it."""

    id: str
    question: str
    expected: str
    pattern: str
    system: str | None
    answers: list[Cell]


class Model(msgspec.Struct, frozen=True):
    """A model and its score."""

    slot: str
    model: str
    score: Score


class Result(msgspec.Struct, frozen=True):
    """A table as JSON. `complete` is false when it was stopped before the end."""

    format: str
    set: str
    created: float
    complete: bool
    models: list[Model]
    rows: list[Row]


def result(table: Table) -> Result:
    """`table`, to be written as JSON."""
    models = [Model(slot, name, table.score(slot)) for slot, name in table.models.items()]
    complete = table.asked == table.total
    return Result(FORMAT, table.name, time.time(), complete, models, list(_rows(table)))


def _rows(table: Table) -> Iterator[Row]:
    for number, one in enumerate(table.items):
        fields = (one.id, one.question, one.expected, one.pattern, one.system)
        yield Row(*fields, table.row(number))
