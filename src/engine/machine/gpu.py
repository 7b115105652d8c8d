"""What the GPUs are doing, through NVML: the one place that knows pynvml.

No GPU is a normal case, and so are an old driver, MIG, and containers in which
processes cannot be seen: each is said in words, never thrown.
"""

from __future__ import annotations

import os
import threading
from typing import Any

import msgspec
import psutil

from engine.i18n import _


class GpuProcess(msgspec.Struct, frozen=True):
    """A process that holds memory on a GPU."""

    pid: int
    user: str
    """"" when the process belongs to another container and cannot be looked up."""
    name: str
    memory: int | None
    """Bytes, or None where the driver does not tell."""


class Gpu(msgspec.Struct, frozen=True):
    """One GPU now. A field that the card or driver does not offer is None."""

    index: int
    name: str
    used: int
    """Bytes in use, the driver's own reserve not counted."""
    total: int
    """Bytes."""
    util: int | None
    """Percent of the last sample period in which a kernel ran."""
    temperature: int | None
    """Degrees Celsius."""
    power: float | None
    """Watts."""
    processes: list[GpuProcess] | None
    """None where processes may not be listed."""
    capability: tuple[int, int] | None = None
    """CUDA's compute capability: what the card can do ((8, 0) and up: bfloat16)."""


class Health(msgspec.Struct, frozen=True):
    """What may be wrong with one GPU. A field that the card or driver does not offer is None."""

    index: int
    lost: bool = False
    """It does not answer any more; nothing else is known then."""
    temperature: int | None = None
    """Degrees Celsius."""
    too_hot: bool = False
    """It lowers its clocks because of heat."""
    power_brake: bool = False
    """It lowers its clocks because the power supply tells it to (its own limit is normal)."""
    uncorrected: int | None = None
    """Memory errors beyond repair (ECC) since the driver was loaded."""


class Gpus(msgspec.Struct, frozen=True):
    """All GPUs of this machine, or why there are none to see."""

    gpus: list[Gpu]
    reason: str = ""
    """In words for a person, when `gpus` is empty."""
    driver: str = ""

    @property
    def available(self) -> bool:
        """Whether at least one GPU can be read."""
        return bool(self.gpus)


_lock = threading.Lock()
_started = False


def _start() -> str:
    """Initialise NVML once; return "" or the reason why it cannot be used."""
    global _started
    if _started:
        return ""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError_LibraryNotFound:
        return _("No NVIDIA driver on this machine.")
    except pynvml.NVMLError_DriverNotLoaded:
        return _("The NVIDIA driver is installed but not loaded.")
    except pynvml.NVMLError_LibRmVersionMismatch:
        return _("The NVIDIA driver was updated: reboot, or reload its kernel module.")
    except pynvml.NVMLError_NoPermission:
        return _("No permission to ask the NVIDIA driver.")
    except pynvml.NVMLError as error:
        return _("The NVIDIA driver does not answer: {error}").format(error=error)
    _started = True
    return ""


def read(visible: str | None = None) -> Gpus:
    """The state of the GPUs (about 0.5 ms a GPU; the first call some 10 ms).

    Args:
        visible: which to read, as ``CUDA_VISIBLE_DEVICES`` writes it ("0,2");
            None reads that variable, "all" reads every GPU. Gpu.index stays
            the driver's own number.
    """
    import pynvml

    with _lock:
        reason = _start()
        if reason:
            return Gpus([], reason)
        try:
            count = pynvml.nvmlDeviceGetCount()
            chosen = _chosen(
                os.environ.get("CUDA_VISIBLE_DEVICES") if visible is None else visible, count
            )
            gpus = [_read_one(pynvml, index) for index in chosen]
            driver = _text(pynvml.nvmlSystemGetDriverVersion())
        except pynvml.NVMLError as error:
            return Gpus([], _("The NVIDIA driver does not answer: {error}").format(error=error))
    reason = (
        "" if gpus else _("No GPU is visible (CUDA_VISIBLE_DEVICES hides them, or none is there).")
    )
    return Gpus(gpus, reason, driver)


def health(indices: list[int]) -> list[Health]:
    """How the GPUs with these numbers are (some 0.1 ms each); none where NVML does not work."""
    import pynvml

    with _lock:
        return [] if _start() else [_health_of(pynvml, index) for index in indices]


def _health_of(pynvml: Any, index: int) -> Health:
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        pynvml.nvmlDeviceGetPowerState(handle)
    except (pynvml.NVMLError_GpuIsLost, pynvml.NVMLError_InvalidArgument):
        return Health(index, lost=True)  # one that fell off the bus may vanish from the count
    except pynvml.NVMLError:
        return Health(index)  # busy, or not offered: that alone says nothing

    def ask(name: str, *arguments: Any) -> int | None:
        try:
            return int(getattr(pynvml, name)(handle, *arguments))
        except (pynvml.NVMLError, AttributeError):
            return None

    reasons = ask("nvmlDeviceGetCurrentClocksThrottleReasons") or 0
    heat = (
        pynvml.nvmlClocksThrottleReasonSwThermalSlowdown
        | pynvml.nvmlClocksThrottleReasonHwThermalSlowdown
    )
    ecc = (pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC)
    return Health(
        index=index,
        temperature=ask("nvmlDeviceGetTemperature", pynvml.NVML_TEMPERATURE_GPU),
        too_hot=bool(reasons & heat),
        power_brake=bool(reasons & pynvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown),
        uncorrected=ask("nvmlDeviceGetTotalEccErrors", *ecc),
    )


def _chosen(visible: str | None, count: int) -> list[int]:
    if visible is None or visible == "all":
        return list(range(count))
    indices = []
    for part in visible.split(","):
        # CUDA stops at the first entry that it does not understand; names of
        # MIG instances and UUIDs are valid there, but carry no number for us.
        if not part.strip().isdigit() or int(part) >= count:
            break
        indices.append(int(part))
    return indices


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _read_one(pynvml: Any, index: int) -> Gpu:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)

    def ask(name: str, *arguments: Any) -> Any:
        try:
            return getattr(pynvml, name)(handle, *arguments)
        except (pynvml.NVMLError, AttributeError):
            return None

    try:
        # Version 2 leaves the driver's reserve out of "used".
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
    except (pynvml.NVMLError, AttributeError, TypeError):
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    rates = ask("nvmlDeviceGetUtilizationRates")
    milliwatts = ask("nvmlDeviceGetPowerUsage")
    running = ask("nvmlDeviceGetComputeRunningProcesses")
    capability = ask("nvmlDeviceGetCudaComputeCapability")
    return Gpu(
        index=index,
        name=_text(ask("nvmlDeviceGetName") or "GPU"),
        used=int(memory.used),
        total=int(memory.total),
        util=None if rates is None else int(rates.gpu),
        temperature=ask("nvmlDeviceGetTemperature", pynvml.NVML_TEMPERATURE_GPU),
        power=None if milliwatts is None else milliwatts / 1000,
        processes=None if running is None else [_process(entry) for entry in running],
        capability=None if capability is None else (int(capability[0]), int(capability[1])),
    )


def _process(entry: Any) -> GpuProcess:
    try:
        process = psutil.Process(entry.pid)
        user, name = process.username(), process.name()
    except psutil.Error:
        user, name = "", ""
    memory = entry.usedGpuMemory
    return GpuProcess(entry.pid, user, name, None if memory is None else int(memory))
