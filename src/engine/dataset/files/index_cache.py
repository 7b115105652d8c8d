"""The rows' places of large files, kept in a folder for the next time.

One file for each dataset file: a header that says whose it is, then the numbers
as they lie in memory, so that opening it is mapping it. Losing one costs a look
through the dataset file, never more: whatever is wrong with one, it is ignored.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from engine.errors import Problem

_MAGIC = b"TDROWS01"
"""Also the layout's version: another one is another file."""
_SUFFIX = ".rows"
_MOST_BYTES = 1 << 29
_MOST_FILES = 256


class Saved(NamedTuple):
    """An index that is complete.

    `starts` and `marks` are those of `Offsets`, `end` the offset behind the last
    row, `length` that of the whole text.
    """

    key: str
    end: int
    length: int
    faults: list[tuple[int, str]]
    starts: Sequence[int]
    marks: Sequence[int]


def load(cache: Path, path: Path, key: str) -> Saved | None:
    """The index kept for `path`, if it is that of the content that `key` names."""
    place = _place(cache, path)
    try:
        with place.open("rb") as file:
            # Safe to map: such a file is only ever replaced, never written to.
            whole = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        if bytes(whole[:8]) != _MAGIC:
            return None
        (length,) = struct.unpack("<Q", whole[8:16])
        header = json.loads(bytes(whole[16 : 16 + length]))
        numbers = whole[16 + length :]
        rows, marks = header["rows"], header["marks"]
        if header["key"] != key or len(numbers) != 8 * (rows + marks):
            return None
        os.utime(place)  # the oldest go first
        return Saved(
            key,
            header["end"],
            header["length"],
            [(offset, reason) for offset, reason in header["faults"]],
            numbers[: 8 * rows].cast("Q"),
            numbers[8 * rows :].cast("Q"),
        )
    except (OSError, ValueError, TypeError, KeyError, struct.error):
        return None


def save(cache: Path, path: Path, saved: Saved) -> None:
    """Keep an index, and let the oldest go when there are too many."""
    from engine import files  # not needed by a worker, whose interpreter may lack its libraries

    about = {
        "key": saved.key,
        "end": saved.end,
        "length": saved.length,
        "faults": saved.faults,
        "rows": len(saved.starts),
        "marks": len(saved.marks),
    }
    header = json.dumps(about).encode()
    header += b" " * (-len(header) % 8)
    with contextlib.suppress(OSError, Problem):  # no room, or no such right: then without
        with files.replacing(_place(cache, path)) as file:
            file.write(_MAGIC + struct.pack("<Q", len(header)) + header)
            file.write(memoryview(saved.starts))  # type: ignore[arg-type]
            file.write(memoryview(saved.marks))  # type: ignore[arg-type]
        _tidy(cache)


def _place(cache: Path, path: Path) -> Path:
    name = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:32]
    return cache / f"{name}{_SUFFIX}"


def _tidy(cache: Path) -> None:
    """Remove what was not used longest, beyond the limits."""
    found = [(path, path.stat()) for path in cache.glob(f"*{_SUFFIX}")]
    found.sort(key=lambda entry: entry[1].st_mtime_ns, reverse=True)
    total = 0
    for number, (path, status) in enumerate(found):
        total += status.st_size
        if number and (total > _MOST_BYTES or number >= _MOST_FILES):
            path.unlink(missing_ok=True)
