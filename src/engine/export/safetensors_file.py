"""Safetensors files, read and written as streams: no tensor need be held whole."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from engine.errors import Problem
from engine.export import dtypes
from engine.i18n import _

CHUNK = 8 << 20
_LARGEST_HEADER = 100_000_000  # the format's own limit


@dataclass(frozen=True)
class Entry:
    """A tensor as a header describes it: its type by its safetensors name, its shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes."""
        return dtypes.SIZES[self.dtype] * math.prod(self.shape)


class Reader:
    """An open safetensors file. `entries` is in the order of the data. Close it after use."""

    def __init__(self, path: Path) -> None:
        """Open `path`. Raises `Problem` for a file that is torn or is no safetensors file."""
        self.path = path
        try:
            self._file: IO[bytes] = path.open("rb")
        except OSError as error:
            raise _problem(path, error.strerror or str(error)) from error
        try:
            self._read_header()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._file.close()

    def _read_header(self) -> None:
        size = self.path.stat().st_size
        start = self._file.read(8)
        if start.startswith(b"version "):
            raise _problem(
                self.path,
                _("It is a Git LFS pointer: the weights were never downloaded."),
                _("Run `git lfs pull` in that folder, or download the model again."),
            )
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= min(_LARGEST_HEADER, size - 8):
            raise _problem(self.path, _("It is not a safetensors file, or it is torn."))
        try:
            header = json.loads(self._file.read(length))
            header.pop("__metadata__", None)
            places: list[tuple[int, int, Entry]] = [
                (*one["data_offsets"], Entry(name, one["dtype"], tuple(one["shape"])))
                for name, one in header.items()
            ]
            places.sort(key=lambda place: place[:2])
            whole = all(
                0 <= begin <= end <= size - 8 - length and end - begin == entry.size
                for begin, end, entry in places
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise _problem(self.path, _("Its header cannot be read.")) from error
        if not whole:
            raise _problem(
                self.path,
                _("It is torn: data that its header names are missing."),
                _("Copy or download the file again."),
            )
        self.entries = [entry for _begin, _end, entry in places]
        self._begins = {entry.name: 8 + length + begin for begin, _end, entry in places}

    def chunks(self, entry: Entry, size: int = CHUNK) -> Iterator[bytes]:
        """The tensor's bytes in pieces of about `size`, each of whole rows."""
        row = max(entry.size // max(entry.shape[0], 1), 1) if entry.shape else entry.size
        size = max(size // row, 1) * row
        at, left = self._begins[entry.name], entry.size
        while left:
            self._file.seek(at)
            piece = self._file.read(min(size, left))
            if not piece:
                raise _problem(self.path, _("It is torn: data that its header names are missing."))
            at, left = at + len(piece), left - len(piece)
            yield piece


def write(
    path: Path,
    tensors: Iterable[tuple[Entry, Iterable[bytes]]],
    metadata: Mapping[str, str] | None = None,
) -> int:
    """Write a safetensors file and return its size in bytes.

    Args:
        path: a new file, made 0600.
        tensors: what to write, in this order. The descriptions are needed
            first, so make this a list; each tensor's data may be an iterator
            that produces its bytes when it is their turn.
        metadata: the header's; ``format: pt`` is always there, which
            transformers asks for.
    """
    tensors = list(tensors)
    header: dict[str, object] = {"__metadata__": {"format": "pt", **(metadata or {})}}
    at = 0
    for entry, _data in tensors:
        header[entry.name] = {
            "dtype": entry.dtype,
            "shape": entry.shape,
            "data_offsets": (at, at + entry.size),
        }
        at += entry.size
    encoded = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    encoded += b" " * (-len(encoded) % 8)  # the data begin aligned
    with path.open("xb") as file:
        path.chmod(0o600)
        file.write(struct.pack("<Q", len(encoded)) + encoded)
        for entry, data in tensors:
            written = sum(file.write(piece) for piece in data)
            if written != entry.size:
                raise ValueError(f"{entry.name}: {written} bytes for {entry.size}")
    return 8 + len(encoded) + at


def _problem(path: Path, why: str, todo: str = "") -> Problem:
    return Problem(_("Cannot read the weights in {path}").format(path=path), why, todo)
