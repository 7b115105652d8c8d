"""Whether a waiting run's turn has come: what its supervisor looks at, twice a second.

What a file or a mark on a GPU can tell is asked first, and costs next to nothing. Only
when they say that nothing is in the way is the driver asked about the GPUs,
every few seconds, and it must say so a few times in a row: between two steps
of somebody's work a GPU looks free for a moment.
"""

from __future__ import annotations

import contextlib
import platform
import time
from pathlib import Path

from engine.errors import Problem
from engine.machine import gpu
from engine.machine.gpu import Gpu
from engine.run import state, waits
from engine.run.claim import Claim
from engine.run.folder import RunFolder
from engine.run.listing import is_run, list_runs
from engine.run.place import Place, is_gone
from engine.run.state import Cause, Order, Wait, Word
from engine.workspace import Workspace

LOOK = 0.5
"""Seconds between two looks."""
ASK = 5.0
"""Seconds between two questions to the driver."""
QUIET = 3
"""Answers in a row that must say that the GPUs are free."""
NOTEWORTHY = 1024**3
"""Bytes in use below which a GPU counts as free (a desktop holds some hundred MB)."""
MISSING = 20
"""Looks at which the awaited run's folder is missing before it counts as gone."""
UNREADABLE = 1200
"""The same where it is there and cannot be read: network disks come back."""

_ENDS: dict[Word, str] = {
    "failed": "awaited-failed",
    "stopped": "awaited-stopped",
    "lost": "awaited-lost",
}


def is_held(one: Gpu) -> bool:
    """Whether somebody holds noteworthy memory on it."""
    return one.used >= NOTEWORTHY


def line(workspace: Workspace) -> list[tuple[Wait, RunFolder]]:
    """The workspace's waiting runs with what they wait for, the first in the queue first.

    Not those of Slurm, whose own queue they stand in.
    """
    return [one for one in waiters(workspace) if one[1].launcher != "slurm"]


def waiters(workspace: Workspace) -> list[tuple[Wait, RunFolder]]:
    """All runs that wait for another or for GPUs, Slurm's as well."""
    found = []
    for run in list_runs(workspace):
        try:
            wait = run.wait()
        except Problem:  # its state cannot be read: whoever lists the runs says so
            continue
        if wait is not None:
            found.append((wait, run))
    return sorted(found, key=lambda one: (one[0].place, one[1].path))


def awaited(wait: Wait, run: RunFolder) -> bool | Cause:
    """Whether the run that is waited for has ended as wished; a cause when it never will.

    Raises `Problem` when it cannot be told now.
    """
    if not is_run(run.path):
        return _never("awaited-gone", run)
    now = run.state
    if now.living:
        return False
    if now.state == "finished":
        return True
    if wait.needs == "success":
        return _never(_ENDS[now.state], run)
    # One whose supervisor died may train on.
    return now.trainer is None or not now.trainer.alive


def _never(code: str, run: RunFolder) -> Cause:
    return Cause(code, {"awaited": waits.name(run.path)})


def wait(folder: Path, order: Order, claim: Claim) -> Cause | None:
    """Return when the run in `folder` may start, or why it is not to start at all.

    An error in looking (a network disk that is away) is no reason for either.
    """
    waiter = Waiter(folder, order, claim)
    while True:
        with contextlib.suppress(OSError, Problem):
            told = waiter.look()
            if told is not False:
                return None if told is True else told
        time.sleep(LOOK)


class _Awaited:
    """The run that is waited for, wherever its folder is moved meanwhile."""

    def __init__(self, path: Path) -> None:
        self._run = RunFolder(path)
        self._place: Place | None = None
        with contextlib.suppress(OSError):  # it is gone, or on a disk that is away
            self._place = Place(path, path)

    @property
    def run(self) -> RunFolder:
        """That run, where it lies now; where it lay last when it was deleted."""
        now = self._place.now() if self._place is not None else None
        if now is not None and now != self._run.path:
            self._run = RunFolder(now)
        return self._run

    def close(self) -> None:
        """It is waited for no more."""
        if self._place is not None:
            self._place.close()
            self._place = None


class Waiter:
    """The looks of one waiting run. `claim` is its hold on its GPUs."""

    def __init__(self, folder: Path, order: Order, claim: Claim) -> None:
        assert order.wait is not None
        self._folder = folder
        self._me = RunFolder(folder)
        self._gpus = order.gpus
        self._wait = order.wait
        self._awaited = _Awaited(Path(order.wait.after)) if order.wait.after else None
        self._claim = claim
        self._unclear = 0
        self._quiet = 0
        self._asked = float("-inf")

    def look(self) -> bool | Cause:
        """Whether it may start now; a cause when it is not to start at all."""
        if is_gone(self._folder):
            return Cause("folder-gone")
        if self._folder.resolve() != self._me.path:  # it was moved
            self._me = RunFolder(self._folder)
        if (self._folder / state.STOP).exists() or (self._folder / state.KILL).exists():
            return Cause("unqueued", {"run": self._me.name})
        if self._awaited is not None:
            told = self._look_at(self._awaited.run)
            if told is not True:
                return told
            self._awaited.close()
            self._awaited = None  # over is over: it may be resumed, renamed or deleted now
        return self._has_turn()

    def _look_at(self, run: RunFolder) -> bool | Cause:
        try:
            told = awaited(self._wait, run)
            patience = MISSING if isinstance(told, Cause) and told.code == "awaited-gone" else 0
        except (Problem, OSError):
            told, patience = _never("awaited-lost", run), UNREADABLE
        self._unclear = self._unclear + 1 if patience else 0
        if not isinstance(told, Cause) or self._unclear < patience:
            return told is True
        if self._wait.needs == "end":
            return True
        return Cause(told.code, {**told.values, "run": self._me.name})

    def _has_turn(self) -> bool:
        """Whether its GPUs are free, and nobody before it waits for them; then it holds them.

        In between it holds nothing, so that a run started by hand shows itself.
        """
        if not self._gpus:
            return True
        if time.monotonic() - self._asked < ASK:
            return False
        if not self._claim.take():
            self._quiet = 0
            return False
        self._asked = time.monotonic()
        if self._is_behind() or not self._are_quiet():
            self._claim.release()
            return False
        return True

    def _are_quiet(self) -> bool:
        """Whether nobody has held memory on its GPUs for a while."""
        if not self._wait.free:
            return True
        seen = gpu.read(",".join(map(str, self._gpus)))
        free = len(seen.gpus) == len(self._gpus) and not any(map(is_held, seen.gpus))
        self._quiet = self._quiet + 1 if free else 0
        return self._quiet >= QUIET

    def _is_behind(self) -> bool:
        """Whether a run before it in the queue could start now, but for a GPU that both want.

        One that itself still waits for a run does not count: it might wait for this one.
        """
        record = self._me.record
        if record is None:
            return False
        for wait, run in line(Workspace(Path(record.workspace))):
            if run.path == self._me.path:
                return False
            if self._competes(wait, run):
                return True
        return False

    def _competes(self, wait: Wait, run: RunFolder) -> bool:
        record = run.record
        if record is None or record.host != platform.node():
            return False
        if not set(record.gpus) & set(self._gpus) or run.state.state != "queued":
            return False
        try:
            return not wait.after or awaited(wait, RunFolder(Path(wait.after))) is True
        except (Problem, OSError):
            return False
