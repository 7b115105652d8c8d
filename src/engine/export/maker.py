"""Large files made by several threads: some compute chunks, one hashes them, others write.

Each file's chunks are hashed in order, while those after them are computed and those
before them are written. Chunks go to the disk past the page cache (O_DIRECT) where the
file system can do that: the copy into it costs a core as much as the arithmetic leaves.
Elsewhere the kernel is told to begin writing each chunk out at once.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import mmap
import os
import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager

from engine.export.made import Made, write_out

CHUNK = 4 << 20
"""Bytes that are computed, hashed and written at a time."""

_MOST_THREADS = 8
_WRITING = 2  # chunks of a file on their way to the disk


def make(
    files: Mapping[str, Made],
    opened: Callable[[str], AbstractContextManager[int]],
    told: Callable[[int], None],
) -> dict[str, str]:
    """Write files; returns their SHA-256 sums (hexadecimal).

    Args:
        files: what is to be written, by name.
        opened: gives a new file of a name, open for writing until its block ends.
        told: hears the bytes of each chunk, one call at a time; what it raises ends the work.
    """
    # Hashing one file takes a core: more cores, more files at once.
    lanes = max(1, min(len(files), threads() // 2))
    maker = _Maker(lanes, told)

    def one(name: str, file: Made) -> str:
        with opened(name) as descriptor:
            _direct(descriptor, os.O_DIRECT if file.size >= CHUNK else 0)
            return maker.make(descriptor, file)

    with maker, ThreadPoolExecutor(lanes, thread_name_prefix="file") as pool:
        running = {name: pool.submit(one, name, file) for name, file in files.items()}
        try:
            wait(running.values(), return_when=FIRST_EXCEPTION)
        finally:
            maker.stop()
    for future in running.values():
        error = future.exception()
        if error and not isinstance(error, _Stopped):
            raise error
    return {name: future.result() for name, future in running.items()}


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
    write_out(descriptor, begin, size)


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
