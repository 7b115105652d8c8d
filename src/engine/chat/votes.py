"""Blind votes: two answers to a question without names, in random order; the names at the end."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Literal

import msgspec

from engine import files
from engine.chat.set_table import Table

FORMAT = "tunedeck-votes-1"
Choice = Literal["first", "second", "tie"]


class Pair(msgspec.Struct, frozen=True):
    """Two answers to lay before a person; who gave them is not to be shown."""

    question: str
    answers: tuple[str, str]
    slots: tuple[str, str]


class Vote(msgspec.Struct, frozen=True):
    """What somebody chose. `first` and `second` are the models in the order shown."""

    question: str
    first: str
    second: str
    choice: Choice


class Tally(msgspec.Struct, frozen=True):
    """How often a model was chosen, not chosen, or as good as the other."""

    model: str
    wins: int
    losses: int
    ties: int


class Record(msgspec.Struct, frozen=True):
    """All votes and what they come to, as they are saved.

    `same`: pairs that nobody was asked about, because both answers read the same.
    """

    format: str
    set: str
    created: float
    tally: list[Tally]
    votes: list[Vote]
    same: int = 0


class Ballot:
    """Every two models' answers to every question, shuffled; one vote for each.

    Answers that read the same are left out.

    Args:
        table: the answers.
        seed: makes the order repeatable (for tests); None is another one each time.
    """

    def __init__(self, table: Table, seed: int | None = None) -> None:
        self._models = table.models
        self._name = table.name
        self._choices: list[Choice] = []
        drawn = random.Random(seed)
        self.same = 0
        self.pairs: list[Pair] = []
        for number, item in enumerate(table.items):
            cells = [one for one in table.row(number) if not one.error]
            for pair in combinations(cells, 2):
                one, other = drawn.sample(pair, 2)
                if one.answer.strip() == other.answer.strip():
                    self.same += 1
                    continue
                answers, slots = (one.answer, other.answer), (one.slot, other.slot)
                self.pairs.append(Pair(item.question, answers, slots))
        drawn.shuffle(self.pairs)

    @property
    def at(self) -> int:
        """How many votes were given."""
        return len(self._choices)

    @property
    def pair(self) -> Pair | None:
        """What to vote on next; None at the end."""
        return self.pairs[self.at] if self.at < len(self.pairs) else None

    def vote(self, choice: Choice) -> None:
        """Vote on `pair`."""
        if self.pair is not None:
            self._choices.append(choice)

    def back(self) -> None:
        """Take the last vote back."""
        if self._choices:
            self._choices.pop()

    def record(self) -> Record:
        """The votes so far, with the models' names."""
        pairs = zip(self.pairs, self._choices, strict=False)
        votes = [
            Vote(pair.question, self._models[pair.slots[0]], self._models[pair.slots[1]], choice)
            for pair, choice in pairs
        ]
        tally = [_tally(name, votes) for name in self._models.values()]
        return Record(FORMAT, self._name, time.time(), tally, votes, self.same)


def save(folder: Path, record: Record) -> Path:
    """Write `record` into `folder` as JSON, under a name that is free; returns the file."""
    stem = time.strftime("votes-%Y%m%d-%H%M%S", time.localtime(record.created))
    names = [f"{stem}.json", *(f"{stem}-{number}.json" for number in range(2, 100))]
    path = next(folder / name for name in names if not (folder / name).exists())
    files.write_json(path, record)
    return path


def _tally(model: str, votes: Sequence[Vote]) -> Tally:
    wins = losses = ties = 0
    for vote in votes:
        if model not in (vote.first, vote.second):
            continue
        chosen = {"first": vote.first, "second": vote.second, "tie": ""}[vote.choice]
        wins += chosen == model
        ties += not chosen
        losses += bool(chosen) and chosen != model
    return Tally(model, wins, losses, ties)
