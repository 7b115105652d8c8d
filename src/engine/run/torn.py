"""What a run's record said, told by the other files, for when ``run.json`` is torn or gone.

A disk that was full, or a hand: the run is there all the same. Its
order says how it was started, its events when and where, its folder the rest. What
no other file knows (the config's origin, the versions, what Slurm was asked for)
is left out.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import pwd
from collections.abc import Sequence
from pathlib import Path

from engine.run import state
from engine.run.slurm import script, submission
from engine.run.state import Event, Launcher, Order, RunRecord


def record(folder: Path, order: Order | None, events: Sequence[Event]) -> RunRecord:
    """The record of the run in `folder`, as far as it can be known.

    Args:
        folder: the run's.
        order: how it was started last; None where that cannot be read either.
        events: what happened to it, in order.
    """
    command = order.command if order is not None else []
    nodes = int(_option(command, "--nnodes") or 1)
    config = _config(folder, command)
    supervisors = [event.supervisor for event in events if event.supervisor is not None]
    return RunRecord(
        run=folder.name,
        created=events[0].time if events else folder.stat().st_mtime,
        user=_owner(folder),
        host=supervisors[0].host if supervisors else "",
        source="",
        config=str(config.relative_to(folder)),
        config_hash=_hash(config),
        workspace=order.folder if order is not None else str(folder.parent.parent),
        python=next((word for word in command if Path(word).name.startswith("python")), ""),
        gpus=order.gpus if order is not None else [],
        processes=nodes * int(_option(command, "--nproc-per-node") or 1),
        deepspeed=_option(command, "--deepspeed"),
        command=command,
        environment=order.environment if order is not None else {},
        versions={},
        launcher=_launcher(folder, nodes),
        nodes=nodes,
    )


def _config(folder: Path, command: Sequence[str]) -> Path:
    """The frozen config: the one that the command names; modules lie beside it."""
    frozen = folder / state.CONFIG_FOLDER
    named = (frozen / Path(word).name for word in command if word.endswith(".py"))
    there = [path for path in named if path.is_file()] or sorted(frozen.glob("*.py"))
    return there[0] if there else frozen / "config.py"


def _hash(config: Path) -> str:
    with contextlib.suppress(OSError):
        return hashlib.sha256(config.read_bytes()).hexdigest()
    return ""


def _owner(folder: Path) -> str:
    with contextlib.suppress(KeyError):  # a number that has no name on this machine
        return pwd.getpwuid(folder.stat().st_uid).pw_name
    return ""


def _launcher(folder: Path, nodes: int) -> Launcher:
    if any((folder / name).exists() for name in (script.SCRIPT, submission.FILE)):
        return "slurm"
    return "nodes" if nodes > 1 else "local"


def _option(command: Sequence[str], name: str) -> str:
    """What follows the option `name`; "" without it."""
    following = itertools.pairwise(command)
    return next((value for word, value in following if word == name), "")
