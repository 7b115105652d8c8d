"""Which files a dataset consisted of when it was fetched last: to open it without the hub.

A hub's cache does not say whether all files of a dataset are in it: a download that broke
off leaves a part, which would be trained on for the whole.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from engine import files
from engine.errors import Problem
from engine.hub.repo import Repo
from engine.paths import user_cache


class _Fetched(msgspec.Struct, frozen=True):
    """Files and their bytes."""

    repo: str
    files: dict[str, int]


def keep(repo: Repo, paths: Sequence[Path]) -> None:
    """Note that `repo` is here, whole, as `paths`. Where that cannot be written it is not noted."""
    sizes = {str(path): path.stat().st_size for path in paths}
    with contextlib.suppress(OSError, Problem):
        files.write_json(_note(repo), _Fetched(str(repo), sizes))


def known(repo: Repo) -> list[Path]:
    """The files of `repo` as they were fetched last; none where one is gone or another now."""
    try:
        found = msgspec.json.decode(_note(repo).read_bytes(), type=_Fetched)
        whole = all(Path(path).stat().st_size == size for path, size in found.files.items())
    except (OSError, msgspec.MsgspecError):
        return []
    return [Path(path) for path in found.files] if whole else []


def _note(repo: Repo) -> Path:
    name = hashlib.sha256(str(repo).encode()).hexdigest()[:32]
    return user_cache() / "tunedeck" / "hub" / f"{name}.json"
