"""Which folders are runs: those of a workspace, and the one that a name means."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from engine.errors import Problem
from engine.i18n import _
from engine.run import state
from engine.run.folder import RunFolder, unreadable
from engine.workspace import Workspace


def is_run(path: Path) -> bool:
    """Whether `path` is a run's folder: ours, or a work dir of plain XTuner.

    Raises `Problem` for one that cannot be entered: each user's runs are their own.
    """
    try:
        if not path.is_dir():
            return False
        if (path / state.STATE).exists() or (path / state.EVENTS).exists():
            return True
        return any(path.glob("[0-9]*_[0-9]*/vis_data"))
    except PermissionError as error:
        raise unreadable(path, error) from error


def parents(
    workspace: Workspace, private: Callable[[Path], object] = lambda path: None
) -> list[Path]:
    """The folders that runs lie in; `private` is told of one that may not be read."""
    found = [one for one in workspace.holding_runs if one.is_dir()]
    closed = [one for one in found if not os.access(one, os.R_OK | os.X_OK)]
    for one in closed:
        private(one)
    return [one for one in found if one not in closed]


def list_runs(
    workspace: Workspace,
    known: Mapping[str, RunFolder] | None = None,
    private: Callable[[Path], object] = lambda path: None,
) -> list[RunFolder]:
    """The runs of a workspace, newest first; XTuner's own ``work_dirs/`` too.

    Those in `known` (by path) are the same objects again: they have read much already.
    Another user's, which cannot be entered, are left out; `private` is told of each.
    """

    def mine(entry: Path) -> bool:
        try:
            return is_run(entry)
        except Problem:
            if not entry.name.startswith("."):  # else it is another user's trash
                private(entry)
            return False

    entries = [entry for parent in parents(workspace, private) for entry in _entries(parent)]
    # A run whose folder lies elsewhere is a link in runs/: each folder once.
    paths = {entry.resolve() if is_link else entry for entry, is_link in entries if mine(entry)}
    seen = known or {}
    runs = (seen.get(str(path)) or RunFolder(path) for path in paths)
    return sorted(runs, key=RunFolder.created, reverse=True)


def _entries(parent: Path) -> list[tuple[Path, bool]]:
    """What lies in `parent`, by its real path, and whether that is a link.

    Only a link is resolved: to do so with thousands of folders takes longer than all else.
    """
    real = parent.resolve()
    with os.scandir(real) as entries:
        return [(real / entry.name, entry.is_symlink()) for entry in entries]


def open_run(workspace: Workspace, name: str) -> RunFolder:
    """The run that a person means by `name`: a run of the workspace, or a folder's path."""
    places = [parent / name for parent in workspace.holding_runs]
    for path in (*places, workspace.resolve(name)):
        if is_run(path):
            return RunFolder(path)
    path = workspace.resolve(name)
    if path.exists():
        why = _("{path} is no folder of a run.").format(path=path)
    else:
        why = _("Neither a run of this workspace nor a folder has that name.")
    raise Problem(
        _("There is no run {name}").format(name=name), why, _("`tunedeck runs` lists them.")
    )
