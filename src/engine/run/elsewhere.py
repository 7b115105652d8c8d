"""Runs whose supervisor is not to be found among this machine's processes.

A pid and a boot id say nothing about another machine. What counts there is
Slurm's word where Slurm started the run, and the sign of life in the folder.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from engine.run import life
from engine.run.slurm import view
from engine.run.state import Cause, Launcher, RunState


def look(folder: Path, written: RunState, launcher: Launcher) -> RunState | None:
    """How a run stands whose files say `written` (not an end) and whose supervisor is not here.

    None: it was started on this machine, so that its supervisor is gone.
    """
    supervisor, age = written.supervisor, life.age(folder)
    away = supervisor is not None and supervisor.elsewhere
    if away and written.state != "queued" and age is not None and age < life.FRESH:
        return written
    if launcher == "slurm":
        return view.look(folder, written)
    if not away:
        return None
    if age is not None and age < life.SILENT:
        return written
    assert supervisor is not None
    minutes = "?" if age is None else f"{age / 60:.0f}"
    values = {"host": supervisor.host, "minutes": minutes, "run": folder.name}
    return msgspec.structs.replace(written, state="lost", cause=Cause("silent", values))
