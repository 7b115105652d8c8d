"""How much memory is left here: the machine's, or a container's or job's own if that is less."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import psutil

_ROOT = Path("/sys/fs/cgroup")


class Left(NamedTuple):
    """Bytes."""

    free: int
    """What can be had before something must go: the file cache counts as free."""
    total: int


def left() -> Left:
    """The tightest of all limits on this process (some 0.2 ms)."""
    memory = psutil.virtual_memory()
    found = [Left(memory.available, memory.total)]
    for folder in _groups():
        limit = _number(folder, "memory.max", "memory.limit_in_bytes")
        used = _number(folder, "memory.current", "memory.usage_in_bytes")
        if limit is not None and used is not None and limit < memory.total:
            found.append(Left(max(0, limit - used + _cache(folder)), limit))
    return min(found)


def _groups() -> set[Path]:
    """The control groups that limit this process, each with those it lies in."""
    folders = {_ROOT, _ROOT / "memory"}  # all that is seen from inside most containers
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return folders
    for line in lines:
        _tree, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            base = _ROOT / controllers
            place = base / path.strip("/")
            folders |= {place, *(one for one in place.parents if one.is_relative_to(base))}
    return folders


def _number(folder: Path, new: str, old: str) -> int | None:
    """The number in one of two files, as the kernel's new or old tree calls it."""
    file = next((folder / name for name in (new, old) if (folder / name).exists()), None)
    try:
        return int(file.read_text()) if file is not None else None
    except (OSError, ValueError):  # "max": no limit
        return None


def _cache(folder: Path) -> int:
    """Bytes of files in memory that nobody has used lately: they go when room is needed."""
    try:
        for line in (folder / "memory.stat").read_text().splitlines():
            name, _space, value = line.partition(" ")
            if name in ("inactive_file", "total_inactive_file"):
                return int(value)
    except (OSError, ValueError):
        pass
    return 0
