"""The queue: runs that wait for another run, or for their GPUs.

There is no daemon. Each waiting run has a supervisor of its own
(`engine.run.turn` says what it looks at), and its place in the queue is a
number in its order. A run that cannot start any more ends, with a cause.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from engine import files
from engine.errors import Problem
from engine.i18n import _
from engine.machine import gpu
from engine.machine.devices import GpuId
from engine.run import ending, reasons, state, turn, waits
from engine.run.folder import RunFolder
from engine.run.state import Cause, RunState, Wait
from engine.text import size
from engine.workspace import Workspace


def waiting(workspace: Workspace) -> list[RunFolder]:
    """The runs that stand in the queue, the next one first.

    Those that nothing watches (after a reboot) are among them; their state is "lost".
    """
    return [run for _wait, run in turn.line(workspace)]


def move(workspace: Workspace, run: RunFolder, by: int) -> tuple[int, int]:
    """Move a waiting run by so many places in the queue (-1: one to the front).

    Returns its place there, from 1 on, and how many runs wait.
    Raises `Problem` when it does not wait.
    """
    with _changing(workspace):
        others = turn.line(workspace)
        at = next((at for at, (_wait, one) in enumerate(others) if one.path == run.path), None)
        order = run.order()
        if run.launcher == "slurm":
            raise Problem(
                _("Slurm has a queue of its own"),
                _("Which of its jobs is next is for Slurm to say."),
            )
        if at is None or order is None or order.wait is None:
            raise _not_waiting(run)
        del others[at]
        to = min(max(at + by, 0), len(others))
        now = (to + 1, len(others) + 1)
        if to == at:
            return now
        place = _between([wait.place for wait, _run in others], to)
        wait = msgspec.structs.replace(order.wait, place=place)
        files.write_json(run.path / state.ORDER, msgspec.structs.replace(order, wait=wait))
        return now


def say(run: RunFolder) -> str:
    """What a waiting run waits for, and who is in its way, in one or two sentences.

    Asks the driver about its GPUs where they are waited for.
    """
    wait, now = run.wait(), run.state
    if wait is None:
        return ""
    if now.state == "lost":
        return reasons.say(now.cause).reason
    said = _("It waits: {what}.").format(what=waits.brief(wait, run.gpus))
    holders = [] if wait.after and _living(Path(wait.after)) else _holders(run)
    if holders:
        said += " " + _("In its way: {list}.").format(list="; ".join(holders))
    return said


def placed(
    wait: Wait, workspace: Workspace, folder: Path, gpus: list[GpuId], launcher: str
) -> Wait:
    """`wait` for a run in `folder`, at the queue's end unless it has a place.

    Raises `Problem` when the run could never start so.
    """
    if wait.free and launcher == "slurm":
        raise Problem(
            _("Slurm has a queue of its own"),
            _("It starts a run when the GPUs that it asks for are free."),
            _("Start it without waiting for GPUs."),
        )
    if wait.free and not gpus:
        raise Problem(
            _("There is no GPU to wait for"),
            _("The run is for the CPU."),
            _("Choose GPUs, or start it without waiting for them."),
        )
    after = str(Path(wait.after).resolve()) if wait.after else ""
    made = msgspec.structs.replace(wait, after=after, place=wait.place or _end(workspace))
    if after:
        _check_awaited(made, folder)
    return made


def _end(workspace: Workspace) -> float:
    """A place behind all who wait: the time, unless the clock was set back since they came."""
    last = max((wait.place for wait, _run in turn.line(workspace)), default=0.0)
    return max(time.time(), last + 1)


def _check_awaited(wait: Wait, folder: Path) -> None:
    awaited = RunFolder(Path(wait.after))
    if folder in _chain(awaited):
        raise Problem(
            _("The run cannot wait for {name}").format(name=awaited.name),
            _("{name} waits for this very run: neither would ever start.").format(
                name=awaited.name
            ),
            _("Let it wait for another run."),
        )
    told = turn.awaited(wait, awaited)
    if isinstance(told, Cause):
        gone = told.code == "awaited-gone"
        now = "" if gone else state.spoken(awaited.state.state)
        raise Problem(
            _("The run cannot wait for {name}").format(name=awaited.name),
            _("There is no such run.") if gone else _("Its state: {state}.").format(state=now),
            _("Start it without waiting for that run."),
        )


def moved(workspace: Workspace, old: Path, new: Path) -> None:
    """Tell the runs that wait for the one in `old` that its folder is `new` now."""
    with _changing(workspace):
        for wait, run in turn.waiters(workspace):
            order = run.order()
            if order is not None and wait.after == str(old):
                wait = msgspec.structs.replace(wait, after=str(new))
                files.write_json(run.path / state.ORDER, msgspec.structs.replace(order, wait=wait))


def leave(run: RunFolder) -> RunState:
    """Take a waiting run that nothing watches out of the queue."""
    return ending.stopped(
        run,
        Cause("unqueued", {"run": run.name}),
        _("The run {name} stays in the queue").format(name=run.name),
    )


def began(run: RunFolder) -> bool:
    """Whether its trainer was ever started: if not, there is nothing to resume, only to start."""
    order = run.order()
    return order is None or bool(order.resume) or run.state.started is not None


def unfulfilled(run: RunFolder) -> Wait | None:
    """What the run still waited for when it left the queue, or what it waits for.

    It keeps its place only where it has not left it.
    """
    order = run.order()
    if order is None or order.wait is None or run.state.started is not None:
        return None
    standing = run.wait() is not None
    return order.wait if standing else msgspec.structs.replace(order.wait, place=0.0)


def _between(places: list[float], to: int) -> float:
    """A number that sorts before `places[to]` and behind the one before it."""
    before = places[to - 1] if to else places[0] - 2
    behind = places[to] if to < len(places) else places[-1] + 2
    return (before + behind) / 2


def _chain(run: RunFolder) -> Iterator[Path]:
    """The folders of `run`, of the run that it waits for, and so on."""
    seen: set[Path] = set()
    while run.path not in seen:
        seen.add(run.path)
        yield run.path
        wait = run.wait()
        if wait is None or not wait.after:
            return
        run = RunFolder(Path(wait.after))


def _living(folder: Path) -> bool:
    return RunFolder(folder).state.living


def _holders(run: RunFolder) -> list[str]:
    if not run.gpus:
        return []
    seen = gpu.read(",".join(map(str, run.gpus)))
    return [
        _("GPU {index}: {size} in use").format(index=one.id, size=size(one.used))
        for one in seen.gpus
        if turn.is_held(one)
    ]


def _not_waiting(run: RunFolder) -> Problem:
    return Problem(
        _("The run {name} does not wait").format(name=run.name),
        _("Its state: {state}.").format(state=state.spoken(run.state.state)),
        _("Only a queued run has a place that can be changed."),
    )


@contextmanager
def _changing(workspace: Workspace) -> Iterator[None]:
    """Two who change the queue do so one after the other."""
    folder = files.private_folder(workspace.state)
    with files.in_words(_("The queue cannot be changed")):
        lock = os.open(folder / "queue.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)
