"""Which GPUs of this machine runs are on, whoever's they are: a mark for each.

Every supervisor marks its GPUs as long as it lives, so that two runs may be started
on one GPU by hand. A run that comes out of the queue must find no other's mark on
them: several users' runs may wait for the same GPU, which looks free to all of them
until the first trainer has loaded its model. A mark is a socket's name in Linux's
abstract namespace. It is no file, so that no home and no mode keeps another user out;
all can list it; and the kernel takes it away when its holder ends, however it ends.
Other processes, and containers with a network of their own, only the driver can tell
of (`engine.run.turn`).
"""

from __future__ import annotations

import contextlib
import secrets
import socket
from pathlib import Path

from engine.machine import gpu
from engine.machine.devices import GpuId

_MARK = "tunedeck/gpu/"
_LISTED = Path("/proc/net/unix")


class Claim:
    """This process's hold on `gpus` (none: it holds nothing, and is never refused).

    Where marks cannot be made or listed it is never refused either: waiting for ever
    would be worse.
    """

    def __init__(self, gpus: list[GpuId]) -> None:
        self._names = _names(gpus)
        self._holder = secrets.token_hex(8)
        self._marks: dict[str, socket.socket] = {}

    def take(self) -> bool:
        """Have them all for oneself; False, and none held, when a run is on one of them."""
        self.share()  # before looking: of two who come at once one sees the other
        if not self._is_shared():
            return True
        self.release()
        return False

    def share(self) -> None:
        """Hold them as a run on them does."""
        for name in self._names:
            if name not in self._marks:
                made = socket.socket(socket.AF_UNIX)
                with contextlib.suppress(OSError):
                    made.bind(f"\0{name}{self._holder}")
                self._marks[name] = made

    def release(self) -> None:
        """Give them back."""
        for made in self._marks.values():
            made.close()
        self._marks.clear()

    def _is_shared(self) -> bool:
        """Whether somebody else's mark is on one of them."""
        try:
            lines = _LISTED.read_text(errors="replace").splitlines()
        except OSError:
            return False
        marks = tuple(f"@{name}" for name in self._names)
        listed = (line.rpartition(" ")[2] for line in lines)
        return any(one.startswith(marks) and not one.endswith(self._holder) for one in listed)


def _names(gpus: list[GpuId]) -> list[str]:
    """How the marks on each GPU begin. By UUID: in a container its number may be another's."""
    if not gpus:
        return []
    known = {one.id: one.uuid for one in gpu.read(",".join(map(str, gpus))).gpus}
    return [f"{_MARK}{known.get(one) or one}/" for one in gpus]
