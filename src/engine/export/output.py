"""The files of a result: hashed while they are written, and on the disk before they count.

A weight file is made chunk by chunk: some threads compute chunks, one hashes
them in order, others write them, all at the same time. Chunks go to the disk
past the page cache (O_DIRECT) where the file system can do that: the copy into
it costs a core as much as the arithmetic leaves. Elsewhere the kernel is told
to begin writing each chunk out at once.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import mmap
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from engine.errors import Failed
from engine.i18n import _

MANIFEST = "SHA256SUMS"
CHUNK = 4 << 20
"""Bytes that are computed, hashed and written at a time."""

_PIECE = 1 << 20
_MOST_THREADS = 8
_WRITING = 2  # chunks of a file on their way to the disk


class Made(Protocol):
    """A file that can be made from any place on, in any order, by any thread."""

    size: int

    def into(self, begin: int, buffer: memoryview) -> None:
        """Fill `buffer` with the bytes from `begin` on."""


class Output:
    """A folder that is being filled. Use it in a ``with`` block; its end waits for the disk.

    Attributes:
        sums: name -> SHA-256 (hexadecimal) of the files written so far.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sums: dict[str, str] = {}
        self._syncing = ThreadPoolExecutor(4, thread_name_prefix="sync")
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
            self._syncing.shutdown(cancel_futures=True)

    def make(self, files: Mapping[str, Made], told: Callable[[int], None]) -> int:
        """Write new files (0600); returns their bytes.

        `told` hears the bytes of each chunk, one call at a time; what it raises
        ends the work. Raises `Failed` when the disk does not take them.
        """
        # Hashing one file takes a core: more cores, more files at once.
        lanes = max(1, min(len(files), threads() // 2))
        maker = _Maker(lanes, told)

        def one(name: str, file: Made) -> None:
            with self._file(name, os.O_DIRECT if file.size >= CHUNK else 0) as descriptor:
                self.sums[name] = maker.make(descriptor, file)

        with maker, ThreadPoolExecutor(lanes, thread_name_prefix="file") as pool:
            running = [pool.submit(one, name, file) for name, file in files.items()]
            try:
                wait(running, return_when=FIRST_EXCEPTION)
            finally:
                maker.stop()
        failed = [future.exception() for future in running]
        for error in failed:
            if error and not isinstance(error, _Stopped):
                raise error
        return sum(file.size for file in files.values())

    def write(self, name: str, pieces: Iterable[bytes]) -> None:
        """Write a new small file (0600) of these pieces. Raises `Failed` as `make` does."""
        digest = hashlib.sha256()
        with self._file(name) as descriptor:
            at = 0
            for piece in pieces:
                digest.update(piece)
                _write_all(descriptor, memoryview(piece), at)
                at += len(piece)
        self.sums[name] = digest.hexdigest()

    @contextmanager
    def _file(self, name: str, how: int = 0) -> Iterator[int]:
        """A new file of that name, synced in the background when the block ends well."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with self._said(name):
            descriptor = os.open(self.folder / name, flags, 0o600)
            try:
                _direct(descriptor, how)
                yield descriptor
                self._synced.append(self._syncing.submit(_sync, os.dup(descriptor)))
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


def threads() -> int:
    """How many threads compute: the cores that this process may use, at most eight.

    (With more, the disk is what one waits for.)
    """
    return max(1, min(_MOST_THREADS, len(os.sched_getaffinity(0))))


class _Stopped(Exception):
    """Another file failed."""


class _Maker:
    """The threads that compute and write the chunks of several files."""

    def __init__(self, files: int, told: Callable[[int], None]) -> None:
        self._told = told
        self._telling = threading.Lock()
        self._stopped = False
        self._ahead = -(-2 * threads() // files) + 1  # chunks of a file being computed
        self._computing = ThreadPoolExecutor(threads(), thread_name_prefix="compute")
        self._writing = ThreadPoolExecutor(_WRITING * files, thread_name_prefix="write")

    def __enter__(self) -> _Maker:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._computing.shutdown(cancel_futures=True)
        self._writing.shutdown(cancel_futures=True)

    def stop(self) -> None:
        """Make nothing more: one of the files failed."""
        self._stopped = True

    def make(self, descriptor: int, file: Made) -> str:
        """Write one file; returns its sum."""
        digest = hashlib.sha256()
        free: deque[mmap.mmap] = deque()  # memory of chunks, aligned as O_DIRECT wants it
        computed: deque[tuple[int, mmap.mmap, Future[None]]] = deque()
        written: deque[tuple[mmap.mmap, Future[None]]] = deque()

        def hand_over() -> None:
            """The oldest chunk: write it, hash it meanwhile, wait for an older one's end."""
            begin, slot, future = computed.popleft()
            future.result()
            size = min(CHUNK, file.size - begin)
            written.append(
                (slot, self._writing.submit(_write_chunk, descriptor, slot, size, begin))
            )
            digest.update(memoryview(slot)[:size])
            self._tell(size)
            if len(written) >= _WRITING:
                slot, done = written.popleft()
                done.result()
                free.append(slot)

        try:
            for begin in range(0, file.size, CHUNK):
                if len(computed) >= self._ahead:
                    hand_over()
                slot = free.popleft() if free else mmap.mmap(-1, min(CHUNK, _aligned(file.size)))
                part = memoryview(slot)[: file.size - begin]
                computed.append((begin, slot, self._computing.submit(file.into, begin, part)))
            while computed:
                hand_over()
            for _slot, done in written:
                done.result()
        finally:
            wait([job for *_rest, job in computed] + [job for *_rest, job in written])
        os.ftruncate(descriptor, file.size)  # the last chunk was filled up
        return digest.hexdigest()

    def _tell(self, size: int) -> None:
        with self._telling:
            if self._stopped:
                raise _Stopped
            self._told(size)


def _aligned(size: int) -> int:
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE


def _direct(descriptor: int, how: int) -> None:
    """Write past the page cache from now on (O_DIRECT), or no longer (0)."""
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags & ~os.O_DIRECT | how)
    except OSError as error:
        if error.errno != errno.EINVAL:  # this file system cannot
            raise


def _write_chunk(descriptor: int, slot: mmap.mmap, size: int, begin: int) -> None:
    """Write a chunk; the last one of a file is filled up to whole pages."""
    if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT:
        size = _aligned(size)
    _write_all(descriptor, memoryview(slot)[:size], begin)
    # Nothing is dropped that is not on the disk: Linux begins to write it out.
    os.posix_fadvise(descriptor, begin, size, os.POSIX_FADV_DONTNEED)


def _write_all(descriptor: int, left: memoryview, at: int) -> None:
    while left:
        try:
            count = os.pwrite(descriptor, left, at)
        except OSError as error:
            # Not aligned (after a short write), or the file system has other wishes.
            if error.errno != errno.EINVAL or not (
                fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT
            ):
                raise
            _direct(descriptor, 0)
            continue
        left, at = left[count:], at + count


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            yield piece


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
