"""A merge's arithmetic handed to a GPU, when there is one and it pays."""

from __future__ import annotations

import itertools
import mmap
import os
import queue
import threading
from typing import TYPE_CHECKING

from engine.errors import Failed, Problem
from engine.export import dtypes
from engine.export.maker import threads as cores
from engine.export.weights import Entry, Weight
from engine.i18n import _
from engine.machine import gpu
from engine.machine.gpu import Gpu
from engine.settings import Settings
from engine.worker.client import WorkerClient

if TYPE_CHECKING:
    from engine.export.adapter import Change

WORKER = "engine.export.gpu_worker"

_PLACE = 16 << 20  # bytes of rows that are computed at once, and of their result
_PLACES = 4
_CARD = 2 << 30  # bytes on the card: CUDA itself, cuBLAS, some rows, some changes
_START = 15.0  # seconds until torch and CUDA are up, which the CPU uses to compute
_PER_CORE = 0.3e9  # weights a second that a slow core computes


class GpuMerge:
    """A worker that computes rows of changed tensors. Close it after use.

    Attributes:
        name: the card's.
    """

    def __init__(self, settings: Settings, device: str) -> None:
        """Start it on `device` (``cuda:0``). Raises `Problem` when it cannot start."""
        self._memory = os.memfd_create("merge")
        self._factors = os.memfd_create("changes")
        os.ftruncate(self._memory, 2 * _PLACE * _PLACES)
        self._shared = memoryview(mmap.mmap(self._memory, 2 * _PLACE * _PLACES))
        self._free: queue.SimpleQueue[int] = queue.SimpleQueue()
        for number in range(_PLACES):
            self._free.put(2 * _PLACE * number)
        self._keys = itertools.count()
        self._giving = threading.Lock()
        self._worker = WorkerClient(WORKER, settings, gpu.shown(_cards()))
        try:
            self.name = str(
                self._worker.result(
                    "open",
                    device=device,
                    path=f"/proc/{os.getpid()}/fd/{self._memory}",
                    size=len(self._shared),
                )["name"]
            )
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> GpuMerge:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the worker."""
        self._worker.close()
        os.close(self._memory)
        os.close(self._factors)

    def give(self, change: Change) -> int:
        """Bring a change onto the card; returns its key."""
        arrays = {
            name: value
            for name in ("left", "right", "magnitude", "stretch")
            if (value := getattr(change, name)) is not None
        }
        with self._giving:
            key = next(self._keys)
            os.ftruncate(self._factors, 0)
            os.lseek(self._factors, 0, os.SEEK_SET)
            with os.fdopen(os.dup(self._factors), "wb") as file:
                for value in arrays.values():
                    file.write(value.tobytes())
            self._worker.result(
                "change",
                key=key,
                path=f"/proc/{os.getpid()}/fd/{self._factors}",
                arrays={name: value.shape for name, value in arrays.items()},
            )
            return key

    def forget(self, key: int) -> None:
        """Free a change on the card."""
        self._worker.result("forget", key=key)

    def into(
        self, entry: Entry, source: Weight, key: int, first: int, last: int, out: memoryview
    ) -> None:
        """Write elements `first` to `last` of a tensor to `out`; from any thread.

        The tensor is to be `entry`: `source` with the change `key` added.
        """
        stored, columns = source.entry, source.entry.columns
        width, wide = dtypes.SIZES[entry.dtype], dtypes.SIZES[stored.dtype]
        row, end = first // columns, -(-last // columns)
        step = max(_PLACE // max(width, wide) // columns, 1)
        place = self._free.get()
        try:
            for top in range(row, end, step):
                bottom = min(top + step, end)
                size = (bottom - top) * columns
                source.into(top * columns * wide, self._shared[place : place + size * wide])
                self._worker.result(
                    "rows", key=key, begin=place, out=place + _PLACE, first=top,
                    rows=bottom - top, columns=columns, stored=stored.dtype,
                    dtype=entry.dtype, name=entry.name,
                )  # fmt: skip
                at, stop = max(top * columns, first), min(bottom * columns, last)
                begin = place + _PLACE + (at - top * columns) * width
                out[(at - first) * width : (stop - first) * width] = self._shared[
                    begin : begin + (stop - at) * width
                ]
        finally:
            self._free.put(place)


def start(settings: Settings, device: str, changed: int) -> GpuMerge | None:
    """The worker for `device`, None for the CPU.

    ``auto`` takes a GPU that nobody uses when computing `changed` weights on
    this machine's cores would take longer than starting torch there.

    Raises `Problem` for a device that is not there or has no room, and for one
    asked for by name that does not start.
    """
    if device == "auto":
        free = _free_gpu() if changed / (_PER_CORE * cores()) > _START else None
        if free is None:
            return None
        try:
            return GpuMerge(settings, f"cuda:{free}")
        except Problem:  # torch cannot use it; the CPU can do all of it
            return None
    if device == "cpu":
        return None
    _check(device)
    return GpuMerge(settings, device)


def _check(device: str) -> None:
    kind, _found, number = device.partition(":")
    if kind != "cuda" or not (number or "0").isdigit():
        raise Problem(
            _("There is no device {device}").format(device=device),
            "",
            _("Known: {names}.").format(names="auto, cpu, cuda:0, cuda:1, …"),
        )
    seen = gpu.read()
    cards = gpu.for_one_process(seen.gpus)
    index = int(number or 0)
    if index >= len(cards):
        raise Problem(
            _("There is no device {device}").format(device=device),
            seen.reason or _("{count} GPUs can be used.").format(count=len(cards)),
            _("The CPU can do it."),
            ways=("device",),
        )
    one = cards[index]
    if one.free < _CARD:
        raise Failed(
            _("There is not enough memory on {device}").format(device=device),
            _("It needs {need:,} MB; {free:,} MB are free.").format(
                need=_CARD // 10**6, free=(one.free) // 10**6
            ),
            _("The CPU can do it."),
            ways=("device",),
        )


def _cards() -> list[Gpu]:
    """The GPUs that the worker sees, in torch's order."""
    return gpu.for_one_process(gpu.read().gpus)


def _free_gpu() -> int | None:
    """The number, as CUDA counts, of a GPU that nobody uses."""
    for index, one in enumerate(_cards()):
        if not one.processes and one.used < (1 << 30) and one.free >= _CARD:
            return index
    return None
