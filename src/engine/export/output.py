"""The files of a result: hashed while they are written, and on the disk before they count.

Writing, hashing and the disk work at the same time: a file's bytes are hashed
in a thread of their own, the kernel is told to begin writing each piece out
when the next one comes, and a finished file is synced while the next one is
being written.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from engine.errors import Failed
from engine.export.weights import CHUNK
from engine.i18n import _

MANIFEST = "SHA256SUMS"

_STRETCH = 32 << 20  # bytes between two requests to begin writing out


class Output:
    """A folder that is being filled. Use it in a ``with`` block; its end waits for the disk.

    Attributes:
        sums: name -> SHA-256 (hexadecimal) of the files written so far.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sums: dict[str, str] = {}
        self._hashing = ThreadPoolExecutor(1, thread_name_prefix="hash")
        self._syncing = ThreadPoolExecutor(1, thread_name_prefix="sync")
        self._synced: list[Future[None]] = []

    def __enter__(self) -> Output:
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            if exception[0] is None:
                with self._said(""):
                    for future in self._synced:
                        future.result()
        finally:
            self._hashing.shutdown()
            self._syncing.shutdown(cancel_futures=True)

    def write(self, name: str, pieces: Iterable[bytes | memoryview]) -> int:
        """Write a new file (0600) of these pieces; returns its size in bytes.

        Raises `Failed` when the disk does not take it.
        """
        digest = hashlib.sha256()
        size = begun = 0
        with self._file(name) as descriptor:
            for piece in pieces:
                hashed = self._hashing.submit(digest.update, piece)
                with self._said(name):
                    _write_all(descriptor, piece)
                size += len(piece)
                if size - begun >= _STRETCH:
                    # Dirty pages cannot be dropped, but Linux begins to write them out.
                    os.posix_fadvise(descriptor, begun, size - begun, os.POSIX_FADV_DONTNEED)
                    begun = size
                hashed.result()
            self._synced.append(self._syncing.submit(_sync, os.dup(descriptor)))
        self.sums[name] = digest.hexdigest()
        return size

    @contextmanager
    def _file(self, name: str) -> Iterator[int]:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with self._said(name):
            descriptor = os.open(self.folder / name, flags, 0o600)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def _said(self, name: str) -> Iterator[None]:
        """The disk's errors, in words."""
        try:
            yield
        except OSError as error:
            raise Failed(
                _("Cannot write {path}").format(path=self.folder / name),
                error.strerror or str(error),
                _("Free some space, or choose another disk. Nothing half-made was left."),
            ) from error

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


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(CHUNK):
            yield piece


def _write_all(descriptor: int, piece: bytes | memoryview) -> None:
    left = memoryview(piece)
    while left:
        left = left[os.write(descriptor, left) :]


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
