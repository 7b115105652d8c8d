"""The watch that a supervisor keeps over its run, so that an alarm needs no open window."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from engine.run import progress, state
from engine.run.alarms import curve, machine, pace
from engine.run.alarms.board import Board
from engine.run.state import Order, RunState

EVERY = 2.0
"""Seconds between looks at the curve and the log."""
MACHINE_EVERY = 10.0
"""Seconds between looks at the disk, the memory and the health of GPUs."""


class Watch:
    """Over one start of a run, from before it. Trouble of its own is noted, never the run's.

    Args:
        folder: the run's; its earlier starts are not looked at.
        order: what is started.
        note: takes what is worth a line in the supervisor's own log.
        began: when it began, in seconds since the epoch; None: it has not yet.
    """

    def __init__(
        self,
        folder: Path,
        order: Order,
        note: Callable[[str], object],
        began: float | None = None,
    ) -> None:
        self._folder, self._note = folder, note
        self._nodes = _nodes(folder)
        # XTuner calls the folder of a start by the time when it is made.
        until = "9" if began is None else time.strftime("%Y%m%d_%H%M%S", time.localtime(began))
        earlier = {one.name for one in folder.glob("[0-9]*_[0-9]*") if one.name < until}
        self._follower = progress.Follower(folder, but=earlier)
        self._board = Board(folder, self._follower.update, note)
        self._curve = curve.checks(fresh=not order.resume)
        self._pace = pace.Pace(folder, order.gpus, self._nodes)
        parts = (machine.Disk(folder), machine.Memory(), machine.GpuHealth(order.gpus))
        self._machine: list[Callable[[], machine.Alarms]] = [part.look for part in parts]
        self._read = (0, 0)
        self._looked = self._looked_at_machine = time.monotonic()
        self._noted = ""

    @property
    def step(self) -> int | None:
        """The last step that this start has logged, as it was seen last."""
        steps = self._follower.history.step
        return steps[-1] if steps else None

    def look(self, now: RunState) -> None:
        """Look around when it is time; to be called several times a second."""
        self._board.state = now
        try:
            self._board.poll()
            passed = time.monotonic() - self._looked
            if passed >= EVERY:
                self._looked += passed
                # A machine that slept was not watched meanwhile.
                self._look_at_run(min(passed, 3 * EVERY))
            if self._looked - self._looked_at_machine >= MACHINE_EVERY:
                self._looked_at_machine = self._looked
                self._look_at_machine()
        except Exception as error:
            self._say(error)

    def ended(self, now: RunState) -> None:
        """Tell of the run's end."""
        self._board.state = now
        try:
            self._board.ended()
        except Exception as error:
            self._say(error)

    def leave(self) -> None:
        """Wait for the last calls of the user's command, but not for ever."""
        self._board.leave()

    def pids(self) -> set[int]:
        """The processes of the user's command: they are not the run's."""
        return self._board.pids()

    def _look_at_run(self, passed: float) -> None:
        history = self._follower.update().history
        self._board.settle(self._pace.look(passed, history))
        read = (len(history), history.step[-1] if history else 0)
        if read != self._read:
            self._read = read
            self._board.settle({code: check(history) for code, check in self._curve.items()})

    def _look_at_machine(self) -> None:
        for look in self._machine:
            self._board.settle(look())
        if self._nodes > 1:
            self._board.settle({"node-silent": pace.silent_nodes(self._folder, self._nodes)})

    def _say(self, error: Exception) -> None:
        """Note what went wrong; the same again and again only once."""
        if repr(error) != self._noted:
            self._noted = repr(error)
            self._note(f"watch: {error!r}")


def _nodes(folder: Path) -> int:
    record = state.read_record(folder)
    return record.nodes if record is not None else 1
