"""Processes that one can be sure of, and their ends.

A process id alone says nothing: it is given out again, and after a reboot all
of them are. Here a process is known by its id, its start (in clock ticks since
boot, which a changed clock does not move) and the boot.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import signal
import time
from collections.abc import Container, Iterable, Iterator
from pathlib import Path

import msgspec
import psutil

MARK = "TUNEDECK_RUN"
"""The environment variable that every process of a run carries: where its folder lay then."""

_PR_SET_CHILD_SUBREAPER = 36


class Identity(msgspec.Struct, frozen=True):
    """One process, never to be taken for another."""

    pid: int
    started: int
    """Clock ticks after boot."""
    boot: str
    host: str = ""
    """The machine's name; "" in files of an older version."""

    @classmethod
    def of(cls, pid: int) -> Identity | None:
        """The process that has `pid` now; None when there is none, or it is dead already."""
        fields = _stat(pid)
        if fields is None or fields[0] in "ZX":
            return None
        return cls(pid, int(fields[19]), boot_id(), platform.node())

    @property
    def alive(self) -> bool:
        """Whether this very process still runs (one that died unreaped does not)."""
        now = Identity.of(self.pid)
        return now is not None and (now.started, now.boot) == (self.started, self.boot)

    @property
    def elsewhere(self) -> bool:
        """Whether it belongs to another machine (or container), where its pid means something."""
        return bool(self.host) and self.host != platform.node()

    def send(self, number: int) -> None:
        """Send a signal; nothing happens when the process is gone."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


def boot_id() -> str:
    """What tells this boot of the machine from all others."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the third (the state) on."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    # The name in brackets may hold anything, brackets too.
    return text.rpartition(")")[2].split()


def adopt_orphans() -> None:
    """Make this process the parent of descendants whose own parent dies.

    torchrun's workers sit in sessions of their own; when torchrun is killed
    they go on training. With this they stay our descendants, and can be found.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants(but: Iterable[int] = (), of: int | None = None) -> list[Identity]:
    """All living descendants of process `of` (None: this one), except those in `but`."""
    try:
        children = psutil.Process(of).children(recursive=True)
    except psutil.Error:
        return []
    found = (Identity.of(child.pid) for child in children if child.pid not in but)
    return [one for one in found if one is not None]


def reap_orphans(but: Container[int]) -> None:
    """Collect the exit status of adopted children that died; those in `but` are left alone."""
    while True:
        try:
            dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if dead is None or dead.si_pid in but:
            return
        os.waitpid(dead.si_pid, 0)


def of_run(folder: Path, place: str = "", trainer: Identity | None = None) -> list[Identity]:
    """The living processes that carry the mark of the run in `folder`, parents or not.

    For a run whose supervisor is gone. Looks at every process of this user.

    Args:
        folder: the run's, where it lies now.
        place: where it lay when they were started. Their mark names that place still,
            and is believed there until another folder has come to it.
        trainer: the trainer, where it is known: it and its descendants belong to the
            run whatever they carry.
    """
    folder = folder.resolve()
    place = place or str(folder)
    ours: dict[str, bool] = {}
    found: dict[int, Identity] = {}
    if trainer is not None and trainer.alive:
        found = {one.pid: one for one in (trainer, *descendants(of=trainer.pid))}
    for pid, mark in marked():
        if mark not in ours:
            ours[mark] = leads(mark, folder) or (mark == place and not Path(mark).exists())
        one = Identity.of(pid) if ours[mark] and pid != os.getpid() else None
        if one is not None:
            found[pid] = one
    return list(found.values())


def marked() -> Iterator[tuple[int, str]]:
    """The processes of this user that carry the mark of any run, and what it says."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            variables = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        for variable in variables:
            name, _equals, value = variable.partition(b"=")
            if name == MARK.encode():
                yield int(entry.name), os.fsdecode(value)


def leads(path: str | Path, folder: Path) -> bool:
    """Whether `path` is `folder`, or another way to it."""
    try:
        return Path(path).samefile(folder)
    except OSError:
        return False


def end(processes: Iterable[Identity], grace: float, patience: float = 3.0) -> list[Identity]:
    """End `processes`: SIGTERM, after `grace` seconds SIGKILL. Return those still there.

    With `grace` 0 they are killed at once. One that hangs in the kernel (a
    dead network file system, a driver) may outlive even that for a while.
    """
    living = [one for one in processes if one.alive]
    if grace > 0:
        living = _signal_and_wait(living, signal.SIGTERM, grace)
    return _signal_and_wait(living, signal.SIGKILL, patience)


def _signal_and_wait(processes: list[Identity], number: int, seconds: float) -> list[Identity]:
    for one in processes:
        one.send(number)
    until = time.monotonic() + seconds
    living = [one for one in processes if one.alive]
    while living and time.monotonic() < until:
        time.sleep(0.05)
        living = [one for one in living if one.alive]
    return living
