"""Where a run's folder lies, whoever moves it while the run goes on.

A supervisor holds the folder itself open, not its name: what it writes lands in
the folder wherever that is now. The trainer knows names only. So a link is left
where the folder lay, for as long as the run lasts; the trainer's files and the
order to stop pass through it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import msgspec

from engine.run import state
from engine.run.processes import leads
from engine.run.state import RunState


class Place:
    """One run's folder, held open.

    Args:
        folder: where it lies now.
        origin: the path under which its trainer knows it; a link, where it was moved before.
    """

    def __init__(self, folder: Path, origin: Path) -> None:
        self._descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.path = Path(f"/proc/self/fd/{self._descriptor}")
        """Leads into the folder wherever it is; in this process only."""
        self.origin = origin
        self._followed = origin.resolve()
        self._links = [origin] if origin.is_symlink() else []

    def now(self) -> Path | None:
        """Where it is; None when it was deleted, or is being emptied."""
        return None if is_gone(self.path) else self.path.readlink()

    def has_moved(self) -> bool:
        """Whether it has moved since one followed it last.

        The name is the kernel's. One that does not lead here (a disk that was unmounted,
        or does not answer) says nothing about a move.
        """
        now = self.now()
        return now is not None and now != self._followed and leads(now, self.path)

    def follow(self) -> Path | None:
        """See to it that its old place leads to it; where it just lay, if it has moved.

        Of two runs in a folder that was moved one finds the other's link, which goes when
        that one ends: so the old place is looked at each time.

        Raises `OSError` when no link can be left there: then the trainer reaches it no more.
        """
        now = self.now()
        if now is None or now == self._followed == self.origin or not leads(now, self.path):
            return None
        try:
            if not leads(self.origin, now):
                self._links.append(bridge(self.origin, now))
        except OSError:
            if not leads(self.origin, now):  # else the other was faster
                raise
        before, self._followed = self._followed, now
        return before if before != now else None

    def close(self) -> None:
        """Let the folder go: an open one keeps its disk from being unmounted."""
        os.close(self._descriptor)

    def leave(self) -> None:
        """Take the links away again."""
        for link in reversed(self._links):
            if link.is_symlink():
                link.unlink()
        self._links.clear()


def is_gone(folder: Path) -> bool:
    """Whether the run in `folder` was deleted, or is being deleted.

    Then the two files are missing that nobody writes anew while it runs.
    """
    try:
        return not any((folder / name).exists() for name in (state.RECORD, state.ORDER))
    except OSError:  # a network disk that is away says nothing
        return False


def bridge(origin: Path, now: Path) -> Path:
    """Make `origin`, where nothing is any more, lead to the folder `now`; return the link made.

    Where a folder above it was moved, that one gets the link. Raises `OSError`
    when something else lies there, or no link can be made.
    """
    missing = origin
    while not missing.parent.exists():
        missing = missing.parent
    rest = origin.relative_to(missing)
    target = now
    for name in reversed(rest.parts):
        if target.name != name:
            raise FileNotFoundError(2, os.strerror(2), str(missing))
        target = target.parent
    if missing.is_symlink() and not missing.exists():  # one of ours: it has moved again
        missing.unlink()
    missing.symlink_to(target, target_is_directory=True)
    return missing


def workspace_of(folder: Path, recorded: str) -> str:
    """The workspace of the run in `folder`, which lay at `recorded` when it was started.

    It may have been moved as a whole since: then nothing is in its old place any more.
    """
    moved = re.fullmatch(r"runs(-\d+)?", folder.parent.name) and not os.path.lexists(recorded)
    return str(folder.parent.parent) if moved else recorded


def is_copy(folder: Path, written: RunState) -> bool:
    """Whether `folder` is but the copy of one whose run goes on, as `written` in it says.

    Then the folder that its processes know is another, and names the same processes.
    """
    if not written.place or leads(written.place, folder):
        return False
    try:
        data = (Path(written.place) / state.STATE).read_bytes()
        there = msgspec.json.decode(data, type=RunState)
    except (OSError, msgspec.MsgspecError):
        return False
    same = ((written.supervisor, there.supervisor), (written.trainer, there.trainer))
    return any(ours is not None and ours == theirs and ours.alive for ours, theirs in same)
