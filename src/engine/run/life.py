"""A run's sign of life: a file that its supervisor touches, for those who cannot see its pid.

A pid says something on its own machine only. Seen from another (a login node, a
second server with the same disk), a run lives as long as this file stays young.

How young it is the two clocks tell only while both are right, and either may be set.
So the file's time is taken for what it is, a mark that changes with each sign: who has
seen it change counts from then on with a clock that nobody sets, and who has not
believes no file for longer than it lay there unchanged. A time in the future is held
against the file server's own, by a file made there.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

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


class _Seen(NamedTuple):
    """A sign, as this process sees it."""

    mark: int
    """The file's time, in ns, by whatever clock."""
    since: float
    """When it was seen first, by the monotonic clock."""
    fresh: bool
    """Whether another one was seen before it: then it was given no earlier than that."""


_SEEN: dict[Path, _Seen] = {}


def age(folder: Path) -> float | None:
    """Seconds since the last sign; None when there was none."""
    try:
        mark = (folder / FILE).stat().st_mtime_ns
    except OSError:
        return None
    now = time.monotonic()
    seen = _SEEN.get(folder)
    if seen is None or seen.mark != mark:
        _SEEN[folder] = seen = _Seen(mark, now, fresh=seen is not None)
    unchanged = now - seen.since
    return unchanged if seen.fresh else max(unchanged, _by_the_clock(folder, mark / 1e9))


def _by_the_clock(folder: Path, given: float) -> float:
    """The age of a sign of that time, as far as clocks tell; 0 where it is in the future."""
    now = time.time()
    if given > now + FRESH:
        with contextlib.suppress(OSError), tempfile.TemporaryFile(dir=folder) as made:
            now = os.fstat(made.fileno()).st_mtime
    return max(0.0, now - given)


def _beat(folder: int) -> None:
    while True:
        with contextlib.suppress(OSError):  # a full disk, a network that is away: next time
            flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
            descriptor = os.open(FILE, flags, 0o600, dir_fd=folder)
            try:
                os.utime(descriptor)
            finally:  # or the supervisor has none left one day
                os.close(descriptor)
        time.sleep(BEAT)
