"""Whether the other machines of a run see what it needs, as far as this one can tell.

A disk of this machine's own may still be mounted by the others, so that this is
worth a warning and no more.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable
from pathlib import Path

import psutil

from engine.errors import Problem
from engine.run.planning import LaunchPlan
from engine.run.slurm import client
from engine.settings import Settings
from engine.worker.client import BOOTSTRAP

_OWN = frozenset(
    ("tmpfs", "ramfs", "overlay", "squashfs", "ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs")
)
"""File systems that machines have for themselves."""


def unseen(plan: LaunchPlan, settings: Settings) -> dict[Path, str]:
    """What lies on a disk of this machine's own, with its file system, and is needed elsewhere.

    Nothing for a run that stays on this machine, or when Slurm does not say where its nodes are.
    """
    if not _leaves(plan):
        return {}
    needed = (plan.dir, plan.workspace, Path(settings.python), BOOTSTRAP)
    found = {path: own_disk(path) for path in needed}
    return {path: kind for path, kind in found.items() if kind}


def own_disk(path: Path) -> str:
    """The file system that `path` lies (or will lie) on, when it is this machine's own; else ""."""
    path = path.absolute()
    while not path.exists():
        path = path.parent
    path = path.resolve()
    mounts = (
        one for one in psutil.disk_partitions(all=True) if path.is_relative_to(one.mountpoint)
    )
    # The innermost; of two at one place the later, which hides the other.
    last = max(enumerate(mounts), key=lambda one: (len(one[1].mountpoint), one[0]), default=None)
    return last[1].fstype if last is not None and last[1].fstype in _OWN else ""


def _leaves(plan: LaunchPlan) -> bool:
    """Whether a process of it may run on another machine."""
    if plan.launcher != "slurm":
        return plan.nodes > 1
    try:
        hosts = client.hosts(plan.slurm.partition if plan.slurm is not None else "")
    except Problem:
        return False
    return bool(_short(hosts) - _short([platform.node()]))


def _short(hosts: Iterable[str]) -> set[str]:
    return {host.partition(".")[0].lower() for host in hosts}
