"""The points of a long run as they were read, so that the next window need not parse them again.

100,000 lines of JSON take half a second, the same as numbers a few ms. The
file lies in the run's folder (``metrics/history.bin``); it is believed only
while the files that it was made of still hold what was read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

import msgspec

from engine import files
from engine.errors import Problem
from engine.run.points import History

NAME = "metrics/history.bin"
LEAST = 5_000
"""Points from which it is worth it."""
_MARK = 64
"""Bytes before the place that was read up to, by which a file is known again."""


class _Read(msgspec.Struct):
    file: str
    """Relative to the run's folder."""
    offset: int
    end: bytes


class _Head(msgspec.Struct):
    fields: list[str]
    named: list[str]
    points: int
    read: list[_Read]


def save(folder: Path, history: History, offsets: Mapping[Path, int]) -> None:
    """Keep `history`, which was read from files up to `offsets`; failing is no matter."""
    with contextlib.suppress(OSError, Problem):
        read = [
            _Read(str(path.relative_to(folder)), offset, _end(path, offset))
            for path, offset in offsets.items()
        ]
        head = _Head(list(history.values), sorted(history.named), len(history), read)
        path = folder / NAME
        files.private_folder(path.parent)
        with files.replacing(path) as file:
            file.write(msgspec.json.encode(head) + b"\n")
            history.step.tofile(file)
            for values in history.values.values():
                values.tofile(file)


def load(folder: Path, history: History) -> dict[Path, int]:
    """Fill `history`, which is empty; returns up to where each file is read ({}: nothing kept)."""
    try:
        with (folder / NAME).open("rb") as file:
            head = msgspec.json.decode(file.readline(), type=_Head)
            offsets = {folder / one.file: one.offset for one in head.read}
            same = all(_end(folder / one.file, one.offset) == one.end for one in head.read)
            if not same or head.fields != list(history.values):
                return {}
            history.step.fromfile(file, head.points)
            for values in history.values.values():
                values.fromfile(file, head.points)
    except (OSError, EOFError, ValueError):  # msgspec's errors are ValueErrors
        del history.step[:]
        for values in history.values.values():
            del values[:]
        return {}
    history.named.update(head.named)
    return offsets


def _end(path: Path, offset: int) -> bytes:
    with path.open("rb") as file:
        start = max(offset - _MARK, 0)
        file.seek(start)
        return file.read(offset - start)
