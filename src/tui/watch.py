"""The shell's eyes: one thread that looks at the machine and at the runs.

Looking may block (a dead network disk, NVML's first call), so it never happens
on the event loop. The thread is a daemon: nothing waits for it at the end.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import Problem
from engine.workspace import Workspace
from tui.panes.base import as_problem

if TYPE_CHECKING:  # imported by the thread, so that the first frame need not wait
    from engine.machine.gpu import Gpus
    from engine.machine.host import Host
    from engine.run.folder import RunFolder, RunSummary

EVERY = 1.5
"""Seconds between two looks."""


@dataclass(frozen=True)
class Sight:
    """What was seen at one moment; runs newest first."""

    gpus: Gpus
    host: Host
    runs: list[RunSummary]
    ready: frozenset[str] = frozenset()
    """The steps that have what the next one needs: "data", "config", "export"."""


class Watch:
    """Calls `seen` from its own thread, at once and every `EVERY` seconds.

    What cannot be read is told to `trouble`, once, and does not end the looking.
    `runs` is given each look's folders, in that thread, from the second look on: the first
    frame comes first.
    """

    def __init__(
        self,
        workspace: Workspace,
        seen: Callable[[Sight], object],
        trouble: Callable[[Problem], object],
        runs: Callable[[Iterable[RunFolder]], object] = lambda runs: None,
    ) -> None:
        self._workspace = workspace
        self._seen = seen
        self._runs = runs
        self._trouble = trouble
        self._told: set[str] = set()
        self._stop = threading.Event()
        self._now = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="watch")

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

    def _watch(self) -> None:
        from engine.machine import gpu, host

        known: dict[Path, RunFolder] = {}
        seen = False
        while not self._stop.is_set():
            try:
                runs = look_at_runs(self._workspace, known, self._tell)
                ready = _ready(self._workspace)
                self._seen(Sight(gpu.read(), host.read(self._workspace.root), runs, ready))
                if seen:
                    self._runs(known.values())
                seen = True
            except Exception as error:  # a thread that dies says so nowhere
                self._tell(as_problem(error))
            self._now.wait(EVERY)
            self._now.clear()

    def _tell(self, problem: Problem) -> None:
        if str(problem) not in self._told and not self._stop.is_set():
            self._told.add(str(problem))
            self._trouble(problem)


def _ready(workspace: Workspace) -> frozenset[str]:
    last = workspace.last()
    data = last.data if last.data != last.unclear else ""
    opened = {"data": data, "config": last.config, "export": last.merged}
    return frozenset(name for name, path in opened.items() if path and Path(path).exists())


def look_at_runs(
    workspace: Workspace,
    known: dict[Path, RunFolder],
    trouble: Callable[[Problem], object] = lambda problem: None,
) -> list[RunSummary]:
    """How every run stands, newest first; those that cannot be read are left out.

    Args:
        workspace: whose runs.
        known: folders from the last look, renewed here: such a one reads only
            what is new in its files.
        trouble: told of each run that cannot be read.
    """
    from engine.run import listing

    found = [known.get(run.path, run) for run in listing.list_runs(workspace)]
    known.clear()
    known.update((run.path, run) for run in found)
    summaries = (_summary(run, trouble) for run in found)
    return [one for one in summaries if one is not None]


def _summary(run: RunFolder, trouble: Callable[[Problem], object]) -> RunSummary | None:
    try:
        return run.summary()
    except Problem as problem:
        trouble(problem)
        return None
