"""Alarms that the machine tells: its disk, its memory, its GPUs.

Each check returns the alarms that hold, by code. What is raised at one value is
over only at a better one, so that a value that wavers raises one alarm.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from engine.machine import gpu, memory
from engine.machine.devices import GpuId
from engine.machine.gpu import Health
from engine.run import checkpoints
from engine.run.state import Alarm
from engine.text import size

Alarms = dict[str, Alarm | None]

LOW = 500e6
"""Bytes of disk below which even logs and states are in danger."""
SPARE = 1.05
"""Times the last checkpoint's size that the next one may take."""
SCARCE_SHARE, SCARCE_MOST, SCARCE_LEAST = 0.02, 4e9, 512e6
"""Memory left, as a share of all and in bytes: the kernel kills when there is none, and a
loader's next batch may take a gigabyte."""
RELIEF = 1.5
"""Times the limit, of disk or memory, at which an alarm is over."""
LASTS = 6
"""Looks in a row (a minute) for which a GPU must slow itself down, or be well again."""


class Scarce:
    """Whether there is too little of something: from the second look in a row that says so."""

    def __init__(self) -> None:
        self._looks = 0
        self._on = False

    def look(self, free: float, limit: float) -> bool:
        """Whether `free` is too little, given what was seen before."""
        self._looks = self._looks + 1 if free < limit else 0
        self._on = free < limit * RELIEF if self._on else self._looks >= 2
        return self._on


class Disk:
    """Whether the next checkpoint will fit, by the size of the last one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._scarce = Scarce()
        self._size = 0
        self._newest = 0

    def look(self) -> Alarms:
        """The alarm "disk"."""
        disk = os.statvfs(self._folder)
        # While one is being saved, its room is taken already, and comes back with the oldest.
        free = disk.f_bavail * disk.f_frsize + checkpoints.growing(self._folder)
        need = max(LOW, self._checkpoint() * SPARE)
        if not self._scarce.look(free, need):
            return {"disk": None}
        case = {"case": "low"} if need == LOW else {"need": size(self._size)}
        return {"disk": Alarm("disk", {"free": size(free)} | case)}

    def _checkpoint(self) -> int:
        """Bytes of the last checkpoint, measured once each; 0 before there is one."""
        try:
            newest = (self._folder / "last_checkpoint").stat().st_mtime_ns
        except OSError:
            return self._size
        if newest != self._newest:
            self._newest = newest
            whole = [one for one in checkpoints.find(self._folder) if one.complete]
            self._size = whole[-1].bytes if whole else 0
        return self._size


class Memory:
    """Whether the host's memory, or that of our container or job, is nearly used up."""

    def __init__(self, left: Callable[[], memory.Left] = memory.left) -> None:
        self._left = left
        self._scarce = Scarce()

    def look(self) -> Alarms:
        """The alarm "memory"."""
        free, total = self._left()
        limit = min(SCARCE_MOST, max(SCARCE_LEAST, SCARCE_SHARE * total))
        scarce = self._scarce.look(free, limit)
        values = {"free": size(free), "total": size(total)}
        return {"memory": Alarm("memory", values) if scarce else None}


class GpuHealth:
    """Heat, power, memory errors and loss of the GPUs that the run uses here."""

    def __init__(
        self, gpus: list[GpuId], read: Callable[[list[GpuId]], list[Health]] = gpu.health
    ) -> None:
        self._gpus, self._read = gpus, read
        self._errors: dict[GpuId, int] = {}
        self._seen: set[GpuId] = set()
        self._slowed = {"gpu-hot": 0, "gpu-power": 0}
        self._alarms: Alarms = {}

    def look(self) -> Alarms:
        """The alarms of all of them together: a code names the GPUs that it is about."""
        found = self._read(self._gpus)
        lost = [one for one in found if one.lost and one.id in self._seen]
        self._seen |= {one.id for one in found if not one.lost}
        self._keep("gpu-lost", lost)
        worse = [one for one in found if self._new_errors(one)]
        count = sum(self._new_errors(one) for one in worse)
        self._keep("gpu-memory", worse, count=str(count))
        self._slow("gpu-hot", [one for one in found if one.too_hot])
        self._slow("gpu-power", [one for one in found if one.power_brake])
        return self._alarms

    def _new_errors(self, one: Health) -> int:
        """Memory errors since the run began."""
        if one.uncorrected is None:
            return 0
        return one.uncorrected - self._errors.setdefault(one.id, one.uncorrected)

    def _slow(self, code: str, slowed: list[Health]) -> None:
        """Raise or end `code` once it has been so for some looks in a row."""
        raised = self._alarms.get(code) is not None
        self._slowed[code] = self._slowed[code] + 1 if bool(slowed) != raised else 0
        if self._slowed[code] >= LASTS:
            self._slowed[code] = 0
            hottest = max((one.temperature or 0 for one in slowed), default=0)
            self._keep(code, slowed, temperature=str(hottest))

    def _keep(self, code: str, about: Iterable[Health], **values: str) -> None:
        """Raise `code` for these GPUs with its first values, or end it when there are none."""
        names = ", ".join(str(one.id) for one in about)
        if not names:
            self._alarms[code] = None
        elif self._alarms.get(code) is None:
            self._alarms[code] = Alarm(code, {"gpus": names, **values})
