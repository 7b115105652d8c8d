"""A sign of life from each node of a run on several machines.

When one node falls silent, all of them stop at the next exchange of gradients,
so steps cannot tell which it was. A thread of the first process on each node
touches a file in the run's folder, which they share; the watch of
`engine.run.alarms` compares them.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path

EVERY = 15.0
"""Seconds; the watch allows for six times as much."""
FOLDER = "metrics/nodes"
RUN = "TUNEDECK_RUN"
"""The run's folder: every process of a run carries it."""


def start() -> None:
    """Begin, on a run of several nodes; once a node. Returns at once."""
    nodes = int(os.environ.get("GROUP_WORLD_SIZE", "1"))  # torchrun's words
    if nodes < 2 or os.environ.get("LOCAL_RANK") != "0" or RUN not in os.environ:
        return
    file = Path(os.environ[RUN]) / FOLDER / os.environ["GROUP_RANK"]
    threading.Thread(target=_beat, args=(file,), daemon=True, name="pulse").start()


def _beat(file: Path) -> None:
    while True:
        with contextlib.suppress(OSError):
            for folder in (file.parent.parent, file.parent):  # never a run's that was deleted
                folder.mkdir(mode=0o700, exist_ok=True)
            file.touch(mode=0o600)
        time.sleep(EVERY)
