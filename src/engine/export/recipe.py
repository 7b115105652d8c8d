"""How a tensor of the result is made, and a weight file made of such tensors.

Both are functions from a place to the bytes there: nothing is held whole, any
stretch can be made alone, and several threads make several stretches at once.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from engine.export import dtypes, safetensors_file
from engine.export.weights import Entry, Weight

if TYPE_CHECKING:
    import numpy as np

    from engine.export.adapter import Change, Delta
    from engine.export.gpu_merge import GpuMerge

_BLOCK = 1 << 19
"""Elements that are computed at a time: three float32 arrays of them stay in the cache."""


class Recipe:
    """One tensor of the result.

    Attributes:
        entry: what it is to be.
        source: the tensor that it is made of.
        delta: what is added to that, or None.
        gpu: what computes the change, None for this process itself.
    """

    def __init__(self, entry: Entry, source: Weight, delta: Delta | None = None) -> None:
        self.entry = entry
        self.gpu: GpuMerge | None = None
        self.source = source
        self.delta = delta
        self._lock = threading.Lock()
        self._change: Change | None = None
        self._key: int | None = None  # of the change on the GPU
        self._left = entry.size

    def into(self, begin: int, buffer: memoryview) -> None:
        """Fill `buffer` with its bytes from `begin` on; ask for every byte once."""
        if self.delta is None and self.entry.dtype == self.source.entry.dtype:
            self.source.into(begin, buffer)
            return
        width = dtypes.SIZES[self.entry.dtype]
        first, last = begin // width, -(-(begin + len(buffer)) // width)
        cut = begin - first * width
        if cut or len(buffer) != (last - first) * width:  # within an element
            whole = memoryview(bytearray((last - first) * width))
            self._make(first, last, whole)
            buffer[:] = whole[cut : cut + len(buffer)]
        else:
            self._make(first, last, buffer)
        self._free(len(buffer))

    def _make(self, first: int, last: int, out: memoryview) -> None:
        """Write elements `first` to `last` to `out`, computing whole rows where rows matter."""
        if self.gpu and self.delta:
            key = self._on_gpu(self.gpu, self.delta)
            self.gpu.into(self.entry, self.source, key, first, last, out)
            return
        width = dtypes.SIZES[self.entry.dtype]
        row = self.source.entry.columns if self.delta else 1
        step = max(_BLOCK // row, 1) * row
        for begin in range(first - first % row, last, step):
            end = min(begin + step, -(-last // row) * row)
            values = self._values(begin, end)
            at, stop = max(begin, first), min(end, last)
            part = out[(at - first) * width : (stop - first) * width]
            dtypes.store(values[at - begin : stop - begin], self.entry.dtype, part, self.entry.name)

    def _values(self, begin: int, end: int) -> np.ndarray[Any, Any]:
        """Elements `begin` to `end`, changed, before they are rounded."""
        stored = self.source.entry
        width = dtypes.SIZES[stored.dtype]
        raw = dtypes.scratch("raw", (end - begin) * width, "u1").data
        self.source.into(begin * width, raw)
        if self.delta is None and stored.dtype == "F64":
            return dtypes.view(raw, stored.dtype)  # float32 would round it twice
        values = dtypes.scratch("values", end - begin, "<f4")
        dtypes.widen(raw, stored.dtype, values)
        if self.delta:
            rows = values.reshape(-1, stored.columns)
            self._loaded(self.delta).apply(rows, begin // stored.columns)
        return values

    def _loaded(self, delta: Delta) -> Change:
        with self._lock:
            if self._change is None:
                self._change = delta.load(self.source)
            return self._change

    def _on_gpu(self, gpu: GpuMerge, delta: Delta) -> int:
        with self._lock:
            if self._key is None:
                self._key = gpu.give(delta.load(self.source))
            return self._key

    def _free(self, made: int) -> None:
        """Let go of the change when the last byte is made."""
        with self._lock:
            self._left -= made
            if not self._left:
                self._change = None
                if self.gpu and self._key is not None:
                    self.gpu.forget(self._key)


class WeightFile:
    """A safetensors file of some tensors, in this order.

    Attributes:
        recipes: the tensors.
        size: bytes of the file.
    """

    def __init__(self, recipes: Sequence[Recipe]) -> None:
        self.recipes = recipes
        self._header = safetensors_file.header(self.entries)
        sizes = (recipe.entry.size for recipe in recipes)
        *self._begins, self.size = accumulate(sizes, initial=len(self._header))

    @property
    def entries(self) -> list[Entry]:
        """What the tensors are."""
        return [recipe.entry for recipe in self.recipes]

    def into(self, begin: int, buffer: memoryview) -> None:
        """Fill `buffer` with the file's bytes from `begin` on."""
        if begin < len(self._header):
            head = self._header[begin : begin + len(buffer)]
            buffer[: len(head)] = head
            buffer, begin = buffer[len(head) :], begin + len(head)
        number = bisect_right(self._begins, begin) - 1
        while buffer:
            recipe, start = self.recipes[number], self._begins[number]
            count = min(len(buffer), start + recipe.entry.size - begin)
            if count:
                recipe.into(begin - start, buffer[:count])
            buffer, begin, number = buffer[count:], begin + count, number + 1


def cast(weight: Weight, entry: Entry, dtype: str | None) -> Recipe:
    """`weight` under the name of `entry`; as `dtype` when one is asked for and it is a float."""
    kind = dtype if dtype and entry.dtype in dtypes.FLOATS else entry.dtype
    return Recipe(Entry(entry.name, kind, entry.shape), weight)
