"""What a person calls a dataset that is here, and where files that are made of it go."""

from __future__ import annotations

from pathlib import Path

from engine.hub.repo import PACKED, cached
from engine.workspace import Workspace


def called(path: Path, workspace: Workspace) -> str:
    """The name on a hub of the dataset at `path`; of any other the path from the workspace.

    No disk is asked: it is drawn again and again.
    """
    repo = cached(path)
    return repo.short if repo is not None else workspace.relative(path)


def called_shortly(path: Path) -> str:
    """The same where there is little room: of a path its last part."""
    repo = cached(path)
    return repo.short if repo is not None else path.name


def own_place(path: Path, workspace: Workspace) -> Path:
    """Where the dataset at `path` would lie if it were the user's: new files go beside that.

    It is `path`, but for what lies in a hub's cache: that is no place for files of one's
    own, and names there tell one dataset from another by their folders only.
    """
    repo = cached(path)
    if repo is None:
        return path
    suffixes = path.suffixes[-2:] if path.suffix in PACKED else path.suffixes[-1:]
    return workspace.data / (repo.name.rpartition("/")[2] + "".join(suffixes))
