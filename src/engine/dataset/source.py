"""The bytes of a text file, whether it is plain or compressed.

A compressed file is unpacked as far as it is asked for into a temporary file
without a name, which goes when the source is closed or the process ends.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import os
import stat
import tempfile
import threading
from pathlib import Path
from typing import Any

from engine.errors import Failed, Problem
from engine.i18n import _

CHUNK = 1 << 20
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_NAMES = {"gz": "gzip", "zst": "zstd"}


def open_source(path: Path) -> Source:
    """The text in `path`. Raises `Problem` when it cannot be read."""
    plain = Source(path)
    try:
        magic = plain.read(0, 4)
        for compression, begin in (("gz", _GZIP), ("zst", _ZSTD)):
            if magic.startswith(begin):
                return Unpacked(plain, compression)
    except BaseException:
        plain.close()
        raise
    return plain


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
        content = _read(self._descriptor, start, end)
        if _state(os.fstat(self._descriptor)) != _state(self._opened):
            raise changed_file(self.path)
        return content

    def done(self, offset: int) -> int:
        """The bytes on disk that the text up to `offset` takes."""
        return offset

    def fingerprint(self) -> str:
        """Changes when the file's size, time or beginning or end change."""
        digest = hashlib.sha256(f"{self.size} {self._opened.st_mtime_ns}".encode())
        digest.update(_read(self._descriptor, 0, CHUNK))
        digest.update(_read(self._descriptor, max(0, self.size - CHUNK), self.size))
        return digest.hexdigest()

    def changed(self) -> bool:
        """Whether the file on disk is no longer the one that was opened."""
        return is_changed(self.path, self._opened)

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class Unpacked(Source):
    """The text in a gzip or zstd file."""

    def __init__(self, plain: Source, compression: str) -> None:
        """Takes over `plain`: closing this closes it."""
        self.path = plain.path
        self.size = plain.size
        self.compression = compression
        self._plain = plain
        self._file = SourceFile(plain)
        self._stream = _unpacking(self._file, compression, plain.path)
        self._text = tempfile.TemporaryFile(prefix="tunedeck-")  # noqa: SIM115 (closed in close)
        self._length = 0
        self._ended = False
        self._lock = threading.Lock()

    def read(self, start: int, end: int) -> bytes:
        """See `Source.read`. Raises `Failed` when there is no room for the text."""
        with self._lock:
            while self._length < end and not self._ended:
                self._more()
        return _read(self._text.fileno(), start, end)

    def _more(self) -> None:
        try:
            piece = self._stream.read(CHUNK)
        except Problem:
            raise
        except Exception as error:  # each library has its own for a damaged file
            if self._length == 0:
                raise Problem(
                    _("Cannot read {path}").format(path=self.path),
                    _("It is compressed ({kind}), and damaged: {error}").format(
                        kind=_NAMES[self.compression], error=error
                    ),
                    _("Copy it again from where it came from."),
                ) from error
            self.fault = _("the compressed file is damaged or cut off here")
            piece = b""
        if not piece:
            self._ended = True
            return
        try:
            _write(self._text.fileno(), piece, self._length)
        except OSError as error:
            raise Failed(
                _("No room to unpack {path}").format(path=self.path),
                f"{tempfile.gettempdir()}: {error.strerror}",
                _("Free some space there, or set TMPDIR to a folder on a larger disk."),
            ) from error
        self._length += len(piece)

    def done(self, _offset: int) -> int:
        """See `Source.done`."""
        return min(self._file.at, self.size)

    def fingerprint(self) -> str:
        """See `Source.fingerprint`."""
        return self._plain.fingerprint()

    def changed(self) -> bool:
        """See `Source.changed`."""
        return self._plain.changed()

    def close(self) -> None:
        """Close the file and forget its text."""
        with self._lock:
            self._ended = True
            self._text.close()
        self._plain.close()


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


def _unpacking(file: Any, compression: str, path: Path) -> Any:
    """A file object with the text of the compressed `file`."""
    if compression == "gz":
        return gzip.GzipFile(fileobj=file, mode="rb")
    with contextlib.suppress(ImportError):
        import zstandard

        return zstandard.ZstdDecompressor().stream_reader(
            file, read_across_frames=True, closefd=False
        )
    try:
        import pyarrow
    except ImportError as error:
        raise Problem(
            _("Cannot read {path}").format(path=path),
            _("It is compressed (zstd), and no library that unpacks that is installed."),
            _("Install one (pip install zstandard), or unpack it with zstd -d."),
        ) from error
    return pyarrow.CompressedInputStream(file, "zstd")


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


def _read(descriptor: int, start: int, end: int) -> bytes:
    parts = []
    while start < end and (part := os.pread(descriptor, end - start, start)):
        parts.append(part)
        start += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _write(descriptor: int, content: bytes, at: int) -> None:
    view = memoryview(content)
    while view:
        written = os.pwrite(descriptor, view, at)
        view, at = view[written:], at + written
