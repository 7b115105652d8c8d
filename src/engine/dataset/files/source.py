"""The bytes of a file that must stay what it was when it was opened."""

from __future__ import annotations

import hashlib
import io
import os
import stat
from pathlib import Path
from typing import Any

from engine.errors import Problem
from engine.i18n import _

CHUNK = 1 << 20


class Source:
    """A plain file. Safe to read from several threads."""

    compression = ""
    """"", "gz" or "zst"."""
    fault: str | None = None
    """Why the text ends before it should (a compressed file that is cut off)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = open_file(path)
        self._opened = os.fstat(self._descriptor)
        self.size = self._opened.st_size
        """Bytes on disk."""

    def read(self, start: int, end: int) -> bytes:
        """The bytes from `start` to `end`; fewer only where the text ends.

        Raises `Problem` when the file has been written to since it was opened:
        what stands there now need not be what was indexed.
        """
        content = read_at(self._descriptor, start, end)
        if _state(os.fstat(self._descriptor)) != _state(self._opened):
            raise changed_file(self.path)
        return content

    def done(self, offset: int) -> int:
        """The bytes on disk that the text up to `offset` takes."""
        return offset

    def fingerprint(self) -> str:
        """Changes when the file's size, time or beginning or end change."""
        digest = hashlib.sha256(f"{self.size} {self._opened.st_mtime_ns}".encode())
        digest.update(read_at(self._descriptor, 0, CHUNK))
        digest.update(read_at(self._descriptor, max(0, self.size - CHUNK), self.size))
        return digest.hexdigest()

    def changed(self) -> bool:
        """Whether the file on disk is no longer the one that was opened."""
        return is_changed(self.path, self._opened)

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class SourceFile(io.RawIOBase):
    """A source as a file object, for libraries that read from one."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        self._source = source
        self.at = 0

    def read(self, count: int = -1) -> bytes:
        """See `io.RawIOBase`."""
        end = self._source.size if count is None or count < 0 else self.at + count
        piece = self._source.read(self.at, end)
        self.at += len(piece)
        return piece

    def readinto(self, buffer: Any) -> int:
        """See `io.RawIOBase`."""
        piece = self.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    def readable(self) -> bool:
        """See `io.RawIOBase`."""
        return True

    def seekable(self) -> bool:
        """See `io.RawIOBase`."""
        return True

    def tell(self) -> int:
        """See `io.RawIOBase`."""
        return self.at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """See `io.RawIOBase`."""
        begin = {os.SEEK_SET: 0, os.SEEK_CUR: self.at, os.SEEK_END: self._source.size}[whence]
        self.at = begin + offset
        return self.at


def open_file(path: Path) -> int:
    """A descriptor of the regular file `path`. Raises `Problem` when there is none."""
    what = _("Cannot read {path}").format(path=path)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError as error:
        todo = _("Check the name; relative names count from the current folder.")
        raise Problem(what, _("There is no such file."), todo) from error
    except OSError as error:
        raise Problem(what, error.strerror or str(error), _("Check its permissions.")) from error
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        why = _("It is a folder.") if stat.S_ISDIR(mode) else _("It is not a regular file.")
        raise Problem(what, why, _("Give a dataset file, or a folder of them."))
    return descriptor


def is_changed(path: Path, opened: os.stat_result) -> bool:
    """Whether the file at `path` is another than the one that had the status `opened`."""
    try:
        now = path.stat()
    except OSError:
        return True
    return (now.st_dev, now.st_ino, *_state(now)) != (
        opened.st_dev,
        opened.st_ino,
        *_state(opened),
    )


def changed_file(path: Path) -> Problem:
    """The error for a file that was written to while it was open."""
    return Problem(
        _("{path} has changed since it was opened").format(path=path),
        _("Something writes to it: its rows are no longer where they were."),
        _("Open it again."),
    )


def _state(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns


def read_at(descriptor: int, start: int, end: int) -> bytes:
    """The bytes from `start` to `end`; fewer only at the end of the file."""
    parts = []
    while start < end and (part := os.pread(descriptor, end - start, start)):
        parts.append(part)
        start += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
