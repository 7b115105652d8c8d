"""Who of the user's runs is on which GPU of this machine: a lock for each GPU.

Every supervisor shares the locks of its GPUs as long as it lives, so that two
runs may be started on one GPU by hand. A run that comes out of the queue must
first have them for itself. The kernel gives a lock back when its holder ends,
however it ends, and looking costs a system call. Other people's processes, and
those that are no run, only the driver can tell of (`engine.run.turn`).
"""

from __future__ import annotations

import fcntl
import os
import platform

import platformdirs

from engine import files
from engine.errors import Problem
from engine.machine.devices import GpuId


class Claim:
    """This process's hold on `gpus` (none: it holds nothing, and is never refused).

    Where no lock can be had at all (a home that cannot be written to, a network
    disk without locks) it is never refused either: waiting for ever would be worse.
    """

    def __init__(self, gpus: list[GpuId]) -> None:
        self._gpus = gpus
        self._open: dict[GpuId, int] = {}
        self._shared = False

    def take(self) -> bool:
        """Have them all for oneself; False, and none held, when a run is on one of them."""
        self._shared = False
        if all(self._lock(gpu, fcntl.LOCK_EX) for gpu in self._gpus):
            return True
        self.release()
        return False

    def share(self) -> None:
        """Hold them as a run on them does. One that is just being taken: ask again later."""
        if not self._shared:
            self._shared = all([self._lock(gpu, fcntl.LOCK_SH) for gpu in self._gpus])

    def release(self) -> None:
        """Give them back."""
        self._shared = False
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()

    def _lock(self, gpu: GpuId, kind: int) -> bool:
        try:
            if gpu not in self._open:
                folder = files.private_folder(platformdirs.user_state_path("tunedeck") / "gpus")
                path = folder / f"{platform.node()}-{gpu}.lock"
                self._open[gpu] = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._open[gpu], kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except (OSError, Problem):
            return True
        return True
