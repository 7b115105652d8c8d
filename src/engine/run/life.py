"""A run's sign of life: a file that its supervisor touches, for those who cannot see its pid.

A pid says something on its own machine only. Seen from another (a login node, a
second server with the same disk), a run lives as long as this file stays young.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path

FILE = "alive"
BEAT = 5.0
"""Seconds between signs."""
FRESH = 20.0
"""Age in seconds up to which a sign is believed without asking further."""
SILENT = 150.0
"""Age after which a run counts as lost: network disks show a change a minute late,
and two machines' clocks differ by some seconds."""


def keep_beating(folder: Path) -> None:
    """Give a sign now and every `BEAT` seconds, as long as this process lives."""
    # The folder itself, not its name: it may be moved, and must not be made anew.
    inside = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    threading.Thread(target=_beat, args=(inside,), name="alive", daemon=True).start()


def age(folder: Path) -> float | None:
    """Seconds since the last sign; None when there was none."""
    try:
        return max(0.0, time.time() - (folder / FILE).stat().st_mtime)
    except OSError:
        return None


def _beat(folder: int) -> None:
    while True:
        with contextlib.suppress(OSError):  # a full disk, a network that is away: next time
            flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
            descriptor = os.open(FILE, flags, 0o600, dir_fd=folder)
            os.utime(descriptor)
            os.close(descriptor)
        time.sleep(BEAT)
