"""What a queued run waits for, in a few words."""

from __future__ import annotations

from pathlib import Path

import msgspec

from engine.i18n import _
from engine.machine.devices import GpuId
from engine.run import state
from engine.run.state import RunState, Wait


class _Named(msgspec.Struct):
    run: str


def name(folder: Path) -> str:
    """What the run in `folder` is called; the folder's name where that cannot be read."""
    try:
        return msgspec.json.decode((folder / state.RECORD).read_bytes(), type=_Named).run
    except (OSError, msgspec.MsgspecError):
        return folder.name


def devices(gpus: list[GpuId]) -> str:
    """``GPU 0``, ``GPUs 0, 1``."""
    if len(gpus) == 1:
        return _("GPU {index}").format(index=gpus[0])
    return _("GPUs {list}").format(list=", ".join(map(str, gpus)))


def brief(wait: Wait, gpus: list[GpuId]) -> str:
    """What is still waited for: ``after assistant-01``, ``until free: GPU 0``, or both."""
    awaited = Path(wait.after) if not over(wait) else None
    # One that waits for a run only takes its turn on the GPUs all the same.
    free = gpus and (wait.free or awaited is None)
    if awaited is not None and free:
        words = _("after {run}, when free: {gpus}")
    elif awaited is not None:
        words = _("after {run}")
    elif free:
        words = _("until free: {gpus}")
    else:
        return _("about to start")
    return words.format(run=name(awaited) if awaited else "", gpus=devices(gpus))


def over(wait: Wait) -> bool:
    """Whether no run is waited for (any more), by what is written in that run's folder."""
    if not wait.after:
        return True
    try:
        path = Path(wait.after) / state.STATE
        written = msgspec.json.decode(path.read_bytes(), type=RunState)
    except (OSError, msgspec.MsgspecError):
        return False
    return not written.living
