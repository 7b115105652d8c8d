"""Paths as people write them, and where Hugging Face's libraries keep theirs."""

from __future__ import annotations

import os
from pathlib import Path


def expanded(name: str | os.PathLike[str]) -> Path:
    """`name` with its ``~`` or ``~user`` made the home folder.

    Where there is no such user, or nobody knows whose home this is (no HOME, and a
    user id that the system does not know, as in a container), it stands as it is
    written, as in a shell: `Path.expanduser` ends in an error there.
    """
    return Path(os.path.expanduser(name))  # noqa: PTH111 (see above)


def absolute(path: Path) -> Path:
    """`path` from the root on, its folders without links; a link to a file keeps its own name.

    In a hub's cache only that one tells a CSV file from others: what it leads to is named
    after its sum.
    """
    return path.parent.resolve() / path.name


def user_cache() -> Path:
    """The folder for what programs keep of this user and could make again."""
    return expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache")


def hugging_face_home() -> Path:
    """The folder below which the hub's client and ``datasets`` keep what they fetch and make."""
    return expanded(os.environ.get("HF_HOME") or user_cache() / "huggingface")
