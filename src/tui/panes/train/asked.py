"""What is asked for when a run is launched, and how a workspace remembers it."""

from __future__ import annotations

from typing import Literal

import msgspec

from engine import files
from engine.machine.devices import GpuId
from engine.workspace import Workspace

_FILE = "launch.json"


class Asked(msgspec.Struct, frozen=True, omit_defaults=True):
    """The values of the launch dialog's fields."""

    config: str = ""
    """As a person writes it in the workspace."""
    name: str = ""
    gpus: tuple[GpuId, ...] | None = None
    """In the order of the processes. None: not chosen yet, the one with the most free memory."""
    deepspeed: str = ""
    processes: str = ""
    """In all, as typed; "" is one a GPU."""
    launcher: Literal["local", "nodes", "slurm"] = "local"
    nodes: str = ""
    """As typed; "" is two by hand, one with Slurm."""
    slurm: str = ""
    """What Slurm is asked for beyond the settings, as typed: ``time=08:00:00 gpus=4``."""
    start: Literal["now", "free", "after"] = "now"
    after: str = ""
    """The folder of the run that is waited for."""
    needs: Literal["success", "end"] = "success"
    then: Literal["", "export"] = ""
    """What follows when it has succeeded."""
    text: str = ""
    """The config with changed settings, to be frozen in place of what the file says."""

    @property
    def checked(self) -> Asked:
        """What of it a preflight looks at."""
        return Asked(
            config=self.config,
            gpus=self.gpus,
            deepspeed=self.deepspeed,
            processes=self.processes,
            launcher=self.launcher,
            nodes=self.nodes,
            slurm=self.slurm,
            text=self.text,
        )


def remembered(workspace: Workspace) -> Asked:
    """How the last run of this workspace was launched; what was its alone is left out."""
    try:
        data = (workspace.state / _FILE).read_bytes()
        return _common(msgspec.json.decode(data, type=Asked))
    except (OSError, msgspec.MsgspecError):
        return Asked()


def remember(workspace: Workspace, asked: Asked) -> None:
    """Note how a run was launched."""
    files.write_json(workspace.state / _FILE, _common(asked))


def _common(asked: Asked) -> Asked:
    return msgspec.structs.replace(asked, config="", name="", text="", start="now", after="")


def beginning(workspace: Workspace, kept: Asked | None, config: str = "") -> Asked:
    """What the dialog begins with.

    Args:
        workspace: remembers how the last run was launched.
        kept: what was typed when the dialog was put away; it comes again with the same config.
        config: the config to launch, "" for the one that is open.
    """
    wanted = config or workspace.last().config
    shown = workspace.relative(workspace.resolve(wanted)) if wanted else ""
    if kept is not None and (not shown or kept.config == shown):
        return kept
    return msgspec.structs.replace(remembered(workspace), config=shown)
