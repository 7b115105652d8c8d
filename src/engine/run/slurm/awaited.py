"""A job that starts after another run's: Slurm's own dependencies keep it waiting.

Nothing of ours runs in the meantime. Slurm goes by the exit status of the other
job; what that run's folder says is looked at once more when the job starts,
since a run that was stopped with a checkpoint ended well for Slurm.
"""

from __future__ import annotations

from pathlib import Path

from engine.errors import Problem
from engine.i18n import _
from engine.run import turn
from engine.run.folder import RunFolder
from engine.run.state import Cause, Wait

_CONDITIONS = {"success": "afterok", "end": "afterany"}


def dependency(wait: Wait) -> str:
    """What sbatch is asked for (``afterok:17``); "" when the other run is over already.

    Raises `Problem` when Slurm cannot wait for it.
    """
    run = RunFolder(Path(wait.after))
    if not run.state.living:
        return ""
    if run.launcher != "slurm":
        raise Problem(
            _("The run cannot wait for {name}").format(name=run.name),
            _("Slurm waits for its own jobs only, and that run is none."),
            _("Start it when {name} has ended, or without Slurm.").format(name=run.name),
        )
    if not run.job:
        raise Problem(
            _("The run cannot wait for {name}").format(name=run.name),
            _("Slurm has not said yet which job it is."),
            _("Try again in a moment."),
        )
    return f"{_CONDITIONS[wait.needs]}:{run.job}"


def verdict(wait: Wait) -> Cause | None:
    """Why a job is not to run although Slurm has started it; None when it is to.

    A folder that still tells of life is behind (a network disk): Slurm knows better.
    """
    told = turn.awaited(wait, RunFolder(Path(wait.after)))
    return told if isinstance(told, Cause) and wait.needs == "success" else None
