"""What the user noted about a run: one small file in its folder, a plain work dir's too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from engine import files
from engine.errors import Failed, Problem
from engine.i18n import _
from engine.run import state


class Notes(msgspec.Struct, frozen=True, omit_defaults=True):
    """``notes.json``; it exists only where something was noted."""

    note: str = ""
    tags: list[str] = []
    archived: bool = False


def read(folder: Path) -> Notes:
    """The notes of the run in `folder`; empty where there are none, or none that can be read."""
    try:
        return msgspec.json.decode((folder / state.NOTES).read_bytes(), type=Notes)
    except (OSError, msgspec.MsgspecError):
        return Notes()


def change(folder: Path, edit: Callable[[Notes], Notes]) -> Notes:
    """Replace the notes by what `edit` makes of them, and return them.

    What another window notes at the same time is kept: it waits.
    """
    try:
        with files.alone(folder):
            notes = edit(read(folder))
            files.write_json(folder / state.NOTES, notes)
    except (OSError, Problem) as error:
        why = error.why if isinstance(error, Problem) else error.strerror or str(error)
        raise Failed(
            _("Cannot write the notes of the run in {path}").format(path=folder),
            why,
            _("Make room, or correct the folder's permissions."),
        ) from error
    return notes
