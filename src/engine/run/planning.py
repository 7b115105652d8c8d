"""What a start will do: the command, its variables, the place. Nothing is written yet."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import msgspec

from engine.errors import Problem
from engine.i18n import _
from engine.machine.devices import GpuId
from engine.run import nodes as by_hand
from engine.run import program, queue, state
from engine.run.launchers import MAKERS, Wish
from engine.run.slurm import script
from engine.run.state import Expected, Launcher, Wait
from engine.settings import Settings, Slurm
from engine.workspace import Workspace

_LONGEST = 200
"""Bytes in a run's name: file systems take 255, and what is being written has more in its name."""
_BUILDS_ON = re.compile(r"^\s*(?:_base_\s*=|with\s+read_base\(\s*\)\s*:)", re.MULTILINE)


class LaunchPlan(msgspec.Struct, frozen=True):
    """What a start will do; nothing is written yet."""

    name: str
    dir: Path
    config: Path
    """The file that will be frozen into the folder."""
    command: list[str]
    env: dict[str, str]
    """What is added to the user's own environment."""
    gpus: list[GpuId]
    """Numbers as the driver counts; empty: on the CPU."""
    processes: int
    deepspeed: str
    workspace: Path
    resume: str = ""
    wait: Wait | None = None
    """What it waits for in the queue; None starts it at once."""
    launcher: Launcher = "local"
    nodes: int = 1
    lines: list[str] = []
    """For "nodes": what is typed on each; the first runs here, under our supervisor."""
    script: str = ""
    """For "slurm": the batch script."""
    slurm: Slurm | None = None
    """For "slurm": what it is asked for."""
    source: Path | None = None
    """The file that `config` is a copy of, with other settings."""
    then_export: bool = False
    """Whether its last checkpoint is exported when it has succeeded."""
    expected: Expected | None = None
    """The GPU memory that it will take, where that was reckoned."""

    @property
    def shown(self) -> str:
        """The command as one would type it in the workspace's folder."""
        if self.launcher == "slurm":
            return script.shown(self.dir)
        values = [f"{name}={shlex.quote(value)}" for name, value in self.env.items()]
        return " ".join([*values, shlex.join(self.command)])


def folder(workspace: Workspace, config: Path) -> Path:
    """Where a run of `config` would write in `workspace` if it started now."""
    return workspace.runs / _next_name(workspace, config.stem)


def plan(
    config: Path,
    *,
    workspace: Workspace,
    settings: Settings,
    source: Path | None = None,
    name: str | None = None,
    work_dir: Path | None = None,
    gpus: list[GpuId] | None = None,
    deepspeed: str | None = None,
    processes: int | None = None,
    resume: str | None = None,
    launcher: Launcher = "local",
    nodes: int = 1,
    slurm: Slurm | None = None,
    wait: Wait | None = None,
    then_export: bool = False,
) -> LaunchPlan:
    """How to run `config`.

    Args:
        config: a config file that stands alone.
        workspace: where the run's folder is made, and where it runs.
        settings: names the training interpreter.
        source: the file that `config` is a copy of, with other settings; that file is
            what the run's record names.
        name: the run's name; None makes one from the config's.
        work_dir: the run's folder; None puts it into the workspace's runs.
        gpus: which GPUs (on each node); None takes the one with the most free
            memory, none at all where there is no GPU; an empty list trains on the
            CPU. Slurm chooses itself: there `slurm` says how many.
        deepspeed: a stage ("2", "zero2_offload", …), XTuner's name or a JSON
            file; None or "" trains without.
        processes: how many on all nodes; None means one for each GPU.
        resume: a checkpoint to go on from.
        launcher: who starts the trainer.
        nodes: on how many machines; more than one takes "nodes" or "slurm".
        slurm: what Slurm is asked for; None takes the settings'.
        wait: what it waits for before it starts; None starts it at once.
        then_export: make a checked model of its last checkpoint when it has succeeded.
    """
    config = _readable(config)
    if name:
        check_name(name)
    elif work_dir is not None and not (workspace.runs / work_dir.name).exists():
        name = work_dir.resolve().name
    else:
        name = _next_name(workspace, config.stem)
    folder = (work_dir or workspace.runs / name).resolve()
    asked = slurm or settings.slurm
    cards = [] if launcher == "slurm" else program.devices(gpus)
    devices: list[GpuId] = [one.id for one in cards]
    if launcher == "slurm":
        devices.extend(range(asked.gpus))  # as many as each node gets; which, the job will know
    each = by_hand.per_node(processes, len(devices), nodes)
    stage = program.stage(deepspeed, workspace)
    arguments = [str(folder / state.CONFIG_FOLDER / config.name), "--work-dir", str(folder)]
    arguments += ["--deepspeed", stage] if stage else []
    arguments += ["--resume", resume] if resume else []
    distributed = each * nodes > 1 or bool(stage)
    arguments += ["--launcher", "pytorch"] if distributed else []
    wait = None if wait is None else queue.placed(wait, workspace, folder, devices, launcher)
    wish = Wish(settings, folder, workspace.root, arguments, cards, stage, nodes, each, asked, wait)
    made = MAKERS[launcher](wish)
    return LaunchPlan(
        name=name,
        dir=folder,
        config=config,
        command=made.command,
        env=made.env,
        gpus=devices,
        processes=each * nodes,
        deepspeed=stage,
        workspace=workspace.root,
        resume=resume or "",
        wait=wait,
        launcher=launcher,
        nodes=nodes,
        lines=list(made.lines),
        script=made.script,
        slurm=asked if launcher == "slurm" else None,
        source=source if source is not None and source != config else None,
        then_export=then_export,
    )


def _readable(config: Path) -> Path:
    what = _("Cannot train with {path}").format(path=config)
    todo = _("Give a config file (a .py); `tunedeck config list` shows the stock ones.")
    try:
        text = config.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise Problem(what, _("There is no such file."), todo) from error
    except IsADirectoryError as error:
        raise Problem(what, _("It is a folder."), todo) from error
    except (OSError, UnicodeDecodeError) as error:
        raise Problem(what, str(error), todo) from error
    if config.suffix != ".py":
        raise Problem(what, _("XTuner's configs are Python files (.py)."), todo)
    if _BUILDS_ON.search(text):
        raise Problem(
            what,
            _("It builds on another config file, which a run could not take along."),
            _("Write all values into one file (mmengine's Config.dump does), and train with that."),
        )
    return config.resolve()


def check_name(name: str) -> None:
    """Raise `Problem` when no run can be called so."""
    if not re.fullmatch(r"[\w][\w.\-]*", name):
        raise Problem(
            _("{name} cannot be a run's name").format(name=name),
            _("It becomes a folder: letters, digits, - _ and . only."),
            _("Choose another name."),
        )
    if len(os.fsencode(name)) > _LONGEST:
        raise Problem(
            _("{name} cannot be a run's name").format(name=name[:20] + "…"),
            _("It becomes a folder, and is too long for one."),
            _("Choose a shorter name."),
        )


def _next_name(workspace: Workspace, stem: str) -> str:
    """``assistant-01``, or the next number that no run of the workspace has."""
    stem = re.sub(r"[^\w.\-]+", "-", stem).lstrip(".-") or "run"
    while len(os.fsencode(stem)) > _LONGEST - 4:  # the number comes behind it
        stem = stem[:-1]
    taken = {entry.name for entry in workspace.runs.iterdir()} if workspace.runs.is_dir() else set()
    number = 1
    while f"{stem}-{number:02}" in taken:
        number += 1
    return f"{stem}-{number:02}"
