"""The files of a result: hashed while they are written, and on the disk before they count."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from engine import files
from engine.export.made import Made, write_out
from engine.i18n import _

MANIFEST = "SHA256SUMS"
AT_ONCE = 64 << 20
"""Bytes from which several threads make the files: for less, starting them takes longer."""

_PIECE = 1 << 20


class Output:
    """A folder that is being filled. Whoever keeps it waits for the disk.

    Attributes:
        sums: name -> SHA-256 (hexadecimal) of the files written so far.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sums: dict[str, str] = {}

    def make(self, made: Mapping[str, Made], told: Callable[[int], None]) -> int:
        """Write new files (0600); returns their bytes.

        `told` hears the bytes of each piece, one call at a time; what it raises
        ends the work. Raises `Failed` when the disk does not take them.
        """
        total = sum(file.size for file in made.values())
        if total < AT_ONCE:
            for name, file in made.items():
                self.write(name, _stretches(file, told))
        else:
            from engine.export.maker import make  # its threads are needed here only

            self.sums |= make(made, self._file, told)
        return total

    def write(self, name: str, pieces: Iterable[bytes | memoryview]) -> None:
        """Write a new file (0600) of these pieces. Raises `Failed` as `make` does."""
        digest = hashlib.sha256()
        with self._file(name) as descriptor:
            at = 0
            for piece in pieces:
                digest.update(piece)
                left = memoryview(piece)
                while left:
                    left = left[os.write(descriptor, left) :]
                write_out(descriptor, at, len(piece))
                at += len(piece)
        self.sums[name] = digest.hexdigest()

    @contextmanager
    def _file(self, name: str) -> Iterator[int]:
        """A new file of that name, closed when the block ends; the disk's errors in words."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        path = self.folder / name
        with files.in_words(_("Cannot write {path}").format(path=path)):
            descriptor = os.open(path, flags, 0o600)
            try:
                yield descriptor
            finally:
                os.close(descriptor)

    def copy(self, source: Path, name: str = "") -> None:
        """Copy a file, under its own name unless another is given."""
        self.write(name or source.name, _pieces(source))

    def text(self, name: str, text: str) -> None:
        """Write a text file."""
        self.write(name, [text.encode()])

    def manifest(self) -> None:
        """Write `MANIFEST`, which ``sha256sum -c`` understands."""
        lines = [f"{digest}  {name}\n" for name, digest in sorted(self.sums.items())]
        self.text(MANIFEST, "".join(lines))


def _stretches(file: Made, told: Callable[[int], None]) -> Iterator[memoryview]:
    """The file from its beginning, each piece in the same memory."""
    buffer = memoryview(bytearray(min(_PIECE, file.size)))
    for begin in range(0, file.size, _PIECE):
        piece = buffer[: file.size - begin]
        file.into(begin, piece)
        yield piece
        told(len(piece))


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            yield piece
