"""From what is asked for to what would be started. All of it reads files: for threads."""

from __future__ import annotations

import hashlib
import shlex
from dataclasses import dataclass
from pathlib import Path

import msgspec

from engine.config.text import textfile
from engine.config.text.source import Change, ConfigSource
from engine.errors import Problem
from engine.i18n import _
from engine.joined import effective_batch
from engine.joined.effective_batch import Batch
from engine.machine.devices import GpuId
from engine.run import beside, planning
from engine.run.state import Wait
from engine.settings import Settings, Slurm
from engine.workspace import Workspace
from tui.panes.train.asked import Asked

_NODES = 2


@dataclass(frozen=True)
class Planned:
    """What a start would do, and what it means for the effective batch."""

    plan: planning.LaunchPlan
    changes: list[Change]
    """Settings that are not as the file says."""
    batch: Batch | None
    """None where the config does not tell."""
    before: Batch | None
    """Of the last run of this config; of the config on one process when there is none."""


def planned(asked: Asked, workspace: Workspace, settings: Settings, drafts: Path) -> Planned:
    """What `asked` comes to. Raises `Problem` for what cannot be.

    Args:
        asked: the values of the fields.
        workspace: where it runs.
        settings: names the training interpreter, and what Slurm is asked for.
        drafts: a folder for a config with changed settings.
    """
    if not asked.config:
        raise Problem(
            _("No config is given"),
            _("A run trains what a config says."),
            _("Type its path, or choose one with Ctrl+O; the Config pane makes them."),
        )
    config = workspace.resolve(asked.config)
    plan = _plan(asked, config, workspace, settings, drafts)
    source = ConfigSource.open(config)
    now = ConfigSource(asked.text, config) if asked.text else source
    return Planned(
        plan,
        changes=now.changes(source) if asked.text else [],
        batch=effective_batch.read(now, plan.processes),
        before=effective_batch.before(workspace, config) or effective_batch.read(source, 1),
    )


def _plan(
    asked: Asked, config: Path, workspace: Workspace, settings: Settings, drafts: Path
) -> planning.LaunchPlan:
    slurm = asked.launcher == "slurm"
    gpus = [] if slurm else list(asked.gpus or ())
    nodes = _nodes(asked)
    return planning.plan(
        _draft(config, asked.text, drafts) if asked.text else config,
        source=config,
        workspace=workspace,
        settings=settings,
        name=asked.name or None,
        gpus=gpus,
        deepspeed=asked.deepspeed or None,
        processes=_processes(asked.processes, gpus, nodes),
        launcher=asked.launcher,
        nodes=nodes,
        slurm=_slurm(asked.slurm, settings) if slurm else None,
        wait=_wait(asked),
        then_export=asked.then == "export",
    )


def _draft(config: Path, text: str, drafts: Path) -> Path:
    """The changed config as a file, for preflight and launch read files."""
    folder = drafts / hashlib.sha256(text.encode()).hexdigest()[:16]
    return beside.lay(config, text.encode(), folder)


def _wait(asked: Asked) -> Wait | None:
    if asked.start == "after" and asked.after:
        return Wait(after=asked.after, needs=asked.needs)
    return Wait(free=True) if asked.start == "free" else None


def _nodes(asked: Asked) -> int:
    if asked.launcher == "local":
        return 1
    return _number(asked.nodes, _("nodes")) or (_NODES if asked.launcher == "nodes" else 1)


def _processes(typed: str, gpus: list[GpuId], nodes: int) -> int | None:
    count = _number(typed, _("processes"))
    if count is not None and gpus and count > len(gpus) * nodes:
        raise Problem(
            _("{count} processes need as many GPUs").format(count=count),
            _("Chosen: {list}").format(list=", ".join(map(str, gpus))),
            _("Mark more GPUs with Space, or leave the field empty: one process for each."),
        )
    return count


def _slurm(typed: str, settings: Settings) -> Slurm:
    """The settings' wishes with those of `typed` (KEY=VALUE, blanks between) put over them."""
    wishes = msgspec.structs.asdict(settings.slurm)
    try:
        pairs = [part.partition("=") for part in shlex.split(typed)]
        wishes |= {key: value for key, _equals, value in pairs}
        return msgspec.convert(wishes, Slurm, strict=False)
    except ValueError as error:  # msgspec's errors are ValueErrors too
        raise Problem(
            _("Slurm cannot be asked for “{typed}”").format(typed=typed),
            str(error),
            _("Write it as in: partition=gpu time=08:00:00 gpus=4. Known: {names}.").format(
                names=", ".join(Slurm.__struct_fields__)
            ),
        ) from error


def _number(typed: str, what: str) -> int | None:
    if not typed:
        return None
    if not typed.isdecimal() or int(typed) < 1:
        raise Problem(
            _("{typed} is no number of {what}").format(typed=typed, what=what),
            _("A whole number from 1 on is meant."),
        )
    return int(typed)


def with_accumulation(config: Path, asked: Asked, wanted: int) -> Asked:
    """`asked` with a config that accumulates the gradients of `wanted` iterations."""
    source = ConfigSource(asked.text or textfile.read(config), config)
    effective_batch.accumulate(source, wanted)
    return msgspec.structs.replace(asked, text=source.text)
