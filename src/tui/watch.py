"""The shell's eyes: one thread that looks at the machine and at the runs.

Looking may block (a dead network disk, NVML's first call), so it never happens
on the event loop. The thread is a daemon: nothing waits for it at the end.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine.workspace import Workspace

if TYPE_CHECKING:  # imported by the thread, so that the first frame need not wait
    from engine.machine.gpu import Gpus
    from engine.machine.host import Host
    from engine.run.folder import RunSummary

EVERY = 1.5
"""Seconds between two looks."""


@dataclass(frozen=True)
class Sight:
    """What was seen at one moment; runs newest first."""

    gpus: Gpus
    host: Host
    runs: list[RunSummary]


class Watch:
    """Calls `seen` from its own thread, at once and every `EVERY` seconds."""

    def __init__(self, workspace: Workspace, seen: Callable[[Sight], object]) -> None:
        self._workspace = workspace
        self._seen = seen
        self._stop = threading.Event()
        self._now = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True, name="watch")

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()
        self._now.set()

    def look_now(self) -> None:
        """Look again at once: something has just changed."""
        self._now.set()

    def _look(self) -> None:
        from engine.machine import gpu, host
        from engine.run import folder

        known: dict[Path, folder.RunFolder] = {}
        while not self._stop.is_set():
            # A folder kept from the last look reads only what is new in its files.
            found = [known.get(run.path, run) for run in folder.list_runs(self._workspace)]
            known = {run.path: run for run in found}
            runs = [run.summary() for run in found]
            self._seen(Sight(gpu.read(), host.read(self._workspace.root), runs))
            self._now.wait(EVERY)
            self._now.clear()
