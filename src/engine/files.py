"""Writing files so that no reader ever sees half of one.

Everything that Tunedeck writes is the user's alone (0600, folders 0700):
servers are shared.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import msgspec

from engine.errors import Problem
from engine.i18n import _


def private_folder(path: Path) -> Path:
    """Make `path` (0700) with its parents, and return it."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Problem(
            _("Cannot make the folder {path}").format(path=path),
            error.strerror or str(error),
            _("Choose another place, or correct its permissions."),
        ) from error
    return path


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def refuse_existing(path: Path, force: bool) -> None:
    """Raise `Problem` when `path` exists and `force` was not given."""
    if path.exists() and not force:
        raise Problem(
            _("{path} exists already").format(path=path),
            _("Nothing is overwritten unasked."),
            _("Choose another name, or add --force."),
        )


@contextmanager
def replacing(path: Path, force: bool = True, mode: int = 0o600) -> Iterator[IO[bytes]]:
    """A binary file that becomes `path` when the block ends without an error.

    Written beside the target, synced, then renamed over it; on any error the
    temporary file goes and `path` stays as it was.
    """
    refuse_existing(path, force)
    private_folder(path.parent)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


@contextmanager
def replacing_folder(path: Path, force: bool = False) -> Iterator[Path]:
    """A new folder that becomes `path` when the block ends without an error.

    It is built under a temporary name beside the target. A leftover of an
    earlier attempt that was killed is removed first.
    """
    refuse_existing(path, force)
    private_folder(path.parent)
    temporary = path.parent / f".{path.name}.part"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(mode=0o700)
    try:
        yield temporary
        for file in sorted(temporary.rglob("*")):
            if file.is_file():
                with file.open("rb") as opened:
                    os.fsync(opened.fileno())
        retired = path.parent / f".{path.name}.old"
        if path.exists():
            shutil.rmtree(retired, ignore_errors=True)
            path.rename(retired)
        temporary.rename(path)
        shutil.rmtree(retired, ignore_errors=True)  # also one that a kill left between the two
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _sync_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Replace `path` atomically with `value` as readable JSON."""
    with replacing(path) as file:
        file.write(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")


def append_json(path: Path, value: Any) -> None:
    """Append `value` as one JSON line, in a single write."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, msgspec.json.encode(value) + b"\n")
    finally:
        os.close(descriptor)
