"""Is there room for what is about to be made? Asked before anything is written."""

from __future__ import annotations

import os
from pathlib import Path

from engine.errors import Failed
from engine.i18n import _

_DISK = 16 << 20
_MEMORY = 300 << 20
"""What the threads and their chunks take at most, beside the tensors."""


def check_disk(target: Path, size: int) -> None:
    """Raise `Failed` unless `size` bytes (and a little) are free where `target` will be."""
    parent = next(one for one in target.absolute().parents if one.exists())
    disk = os.statvfs(parent)
    free = disk.f_bavail * disk.f_frsize
    if free < size + _DISK:
        raise Failed(
            _("There is not enough room for {path}").format(path=target),
            _("It needs {need:,} MB; {free:,} MB are free.").format(
                need=size // 10**6 + 17, free=free // 10**6
            ),
            _("Free some space, or choose another disk."),
        )


def check_memory(size: int) -> None:
    """Raise `Failed` unless the machine can give the threads and `size` bytes of tensors."""
    import psutil

    free = psutil.virtual_memory().available
    if free < size + _MEMORY:
        raise Failed(
            _("There is not enough memory to merge"),
            _("It needs {need:,} MB; {free:,} MB are free.").format(
                need=(size + _MEMORY) // 10**6, free=free // 10**6
            ),
            _("End other programs, or merge on another machine: no GPU is needed."),
        )
