"""Whether the kernel killed a process of a run because the host had no memory left.

Two witnesses: the count of such kills that this process's own cgroup keeps
(the run's processes inherit it), and the kernel's log, which names the victim.
Either may be missing: the root cgroup counts nothing, and the log is often
for root only. Inside a container the log has the host's process ids, so an
id that is not known does not rule a victim out.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import NamedTuple

from engine.run.rules import LOST
from engine.run.state import Cause
from engine.text import one_line, size

MAY_BE = LOST | {"signal-9", "worker-killed"}
"""Causes that a kill for lack of memory looks like in a log."""
_VICTIM = re.compile(
    r"[Oo]ut of memory: Kill(?:ed)? process (?P<pid>\d+) \((?P<name>.*?)\)"
    r"(?:.*?anon-rss:(?P<anon>\d+)kB)?(?:.*?file-rss:(?P<file>\d+)kB)?"
    r"(?:.*?shmem-rss:(?P<shmem>\d+)kB)?"
)
_COUNT = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)
_AT_MOST = 10_000
"""Records of the kernel's log that are read; its buffer holds about as many."""


class Places(NamedTuple):
    """Where the kernel tells of it."""

    own: Path = Path("/proc/self/cgroup")
    mounts: Path = Path("/sys/fs/cgroup")
    log: Path = Path("/dev/kmsg")


class Victim(NamedTuple):
    """A process that the kernel killed."""

    pid: int
    name: str
    held: int
    """Bytes of memory that it held."""


class Watch:
    """What the kernel does from now on."""

    def __init__(self, places: Places | None = None) -> None:
        places = places or Places()
        self._counter = _counter(places)
        self._before = self._count()
        self._log = -1
        with contextlib.suppress(OSError):
            self._log = os.open(places.log, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            os.lseek(self._log, 0, os.SEEK_END)

    def explain(self, cause: Cause, trainer: int | None) -> Cause:
        """`cause`, or the kernel's kill for lack of memory where that is behind it.

        trainer: the process id of the trainer. Asked once, at the run's end.
        """
        victims = self._victims()
        if cause.code not in MAY_BE:
            return cause
        known = {trainer, int(cause.values.get("pid", 0))}
        counted = self._count() > self._before
        named = [one for one in victims if one.pid in known] or (victims if counted else [])
        rank = {"rank": cause.values["rank"]} if "rank" in cause.values else {}
        if named:
            return Cause("oom-host", {**_values(named[0]), **rank})
        return Cause("oom-host-unnamed", rank) if counted else cause

    def _count(self) -> int:
        """How many processes of the cgroup were killed so far; 0 where nobody counts."""
        if self._counter is None:
            return 0
        with contextlib.suppress(OSError):
            if found := _COUNT.search(self._counter.read_text()):
                return int(found[1])
        return 0

    def _victims(self) -> list[Victim]:
        """Who was killed since the start, from the kernel's log; closes it."""
        if self._log < 0:
            return []
        try:
            text = _rest(self._log)
        finally:
            os.close(self._log)
            self._log = -1
        return [_victim(found) for found in _VICTIM.finditer(text)]


def _rest(log: int) -> str:
    """What came since; /dev/kmsg gives one record a read."""
    parts = []
    for _record in range(_AT_MOST):
        try:
            part = os.read(log, 8192)
        except BrokenPipeError:  # records were overwritten; the next read goes on after them
            continue
        except OSError:  # BlockingIOError: no more
            break
        if not part:
            break
        parts.append(part)
    return b"".join(parts).decode("utf-8", errors="replace")


def _victim(found: re.Match[str]) -> Victim:
    held = sum(int(found[kind] or 0) for kind in ("anon", "file", "shmem"))
    return Victim(int(found["pid"]), one_line(found["name"]), held * 1024)


def _values(victim: Victim) -> dict[str, str]:
    held = size(victim.held)
    return {"pid": str(victim.pid), "name": victim.name, "size": held}


def _counter(places: Places) -> Path | None:
    """The file that counts this cgroup's kills; None where there is none."""
    try:
        lines = places.own.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        _id, _colon, rest = line.partition(":")
        kinds, _colon, path = rest.partition(":")
        if "memory" in kinds.split(","):  # version 1
            roots, name = [places.mounts / "memory"], "memory.oom_control"
        elif not kinds:  # version 2, alone or beside version 1
            roots, name = [places.mounts, places.mounts / "unified"], "memory.events"
        else:
            continue
        for root in roots:
            # In a container the path is often the host's, and its own cgroup is mounted as root.
            for folder in (root / path.lstrip("/"), root):
                if (folder / name).is_file():
                    return folder / name
    return None
