"""A file as it is made: from a place to the bytes there, and out to the disk."""

from __future__ import annotations

import os
from typing import Protocol


class Made(Protocol):
    """A file that can be made from any place on, in any order, by any thread."""

    size: int

    def into(self, begin: int, buffer: memoryview) -> None:
        """Fill `buffer` with the bytes from `begin` on."""


def write_out(descriptor: int, begin: int, size: int) -> None:
    """Let the kernel begin to write a stretch of a file to the disk (Linux does that then)."""
    os.posix_fadvise(descriptor, begin, size, os.POSIX_FADV_DONTNEED)
