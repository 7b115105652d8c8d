"""The rows that trainings have mapped, which ``datasets`` keeps in the user's cache for good.

Every start finds there what an earlier one made of the same rows and settings
(`engine.train.rows`). Nothing ever leaves that folder by itself, and none of it is lost
when it is deleted: the next start maps the rows anew. What ``datasets`` itself loaded,
also from a hub, lies in the same folder and is left alone.
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from engine.paths import expanded, hugging_face_home

RESTS = 3600.0
"""Seconds after which no start can be in the middle of reading or writing a file."""


class Kept(msgspec.Struct, frozen=True):
    """Files of mapped rows."""

    folder: str
    files: int
    bytes: int


def folder() -> Path:
    """Where ``datasets`` keeps them, by the variables that it heeds."""
    return expanded(os.environ.get("HF_DATASETS_CACHE") or hugging_face_home() / "datasets")


def kept() -> Kept:
    """What is there now."""
    sizes = [status.st_size for _path, status in _files()]
    return Kept(str(folder()), len(sizes), sum(sizes))


def forget() -> Kept:
    """Delete them, and return what was deleted; those of a start that may be under way stay."""
    gone = []
    for path, status in _files():
        if abs(time.time() - max(status.st_mtime, status.st_atime)) > RESTS:
            with contextlib.suppress(OSError):  # another user's, or gone already
                path.unlink()
                gone.append(status.st_size)
    return Kept(str(folder()), len(gone), sum(gone))


def _files() -> Iterator[tuple[Path, os.stat_result]]:
    # (os.walk passes over a folder that has just gone; Path.rglob raises.)
    for place, _folders, names in os.walk(folder()):
        for path in (Path(place, name) for name in fnmatch.filter(names, "cache-*.arrow")):
            with contextlib.suppress(OSError):  # another start has just replaced it
                yield path, path.stat()
