"""A run at rest, and where it lies: what must be sure before its folder is moved."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.errors import Problem
from engine.i18n import _
from engine.run import launch, state
from engine.run.folder import RunFolder
from engine.workspace import Workspace


def links_to(workspace: Workspace, run: RunFolder) -> list[Path]:
    """The links in ``runs/`` through which a run elsewhere belongs to the workspace."""
    if not workspace.runs.is_dir():
        return []
    entries = sorted(workspace.runs.iterdir())
    return [entry for entry in entries if entry.is_symlink() and entry.resolve() == run.path]


@contextmanager
def at_rest(run: RunFolder) -> Iterator[None]:
    """Nobody can start the run meanwhile. Raises `Problem` when it is running, or waits."""
    if not run.path.is_dir():
        raise Problem(
            _("The run {name} is not there any more").format(name=run.name),
            _("{path} is gone.").format(path=run.path),
            _("`tunedeck runs` lists those that are."),
        )
    refuse_in_use(run)
    if run.record is None:  # a work dir of plain XTuner: nobody but its user starts it
        yield
        return
    with launch.locked(run.path, run.name):
        yield


def refuse_in_use(run: RunFolder) -> None:
    """Raise `Problem` when the run is running, or waits."""
    now = run.state
    if now.living or run.processes():
        raise Problem(
            _("The run {name} is in use").format(name=run.name),
            _("Its state: {state}.").format(state=state.spoken(now.state)),
            _("Stop it first; for one that waits, that takes it out of the queue."),
        )


def refuse_taken(path: Path) -> None:
    """Raise `Problem` when something lies at `path`, be it a link to nowhere."""
    if os.path.lexists(path):
        raise Problem(
            _("{name} is taken").format(name=path.name),
            _("{path} exists already.").format(path=path),
            _("Choose another name, or rename the other one."),
        )
