"""Is there a place to write to, and room for all that the run writes?"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from engine import text
from engine.config.checks.findings import ERROR, WARNING, Finding
from engine.config.checks.start import Start
from engine.i18n import _
from engine.machine import host


def check(start: Start) -> Iterator[Finding]:
    """Findings about the folder that the run writes into."""
    folder = start.work_dir
    if folder is None:
        return
    if folder.exists() and not folder.is_dir():
        yield _not_writable(folder, _("It is a file."))
        return
    if folder.is_dir() and any(folder.iterdir()):
        yield _used(folder)
    parent = folder
    while not parent.exists():
        parent = parent.parent
    if not os.access(parent, os.W_OK | os.X_OK):
        yield _not_writable(folder, _("{folder} may not be written to.").format(folder=parent))


def _not_writable(folder: Path, why: str) -> Finding:
    return Finding(
        ERROR,
        "work-dir-write",
        _("The run cannot write to {path}").format(path=folder),
        why,
        _("Choose another place, or correct its permissions."),
        field="work_dir",
    )


def _used(folder: Path) -> Finding:
    run = (folder / "state.json").exists() or (folder / "last_checkpoint").exists()
    return Finding(
        ERROR,
        "work-dir-used",
        _("{path} is in use already").format(path=folder),
        _("Another run wrote there.") if run else _("It is not empty."),
        _("A run gets a folder of its own: choose another name or folder."),
        field="work_dir",
    )


def disk(needed: int, folder: Path) -> Iterator[Finding]:
    """Whether all that the run writes has room.

    Args:
        needed: bytes of all kept checkpoints, the adapter and the merged model.
        folder: where they go (it need not exist yet).
    """
    free = host.read(folder.resolve()).disk_free
    if needed <= free * 0.9:
        return
    level = ERROR if needed > free else WARNING
    yield Finding(
        level,
        "disk",
        _("The disk is too small for this run")
        if level == ERROR
        else _("The disk will be nearly full"),
        _("Checkpoints, adapter and merged model take {need}; {free} are free.").format(
            need=text.size(needed), free=text.size(free)
        ),
        _("Keep fewer checkpoints (save_total_limit), or choose another place."),
        field="save_total_limit",
    )
