"""The processes of one run, as its supervisor sees them."""

from __future__ import annotations

import time
from collections.abc import Callable

from engine.run import processes
from engine.run.place import Place
from engine.run.processes import Identity

LOOK = 0.2
"""Seconds between looks at who is left."""


class Family:
    """Who belongs to the run, and their ends.

    Args:
        place: where the run's folder lies.
        apart: gives the ids of processes that are looked after by somebody else.
        note: takes what is worth a line in the supervisor's own log.
    """

    def __init__(
        self, place: Place, apart: Callable[[], set[int]], note: Callable[[str], object]
    ) -> None:
        self._place, self._apart, self._note = place, apart, note
        self.trainer: Identity | None = None
        """The trainer, once it is known."""
        self.child: int | None = None
        """The id of the trainer that this process started, and whose exit status it wants."""

    def reap(self) -> None:
        """Collect those that have ended and were left to this process."""
        child = set() if self.child is None else {self.child}
        processes.reap_orphans(but=child | self._apart())

    def left(self) -> set[Identity]:
        """Who of them lives.

        By the mark as well: one that left our family (a daemon of its own) still holds the GPU.
        """
        marked = processes.of_run(self._place.path, str(self._place.origin), self.trainer)
        return {*processes.descendants(but=self._apart()), *marked}

    def await_end(self, seconds: float, hurry: Callable[[], bool]) -> None:
        """Let them end by themselves, for so long or until there is a `hurry`."""
        until = time.monotonic() + seconds
        while self.left() and time.monotonic() < until and not hurry():
            time.sleep(LOOK)
            self.reap()

    def end(self, grace: float) -> None:
        """End them all: SIGTERM, after `grace` seconds SIGKILL."""
        # Twice: one that was just starting another is caught with its child.
        for _round in range(2):
            left = processes.end(self.left(), grace)
            self.reap()
            if left:
                self._note(f"still there after SIGKILL: {[one.pid for one in left]}")
