"""A tensor somewhere in a file: what it is, and how to get at its bytes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from engine.export import dtypes

CHUNK = 8 << 20
"""Bytes of a piece, where nothing else decides."""


@dataclass(frozen=True)
class Entry:
    """A tensor as a header describes it: its type by its safetensors name, its shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes."""
        return dtypes.SIZES[self.dtype] * math.prod(self.shape)

    @property
    def row(self) -> int:
        """Bytes of one row: all dimensions but the first."""
        return dtypes.SIZES[self.dtype] * math.prod(self.shape[1:])


@dataclass(frozen=True)
class Weight:
    """A tensor to be read.

    ``read(begin, end)`` gives these of its bytes, row-major; it may be called
    from any thread, in any order.
    """

    entry: Entry
    read: Callable[[int, int], bytes]

    def blocks(self, size: int = CHUNK) -> Iterator[tuple[int, int]]:
        """(begin, end) of pieces of whole rows, about `size` bytes each, in order."""
        row = max(self.entry.row, 1)
        step = max(size // row, 1) * row
        for begin in range(0, self.entry.size, step):
            yield begin, min(begin + step, self.entry.size)

    def chunks(self) -> Iterator[bytes]:
        """All its bytes, piece by piece."""
        return (self.read(begin, end) for begin, end in self.blocks())

    def tasks(self, dtype: str) -> Iterator[Callable[[], memoryview]]:
        """Functions that read it as `dtype`, piece by piece in order, for `pipeline.in_order`."""
        return (partial(self._cast, dtype, begin, end) for begin, end in self.blocks())

    def _cast(self, dtype: str, begin: int, end: int) -> memoryview:
        data = self.read(begin, end)
        if dtype == self.entry.dtype:
            return memoryview(data)
        import numpy

        values = numpy.frombuffer(data, dtypes.numpy_dtype(self.entry.dtype))
        return dtypes.cast(values, dtype, self.entry.name).view(numpy.uint8).data
