"""What each launcher makes of a wish: the command, its variables, and what to show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from engine.errors import Problem
from engine.i18n import _
from engine.machine import gpu
from engine.machine.gpu import Gpu
from engine.run import nodes, program
from engine.run.slurm import awaited, script
from engine.run.state import Launcher, Wait
from engine.settings import Settings, Slurm


class Wish(NamedTuple):
    """A run that is to be started somehow."""

    settings: Settings
    folder: Path
    """The run's."""
    workspace: Path
    arguments: list[str]
    """Of the trainer."""
    gpus: list[Gpu]
    """Those of this machine; empty for the CPU, and where Slurm chooses them."""
    stage: str
    """DeepSpeed's; "" without."""
    nodes: int
    per_node: int
    """Trainers on each node."""
    slurm: Slurm
    wait: Wait | None
    """What it waits for; only Slurm waits by itself."""


class Made(NamedTuple):
    """How it is started."""

    command: list[str]
    env: dict[str, str]
    lines: Sequence[str] = ()
    """What is typed on each node, where the user does."""
    script: str = ""
    """The batch script, where there is one."""


def local(wish: Wish) -> Made:
    """On this machine. Raises `Problem` for more than one node."""
    if wish.nodes != 1:
        raise Problem(
            _("{nodes} nodes need another launcher").format(nodes=wish.nodes),
            _("The local one starts processes on this machine only."),
            _("Choose 'nodes' (a line to start on each) or 'slurm'."),
        )
    command = program.trainer(wish.settings.python, wish.arguments, wish.per_node)
    return Made(command, program.env(wish.gpus, wish.per_node, wish.stage))


def by_hand(wish: Wish) -> Made:
    """On this machine and others, where the user types a line each."""
    if wish.nodes > 1 and any(one.instance is not None for one in wish.gpus):
        raise Problem(
            _("A MIG instance cannot train with other nodes"),
            _("NCCL does not join several, and each has a name of its own."),
            _("Choose GPUs that are not divided, or train on this machine alone."),
        )
    where = nodes.meeting(wish.settings.nodes)
    env = program.env(wish.gpus, wish.per_node, "")
    env |= program.accelerator(wish.stage, on_cpu=not wish.gpus)
    commands = [
        nodes.trainer(wish.settings.python, wish.arguments, wish.per_node, wish.nodes, rank, where)
        for rank in range(wish.nodes)
    ]
    lines = [nodes.line(wish.workspace, wish.folder, env, command) for command in commands]
    return Made(commands[0], env, lines)


def slurm(wish: Wish) -> Made:
    """In a job of Slurm."""
    shape = script.Shape(wish.nodes, wish.per_node)
    meet = wish.settings.nodes
    command, env = script.trainer(wish.settings.python, wish.arguments, shape, meet.patience)
    env = (env if wish.stage else {}) | program.accelerator(wish.stage, on_cpu=not wish.slurm.gpus)
    env |= gpu.shown([]) if wish.slurm.gpus else {}  # which ones, the job says
    after = "" if wish.wait is None else awaited.dependency(wish.wait)
    text = script.text(wish.folder, shape, wish.slurm, meet, after)
    return Made(command, env, script=text)


MAKERS: dict[Launcher, Callable[[Wish], Made]] = {
    "local": local,
    "nodes": by_hand,
    "slurm": slurm,
}
