"""The machine beside its GPUs: processor, memory, disk."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import psutil


class Host(msgspec.Struct, frozen=True):
    """The host now; bytes and percent."""

    cpu: float
    """Percent of all cores since the last call (0 at the first)."""
    cores: int
    memory_used: int
    memory_total: int
    disk_free: int
    disk_total: int


def cores() -> int:
    """Cores that this process may use (a container or taskset may allow fewer)."""
    return len(os.sched_getaffinity(0))


def read(folder: Path) -> Host:
    """The host's state; the disk is the one that `folder` (or its nearest parent) lies on."""
    while not folder.exists():
        folder = folder.parent
    memory = psutil.virtual_memory()
    disk = psutil.disk_usage(str(folder))
    return Host(
        cpu=psutil.cpu_percent(),
        cores=cores(),
        memory_used=memory.total - memory.available,
        memory_total=memory.total,
        disk_free=disk.free,
        disk_total=disk.total,
    )
