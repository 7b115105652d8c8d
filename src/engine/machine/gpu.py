"""What the GPUs are doing, through NVML: the one place that knows pynvml.

No GPU is a normal case, and so are an old driver, a card that fell off the bus, and
containers in which processes cannot be seen: each is said in words, never thrown.

A card that is divided (MIG) is shown as its instances, each with memory and processes
of its own. CUDA shows a process one of them, by its UUID. (NVIDIA's MIG user guide;
its CUDA programming guide for ``CUDA_VISIBLE_DEVICES``.)
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import msgspec
import psutil

from engine.i18n import _, sentences
from engine.machine.devices import Cards, Device, GpuId, ask, silent, text


class GpuProcess(msgspec.Struct, frozen=True):
    """A process that holds memory on a GPU."""

    pid: int
    user: str
    """"" when the process belongs to another container and cannot be looked up."""
    name: str
    memory: int | None
    """Bytes, or None where the driver does not tell."""


class Gpu(msgspec.Struct, frozen=True):
    """One GPU, or one MIG instance of it, now. What the card or driver does not offer is None."""

    index: int
    """The driver's number of the card."""
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
    instance: int | None = None
    """The number of the MIG instance on its card; None for a card that is not divided."""
    uuid: str = ""
    """Of the card or instance, as nvidia-smi -L tells it."""

    @property
    def id(self) -> GpuId:
        """What it is called."""
        return self.index if self.instance is None else f"{self.index}:{self.instance}"

    @property
    def free(self) -> int:
        """Bytes that nobody uses."""
        return self.total - self.used


class Health(msgspec.Struct, frozen=True):
    """What may be wrong with one GPU. A field that the card or driver does not offer is None.

    Of a MIG instance it is what its card says.
    """

    id: GpuId
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
    notes: list[str] = []
    """In words: why cards that are there are not among `gpus`, when that is not empty."""

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


def _start_anew() -> None:
    """Initialise NVML again when it is asked next: the driver may have been loaded anew."""
    global _started
    import pynvml

    with contextlib.suppress(pynvml.NVMLError):
        pynvml.nvmlShutdown()
    _started = False


def read(visible: str | None = None) -> Gpus:
    """The state of the GPUs (about 0.5 ms a GPU; the first call some 10 ms).

    Args:
        visible: which to read, in this order, as ``CUDA_VISIBLE_DEVICES`` writes it
            ("0,2", UUIDs and their beginnings) or as `Gpu.id` does ("0:1"); None reads
            that variable, "all" reads every GPU. Unset shows every GPU as well, and
            more than CUDA would: each instance of a divided card.
    """
    import pynvml

    fence = os.environ.get("CUDA_VISIBLE_DEVICES") if visible is None else None
    wanted = fence if visible is None else visible
    notes: list[str] = []
    with _lock:
        reason = _start()
        if reason:
            return Gpus([], reason)
        try:
            cards = Cards(pynvml, notes)
            found = cards.chosen("all" if wanted is None else wanted)
            gpus = list(_read_each(pynvml, found, notes))
            driver = text(pynvml.nvmlSystemGetDriverVersion())
        except pynvml.NVMLError as error:
            _start_anew()
            return Gpus([], _("The NVIDIA driver does not answer: {error}").format(error=error))
        if not gpus and notes:
            _start_anew()
    if fence is not None and len({one.index for one in gpus}) < cards.count:
        words = (
            _("CUDA_VISIBLE_DEVICES={list} shows no other GPU.")
            if gpus
            else _("CUDA_VISIBLE_DEVICES={list} hides every GPU.")
        )
        notes.append(words.format(list=repr(fence)))
    if gpus:
        return Gpus(gpus, "", driver, notes)
    return Gpus([], sentences(*notes) or _("The NVIDIA driver sees no GPU."), driver)


def health(ids: Sequence[GpuId]) -> list[Health]:
    """How these GPUs are (some 0.1 ms each); none where NVML does not work."""
    import pynvml

    with _lock:
        return [] if _start() else [_health_of(pynvml, one) for one in ids]


def instead(seen: Gpus) -> str:
    """What there is in the place of a GPU that was asked for, in words."""
    if not seen.gpus:
        return seen.reason
    here = _("GPUs here: {list}.").format(list=", ".join(str(one.id) for one in seen.gpus))
    return sentences(here, *seen.notes)


def apart(gpus: Sequence[Gpu]) -> str:
    """Why these cannot work on one run; "" where they can."""
    if len({one.id for one in gpus}) < len(gpus):
        return _("One of them is named twice, and each trainer needs a GPU of its own.")
    if len(gpus) > 1 and any(one.instance is not None for one in gpus):
        return _("CUDA shows a process one MIG instance, and NCCL does not join several.")
    return ""


