"""The trash of a workspace: runs that can be had back until it is emptied.

A run goes into a folder ``.trash`` beside it, which is on the same disk: it is
renamed, however big it is. (It is private: a second user has ``.trash-UID``.) One that
lies elsewhere leaves a link to it in the workspace's own ``runs/.trash``.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from engine import files
from engine.errors import Problem
from engine.i18n import _
from engine.run import listing
from engine.run.folder import RunFolder
from engine.run.rest import at_rest, links_to, refuse_taken
from engine.workspace import Workspace

TRASH = ".trash"
_THROWN = "trash.json"


class Trashed(msgspec.Struct, frozen=True):
    """A run in the trash."""

    name: str
    """What it is called there: its own name, with a number where that was taken."""
    dir: str
    """Where it lies now."""
    was: str
    """Where it lay."""
    time: float
    """When it was thrown away; seconds since the epoch."""
    bytes: int


class _Thrown(msgspec.Struct, frozen=True):
    """``trash.json`` in a run that was thrown away."""

    was: str
    time: float
    links: list[str] = []
    """The links to it, which went with it."""


def size(run: RunFolder) -> int:
    """Bytes that the run holds on the disk."""
    return _bytes(run.path)


def trash(workspace: Workspace, run: RunFolder) -> Path:
    """Throw the run away, so that `restore` can take it back; return where it lies now.

    Raises `Problem` when it is running or waits.
    """
    links = links_to(workspace, run)
    what = _("Cannot throw away the run {name}").format(name=run.name)
    with files.in_words(what), at_rest(run):
        there = files.private_folder(files.own(run.path.parent / TRASH))
        own = files.private_folder(files.own(workspace.runs / TRASH))
        target = _free(there, own, run.path.name)
        _note(run.path, _Thrown(str(run.path), time.time(), [str(link) for link in links]))
        try:
            run.path.rename(target)
        except OSError:
            (run.path / _THROWN).unlink(missing_ok=True)
            raise
        for link in links:
            link.unlink(missing_ok=True)
        if there.resolve() not in _bins(workspace):
            (own / target.name).symlink_to(target, target_is_directory=True)
    return target


def _note(path: Path, thrown: _Thrown) -> None:
    """Write down where a run lay. On a full disk that may stay undone: room is what one wants."""
    try:
        files.write_json(path / _THROWN, thrown)
    except OSError as error:
        if thrown.links or error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise


def trashed(workspace: Workspace) -> list[Trashed]:
    """What lies in the trash, the last thrown first."""
    found = []
    for entry in _entries(workspace):
        thrown = _thrown(entry)
        if thrown is not None:
            path = entry.resolve()
            found.append(Trashed(entry.name, str(path), thrown.was, thrown.time, _bytes(path)))
    return sorted(found, key=lambda one: -one.time)


def restore(workspace: Workspace, name: str) -> RunFolder:
    """Put a run back where it lay. Raises `Problem` when that place is taken."""
    entry = _find(workspace, name)
    thrown = _thrown(entry)
    assert thrown is not None
    path, was = entry.resolve(), Path(thrown.was)
    links = [Path(link) for link in thrown.links]
    for place in (was, *links):
        refuse_taken(place)
    with files.in_words(_("Cannot put back the run {name}").format(name=name)):
        files.private_folder(was.parent)
        path.rename(was)
        for link in links:
            link.symlink_to(was, target_is_directory=True)
        if entry.is_symlink():
            entry.unlink()
        (was / _THROWN).unlink(missing_ok=True)
    return RunFolder(was)


def empty(workspace: Workspace, name: str | None = None) -> int:
    """Delete what lies in the trash, or one run of it, for good; return the bytes freed.

    Nothing is followed out of the trash. Raises `Failed` when some of it cannot be deleted.
    """
    entries = list(_entries(workspace)) if name is None else [_find(workspace, name)]
    freed = 0
    for entry in entries:
        if _thrown(entry) is None:  # not put there by us
            continue
        path = entry.resolve()
        held = _bytes(path)
        with files.in_words(_("Cannot delete {path}").format(path=path)):
            _delete(path)
            if entry.is_symlink():
                entry.unlink()
        freed += held
    return freed


def _delete(path: Path) -> None:
    # The note goes last: what is left of a deletion that failed can be deleted again.
    for part in path.iterdir():
        if part.name == _THROWN:
            continue
        if part.is_dir() and not part.is_symlink():
            shutil.rmtree(part)
        else:
            part.unlink()
    shutil.rmtree(path)


def _bins(workspace: Workspace) -> list[Path]:
    return [files.own(parent / TRASH).resolve() for parent in listing.parents(workspace)]


def _entries(workspace: Workspace) -> Iterator[Path]:
    for folder in _bins(workspace):
        if folder.is_dir():
            yield from sorted(folder.iterdir())


def _find(workspace: Workspace, name: str) -> Path:
    for entry in _entries(workspace):
        if entry.name == name and _thrown(entry) is not None:
            return entry
    raise Problem(
        _("There is no run {name} in the trash").format(name=name),
        "",
        _("`tunedeck runs --trashed` lists what is there."),
    )


def _thrown(entry: Path) -> _Thrown | None:
    """The note in a run of the trash; None for anything else. A link must lead into a trash.

    A run of ours without one lay beside the trash: there was no room for the note.
    """
    path = entry.resolve()
    if path.parent.name not in (TRASH, f"{TRASH}-{os.getuid()}"):
        return None
    try:
        return msgspec.json.decode((path / _THROWN).read_bytes(), type=_Thrown)
    except FileNotFoundError:
        if not path.is_dir() or RunFolder(path).record is None:
            return None
        return _Thrown(str(path.parent.parent / path.name), path.stat().st_ctime)
    except (OSError, msgspec.MsgspecError):
        return None


def _free(there: Path, own: Path, name: str) -> Path:
    number, free = 1, name
    while (there / free).exists() or (own / free).exists() or (own / free).is_symlink():
        number += 1
        free = f"{name}.{number}"
    return there / free


def _bytes(path: Path) -> int:
    """The bytes of all files below `path`; links are not followed, and what goes away is 0."""
    total = 0
    unread = [path]
    while unread:
        folder = unread.pop()
        with suppress(OSError):
            for entry in os.scandir(folder):
                if entry.is_dir(follow_symlinks=False):
                    unread.append(Path(entry.path))
                else:
                    total += entry.stat(follow_symlinks=False).st_size
    return total
