"""Safetensors files, read and written as streams: no tensor need be held whole."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import IO

from engine.errors import Problem
from engine.export.weights import Entry, Weight, read_into
from engine.i18n import _

_LARGEST_HEADER = 100_000_000  # the format's own limit


class Reader:
    """An open safetensors file. `entries` is in the order of the data. Close it after use."""

    def __init__(self, path: Path) -> None:
        """Open `path`. Raises `Problem` for a file that is torn or is no safetensors file."""
        self.path = path
        try:
            self._file: IO[bytes] = path.open("rb")
        except FileNotFoundError as error:
            raise _missing(path) from error
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
            )
        self.entries = [entry for _begin, _end, entry in places]
        self._begins = {entry.name: 8 + length + begin for begin, _end, entry in places}

    def weights(self) -> list[Weight]:
        """All tensors, in the order of the data."""
        return [
            Weight(entry, partial(self._into, self._begins[entry.name])) for entry in self.entries
        ]

    def _into(self, start: int, begin: int, buffer: memoryview) -> None:
        try:
            read_into(self._file.fileno(), start + begin, buffer)
        except EOFError:
            raise _problem(
                self.path, _("It is torn: data that its header names are missing.")
            ) from None


def header(entries: Iterable[Entry], metadata: Mapping[str, str] | None = None) -> bytes:
    """How a file of these tensors begins; their data follow in this order, without gaps.

    `metadata` is the file's own; ``format: pt`` is always there, which
    transformers asks for.
    """
    described: dict[str, object] = {"__metadata__": {"format": "pt", **(metadata or {})}}
    at = 0
    for entry in entries:
        described[entry.name] = {
            "dtype": entry.dtype,
            "shape": entry.shape,
            "data_offsets": (at, at + entry.size),
        }
        at += entry.size
    encoded = json.dumps(described, separators=(",", ":"), ensure_ascii=False).encode()
    encoded += b" " * (-len(encoded) % 8)  # the data begin aligned
    return struct.pack("<Q", len(encoded)) + encoded


def _missing(path: Path) -> Problem:
    """What is told of a file of weights that is not there, though its model needs it."""
    if path.is_symlink():
        why = _("It is a link to {target}, which is not there.").format(target=path.readlink())
    else:
        why = _("It is missing: the model's index names it.")
    return _problem(path, why)


def _problem(path: Path, why: str, todo: str = "") -> Problem:
    what = _("Cannot read the weights in {path}").format(path=path)
    return Problem(what, why, todo or _("Copy or download the file again."))