def for_one_process(gpus: Sequence[Gpu], busy: Collection[GpuId] = ()) -> list[Gpu]:
    """Those of `gpus` that one process can use, in the order in which torch numbers them.

    The cards that are not divided, if there are any. Of MIG instances CUDA shows a
    process only one: the first on which nothing of ours runs (`busy`).
    """
    whole = [one for one in gpus if one.instance is None]
    return whole or sorted(gpus, key=lambda one: one.id in busy)[:1]


def shown(gpus: Iterable[Gpu]) -> dict[str, str]:
    """The variables with which CUDA shows these GPUs, in this order.

    Without any it hides nothing: where NVML cannot be asked, CUDA may see more than we do.
    """
    names = [str(one.index) if one.instance is None else one.uuid for one in gpus]
    # NVML's order, which is not CUDA's own unless it is asked for.
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"} | (
        {"CUDA_VISIBLE_DEVICES": ",".join(names)} if names else {}
    )


def _health_of(pynvml: Any, which: GpuId) -> Health:
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(int(str(which).partition(":")[0]))
        pynvml.nvmlDeviceGetPowerState(handle)
    except (pynvml.NVMLError_GpuIsLost, pynvml.NVMLError_InvalidArgument):
        return Health(which, lost=True)  # one that fell off the bus may vanish from the count
    except pynvml.NVMLError:
        return Health(which)  # busy, or not offered: that alone says nothing

    def count(name: str, *arguments: Any) -> int | None:
        found = ask(pynvml, handle, name, *arguments)
        return None if found is None else int(found)

    reasons = count("nvmlDeviceGetCurrentClocksThrottleReasons") or 0
    heat = (
        pynvml.nvmlClocksThrottleReasonSwThermalSlowdown
        | pynvml.nvmlClocksThrottleReasonHwThermalSlowdown
    )
    ecc = (pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC)
    return Health(
        id=which,
        temperature=count("nvmlDeviceGetTemperature", pynvml.NVML_TEMPERATURE_GPU),
        too_hot=bool(reasons & heat),
        power_brake=bool(reasons & pynvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown),
        uncorrected=count("nvmlDeviceGetTotalEccErrors", *ecc),
    )


def _read_each(pynvml: Any, devices: list[Device], notes: list[str]) -> Iterator[Gpu]:
    for one in devices:
        found = _read_one(pynvml, one)
        if isinstance(found, Gpu):
            yield found
        else:
            notes.append(found)


def _read_one(pynvml: Any, device: Device) -> Gpu | str:
    """Its state, or that it does not answer: one that is lost does not take the others along."""
    memory = ask(pynvml, device.handle, "nvmlDeviceGetMemoryInfo", pynvml.nvmlMemory_v2)
    if memory is None:  # version 2, which leaves the driver's reserve out of "used", came with 510
        try:
            memory = pynvml.nvmlDeviceGetMemoryInfo(device.handle)
        except pynvml.NVMLError as error:
            return silent(device.id, error)
    rates = ask(pynvml, device.handle, "nvmlDeviceGetUtilizationRates")
    milliwatts = ask(pynvml, device.handle, "nvmlDeviceGetPowerUsage")
    running = _processes(pynvml, device.handle)
    capability = ask(pynvml, device.card, "nvmlDeviceGetCudaComputeCapability")
    return Gpu(
        index=device.index,
        name=text(ask(pynvml, device.handle, "nvmlDeviceGetName") or "GPU"),
        used=int(memory.used),
        total=int(memory.total),
        util=None if rates is None else int(rates.gpu),
        # The chip is one, whatever it is divided into; its power is nobody's alone.
        temperature=ask(
            pynvml, device.card, "nvmlDeviceGetTemperature", pynvml.NVML_TEMPERATURE_GPU
        ),
        power=None if milliwatts is None else milliwatts / 1000,
        processes=None if running is None else [_process(entry) for entry in running],
        capability=None if capability is None else (int(capability[0]), int(capability[1])),
        instance=device.instance,
        uuid=text(ask(pynvml, device.handle, "nvmlDeviceGetUUID") or ""),
    )


def _processes(pynvml: Any, handle: Any) -> list[Any] | None:
    """Who holds memory there; None where that may not be known."""
    # Drivers before 510 know version 2 only.
    for name in ("nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetComputeRunningProcesses_v2"):
        found: list[Any] | None = ask(pynvml, handle, name)
        if found is not None:
            return found
    return None


def _process(entry: Any) -> GpuProcess:
    try:
        process = psutil.Process(entry.pid)
        user, name = process.username(), process.name()
    except psutil.Error:
        user, name = "", ""
    memory = entry.usedGpuMemory
    return GpuProcess(entry.pid, user, name, None if memory is None else int(memory))
