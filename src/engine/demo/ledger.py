"""What the demo has done already, and from what: so that it does nothing twice.

A step counts as done when its inputs are what they were and its outputs are
as it left them; that a file is there says neither.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from engine import files
from engine.errors import Problem
from engine.i18n import _

_SMALL = 1 << 20


class Entry(msgspec.Struct, frozen=True):
    """One step, done."""

    inputs: str
    outputs: dict[str, str]
    """Path -> `stamp`."""
    facts: dict[str, Any] = {}
    """What later steps want to know of it."""


class Ledger:
    """The steps done in a folder, kept in a file there."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._entries = msgspec.json.decode(path.read_bytes(), type=dict[str, Entry])
        except (OSError, msgspec.MsgspecError):
            self._entries = {}

    def done(self, step: str, inputs: str) -> Entry | None:
        """The entry of `step`, if it still holds."""
        entry = self._entries.get(step)
        if entry is None or entry.inputs != inputs:
            return None
        whole = all(stamp(Path(path)) == seen for path, seen in entry.outputs.items())
        return entry if whole else None

    def note(self, step: str, inputs: str, outputs: Sequence[Path] = (), **facts: Any) -> Entry:
        """Write down that `step` was done."""
        entry = Entry(inputs, {str(path): stamp(path) for path in outputs}, facts)
        self._entries[step] = entry
        files.write_json(self._path, self._entries)
        return entry

    def left(self, step: str, path: Path) -> bool:
        """Whether `path` is as `step` left it (nobody has edited it since)."""
        entry = self._entries.get(step)
        return entry is not None and entry.outputs.get(str(path)) == stamp(path)


def stamp(path: Path) -> str:
    """A short text that changes when the file or folder at `path` does; "" where there is none.

    Small files count by their content, big ones by size and time of change.
    """
    if not path.exists():
        return ""
    parts = [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file())
    digest = hashlib.sha256()
    for part in parts:
        status = part.stat()
        digest.update(f"{part.relative_to(path)}\0{status.st_size}\0".encode())
        big = status.st_size > _SMALL
        digest.update(str(status.st_mtime_ns).encode() if big else part.read_bytes())
    return digest.hexdigest()


def combine(*parts: str | bytes) -> str:
    """One fingerprint of several."""
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        digest.update(len(raw).to_bytes(8, "big") + raw)
    return digest.hexdigest()


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold the file `path` as a lock; `Problem` when another demo holds it."""
    files.private_folder(path.parent)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Problem(
                _("A demo is at work in {path} already").format(path=path.parent.parent),
                todo=_("Wait for it, or choose another folder."),
            ) from None
        yield
    finally:
        os.close(descriptor)
