"""The text in a compressed file.

It is unpacked as far as it is asked for into a temporary file without a name,
which goes when the source is closed or the process ends.
"""

from __future__ import annotations

import os
import tempfile
import threading
import zlib
from pathlib import Path
from typing import Any

from engine.dataset.files.source import Source, read_at
from engine.errors import Failed, Problem
from engine.i18n import _

_MAGIC = {b"\x1f\x8b": "gz", b"\x28\xb5\x2f\xfd": "zst"}
_NAMES = {"gz": "gzip", "zst": "zstd"}
_PIECE = 1 << 14
"""Compressed bytes at a time: few, for they may hold very much text."""


def open_source(path: Path) -> Source:
    """The text in `path`, plain or compressed. Raises `Problem` when it cannot be read."""
    plain = Source(path)
    try:
        magic = plain.read(0, 4)
        for begin, compression in _MAGIC.items():
            if magic.startswith(begin):
                return Unpacked(plain, compression)
    except BaseException:
        plain.close()
        raise
    return plain


class Unpacked(Source):
    """The text in a gzip or zstd file."""

    def __init__(self, plain: Source, compression: str) -> None:
        """Takes over `plain`: closing this closes it."""
        self.path = plain.path
        self.size = plain.size
        self.compression = compression
        self._plain = plain
        self._members = _Members(plain, compression)
        self._text = tempfile.TemporaryFile(prefix="tunedeck-")  # noqa: SIM115 (closed in close)
        self._length = 0
        self._ended = False
        self._lock = threading.Lock()

    def read(self, start: int, end: int) -> bytes:
        """See `Source.read`. Raises `Failed` when there is no room for the text."""
        with self._lock:
            while self._length < end and not self._ended:
                self._more()
            return read_at(self._text.fileno(), start, end)

    def _more(self) -> None:
        try:
            piece = self._members.read()
        except (Problem, MemoryError):
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
        self._ended = not piece
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
        return self._members.at

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


class _Members:
    """Unpacks the members (gzip) or frames (zstd) of a file, one behind the other."""

    def __init__(self, source: Source, compression: str) -> None:
        self.at = 0
        """Compressed bytes read so far."""
        self._source = source
        self._new = _gzip if compression == "gz" else _zstd(source.path)
        self._member: Any = None
        self._rest = b""

    def read(self) -> bytes:
        """Some more text; none at the end. Raises `EOFError` for an end that comes too early."""
        while True:
            packed = self._rest or self._source.read(self.at, self.at + _PIECE)
            self.at += 0 if self._rest else len(packed)
            self._rest = b""
            if self._member is None:
                packed = packed.lstrip(b"\0")  # gzip files are padded with zeros on tapes
                if not packed:
                    if self.at < self._source.size:
                        continue
                    return b""
                self._member = self._new()
            elif not packed:
                raise EOFError("it ends too early")
            text: bytes = self._member.decompress(packed)
            if self._member.eof:
                self._rest = self._member.unused_data
                self._member = None
            if text:
                return text


def _gzip() -> Any:
    return zlib.decompressobj(wbits=31)


def _zstd(path: Path) -> Any:
    try:
        import zstandard
    except ImportError as error:
        raise Problem(
            _("Cannot read {path}").format(path=path),
            _("It is compressed (zstd), and the library that unpacks that is not installed."),
            _("Install it (pip install zstandard), or unpack the file with zstd -d."),
        ) from error
    return zstandard.ZstdDecompressor().decompressobj


def _write(descriptor: int, content: bytes, at: int) -> None:
    view = memoryview(content)
    while view:
        written = os.pwrite(descriptor, view, at)
        view, at = view[written:], at + written
