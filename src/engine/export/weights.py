"""A tensor somewhere in a file: what it is, and how to get at its bytes."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import NamedTuple

from engine.export import dtypes

Into = Callable[[int, memoryview], None]
"""``into(begin, buffer)`` fills `buffer` with the bytes from `begin` on.

It may be called from any thread, in any order.
"""


class Entry(NamedTuple):
    """A tensor as a header describes it: its type by its safetensors name, its shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes."""
        return dtypes.SIZES[self.dtype] * math.prod(self.shape)

    @property
    def columns(self) -> int:
        """Elements of one row: all dimensions but the first."""
        return math.prod(self.shape[1:])


class Weight(NamedTuple):
    """A tensor to be read: `into` gives its bytes, row-major."""

    entry: Entry
    into: Into

    def read(self, begin: int = 0, end: int | None = None) -> bytearray:
        """Bytes `begin` to `end` (all by default), in memory of their own."""
        self.into(begin, memoryview(bytearray()))  # refuses what cannot be before it takes memory
        data = bytearray((self.entry.size if end is None else end) - begin)
        self.into(begin, memoryview(data))
        return data


def read_into(descriptor: int, begin: int, buffer: memoryview) -> None:
    """Fill `buffer` with a file's bytes from `begin` on. Raises `EOFError` where it ends before."""
    while buffer:
        count = os.preadv(descriptor, [buffer], begin)
        if not count:
            raise EOFError
        buffer, begin = buffer[count:], begin + count
