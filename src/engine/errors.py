"""Errors a person reads: what happened, why, and what to do about it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Literal

from engine.i18n import sentences

Way = Literal[
    "base",
    "bits",
    "catalogue",
    "check",
    "checkpoint",
    "config",
    "data",
    "device",
    "dtype",
    "engine",
    "export",
    "force",
    "gpus",
    "out",
    "regex",
    "resume",
    "set",
    "shape",
    "share-gpu",
    "template",
    "trust-remote-code",
    "unload",
]
"""What a person can do about a problem with a flag of the command line, or a key of the app:
`engine.cli.flags` and each pane know which."""
Tell = Callable[[Way], str]
"""How a surface says it: a sentence for a way, or ""."""


class Problem(Exception):
    """An input or a wish that cannot be followed, in words for a person.

    Args:
        what: one sentence, what could not be done ("Cannot read data.json").
        why: the cause ("line 3, column 7: expected a comma").
        todo: the next step ("Correct that line, then open the file again").
        details: what an expert wants to see (a traceback), shown on request.
        ways: how `todo` is done where a surface has something for it; `todo` itself
            names no flag and no key.

    ``status`` is the exit status of the command line: 2 for wrong usage and
    for input that cannot be read, 1 (see `Failed`) for work that went wrong.
    """

    status = 2

    def __init__(
        self,
        what: str,
        why: str = "",
        todo: str = "",
        details: str = "",
        ways: tuple[Way, ...] = (),
    ) -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.todo = todo
        self.details = details
        self.ways = ways

    def told(self, tell: Tell) -> Problem:
        """The same, as a surface says it."""
        said = copy.copy(self)
        said.todo = sentences(self.todo, *map(tell, self.ways))
        said.ways = ()
        return said

    def lines(self) -> list[str]:
        """The message in one to three lines, empty parts left out."""
        return [part for part in (self.what, self.why, self.todo) if part]

    def __str__(self) -> str:
        return sentences(*self.lines())


class Failed(Problem):
    """The thing asked for was understood and tried, and did not succeed."""

    status = 1
