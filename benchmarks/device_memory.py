"""What training holds of the device's memory, in bytes.

On a GPU torch's allocator, the driver and NVML tell it. Without one every reading is
`NONE`, unless `count` was called: then `allocated` and `peak_since` are counted on the CPU.
"""

from __future__ import annotations

import ctypes
import gc
import os
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

NONE = 0
_meter: Meter | None = None
"""Set by `count`."""


class _Mallinfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
        "fordblks", "keepcost",
    )]  # fmt: skip


class Meter(TorchDispatchMode):
    """What tensors take on a CPU, from glibc: bytes that it mapped, seen after every operation.

    The process has to be started so that every tensor of some size has a mapping of its
    own (`estimate.MAPPED`). torch's profiler does not see what other threads free, as gloo's do.
    """

    def __init__(self) -> None:
        super().__init__()
        self._ask = ctypes.CDLL(None).mallinfo2
        self._ask.restype = _Mallinfo
        self._peak = 0
        self.__enter__()

    @property
    def live(self) -> int:
        """Now."""
        return int(self._ask().hblkhd)

    def peak_since(self) -> int:
        """The most that was held since this was last asked for."""
        found, self._peak = max(self._peak, self.live), self.live
        return found

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self._peak = max(self._peak, self.live)
        return result


def count() -> None:
    """From now on count what tensors take on a CPU."""
    global _meter
    _meter = Meter()


def counting() -> bool:
    """Whether what tensors take is counted on a CPU."""
    return _meter is not None


def clean() -> None:
    """Give back what no tensor needs any more, so that the next reading is of its own."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.empty_cache()


def peak_since() -> int:
    """The peak since this was last asked for."""
    if _meter is not None:
        return _meter.peak_since()
    if not torch.cuda.is_available():
        return NONE
    peak = torch.cuda.max_memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    return int(peak)


def allocated() -> int:
    """By tensors, now."""
    if _meter is not None:
        return _meter.live
    return int(torch.cuda.memory_allocated()) if torch.cuda.is_available() else NONE


def reserved() -> int:
    """By torch's allocator, with what it keeps for later."""
    return int(torch.cuda.memory_reserved()) if torch.cuda.is_available() else NONE


def used() -> int:
    """Of the whole card, this program's alone where no other runs on it."""
    if not torch.cuda.is_available():
        return NONE
    free, total = torch.cuda.mem_get_info()
    return int(total - free)


def process() -> int | None:
    """This process's memory by NVML, None where it cannot tell."""
    try:
        import pynvml

        pynvml.nvmlInit()
        card = pynvml.nvmlDeviceGetHandleByIndex(0)
        for one in pynvml.nvmlDeviceGetComputeRunningProcesses(card):
            if one.pid == os.getpid() and one.usedGpuMemory:
                return int(one.usedGpuMemory)
    except Exception:  # no NVML, or not in this container
        return None
    return None
