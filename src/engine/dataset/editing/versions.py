"""Former versions of files that were edited, kept so that an edit can be undone."""

from __future__ import annotations

import os
import shutil
import stat
import time
from pathlib import Path

from engine import files
from engine.errors import Problem
from engine.i18n import _

MOST = 30
"""Versions kept, of all files together."""
MOST_BYTES = 8 << 30
"""What they may take; the newest is kept whatever it takes."""


class Versions:
    """Keeps former versions in `folder`.

    A version is a second name (a hard link) of the file's old content where the
    file system allows it, so that keeping one of 5 GB takes no time; else a copy.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def keep(self, path: Path) -> Path:
        """Keep what `path` is now; return the version, for `restore`."""
        files.private_folder(self.folder)
        kept = self.folder / f"{time.time_ns()}-{path.name[-100:]}"
        try:
            os.link(path, kept)
        except OSError:  # another file system, or one without links
            with path.open("rb") as source, files.replacing(kept) as copy:
                shutil.copyfileobj(source, copy, 1 << 20)
            shutil.copystat(path, kept)
        self._make_room()
        return kept

    def restore(self, kept: Path, path: Path) -> None:
        """Make `path` again what it was when `kept` was made of it; `kept` goes."""
        if not kept.exists():
            raise Problem(
                _("The former version of {path} is not kept any more").format(path=path),
                _("Only the last {count} versions are, and not more than {size} GB.").format(
                    count=MOST, size=MOST_BYTES >> 30
                ),
            )
        try:
            kept.replace(path)
        except OSError:  # another file system
            mode = stat.S_IMODE(kept.stat().st_mode)
            with kept.open("rb") as source, files.replacing(path, mode=mode) as copy:
                shutil.copyfileobj(source, copy, 1 << 20)
            shutil.copystat(kept, path)
            kept.unlink()

    def _make_room(self) -> None:
        kept = sorted(self.folder.iterdir(), key=lambda one: one.name, reverse=True)
        room = MOST_BYTES
        for number, version in enumerate(kept):
            room -= version.stat().st_size
            if number and (number >= MOST or room < 0):
                version.unlink(missing_ok=True)
