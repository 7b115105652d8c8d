"""Errors a person reads: what happened, why, and what to do about it."""

from __future__ import annotations


class Problem(Exception):
    """An input or a wish that cannot be followed, in words for a person.

    Args:
        what: one sentence, what could not be done ("Cannot read data.json").
        why: the cause ("line 3, column 7: expected a comma").
        todo: the next step ("Correct that line, then open the file again").
        details: what an expert wants to see (a traceback), shown on request.

    ``status`` is the exit status of the command line: 2 for wrong usage and
    for input that cannot be read, 1 (see `Failed`) for work that went wrong.
    """

    status = 2

    def __init__(self, what: str, why: str = "", todo: str = "", details: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.todo = todo
        self.details = details

    def lines(self) -> list[str]:
        """The message in one to three lines, empty parts left out."""
        return [part for part in (self.what, self.why, self.todo) if part]

    def __str__(self) -> str:
        return " ".join(self.lines())


class Failed(Problem):
    """The thing asked for was understood and tried, and did not succeed."""

    status = 1
