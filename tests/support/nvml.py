"""A stand-in for the driver's library, libnvidia-ml: as many GPUs as a test wants.

pynvml itself is the real one, with its error classes, its constants and the ways
in which it calls an old library: only what it would load is ours. A test says
what the driver would answer:

    def test_something(nvml: Nvml) -> None:
        nvml.set(Card(used=5 * GB, util=98), Card(errors={"nvmlDeviceGetName": "GPU_IS_LOST"}))

and the test's own process, and each Python that it starts, sees just these GPUs
until they are set anew. Functions are named as C has them (``nvmlDeviceGetCount_v2``).
"""

from __future__ import annotations

import ctypes
import os
import secrets
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

GB = 1_000_000_000
LOST = dict.fromkeys(
    ("nvmlDeviceGetMemoryInfo", "nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetPowerState"),
    "GPU_IS_LOST",
)
"""What a card answers that fell off the bus, as `Card.errors`."""
ANSWERS = "TUNEDECK_TESTS_NVML"
"""The variable that names the file of answers, for the processes that a test starts."""
_MACHINE = "TUNEDECK_TESTS_MACHINE"
if ANSWERS not in os.environ:  # no process that a test started
    os.environ[_MACHINE] = secrets.token_hex(2)
"""No two machines have a GPU with the same UUID, and all tests at work at once run on one."""
_SHADOW = Path(__file__).parent / "nvml_path"


class Process(msgspec.Struct, frozen=True):
    """A process on a GPU. `memory` None: the driver does not tell (containers, WSL)."""

    pid: int
    memory: int | None = GB


class Instance(msgspec.Struct, frozen=True):
    """A MIG instance of a card: its memory and its processes are its own."""

    profile: str = "1g.10gb"
    total: int = 10 * GB
    used: int = 0
    processes: list[Process] = []
    uuid: str = ""
    """"": made from its place."""
    errors: dict[str, str] = {}


class Card(msgspec.Struct, frozen=True):
    """One GPU. None: the card does not offer it, and NVML says NOT_SUPPORTED."""

    name: str = "NVIDIA H100 80GB HBM3"
    total: int = 80 * GB
    used: int = 0
    reserved: int = 600_000_000
    """Bytes that the driver keeps for itself: only version 2 of the memory's state knows them."""
    util: int | None = 0
    temperature: int | None = 30
    power: float | None = 70.0
    processes: list[Process] | None = []
    capability: tuple[int, int] | None = (9, 0)
    throttled: int = 0
    """NVML's bits for why its clocks are low."""
    ecc: int | None = 0
    uuid: str = ""
    """"": made from its place."""
    mig: bool | None = None
    """Whether MIG is on; None for a card that does not know it."""
    instances: list[Instance] = []
    hole: bool = False
    """The first MIG number is not taken: NVML's numbers need not be without gaps."""
    errors: dict[str, str] = {}
    """What a function answers for this card: ``{"nvmlDeviceGetName": "GPU_IS_LOST"}``."""


class Driver(msgspec.Struct, frozen=True):
    """All that the library knows. `errors` are those of every card."""

    cards: list[Card] = []
    version: str = "570.86.15"
    errors: dict[str, str] = {}


class Nvml:
    """The library that pynvml finds, here and in what is started from here.

    `looks`: how often this process asked for the number of cards, which each look begins with.
    """

    looks = 0

    def __init__(self, file: Path) -> None:
        self._file = file

    def set(self, *cards: Card, version: str = "570.86.15", **errors: str) -> None:
        """From now on these GPUs are there; `errors` by function, for all of them.

        Without any card and error it is a machine whose driver sees no GPU.
        """
        part = self._file.with_suffix(".part")
        part.write_bytes(msgspec.json.encode(Driver(list(cards), version, errors)))
        part.replace(self._file)

    def absent(self) -> None:
        """No library, for a process that has not loaded it yet: a machine without a driver."""
        self.set(nvmlInitWithFlags="LIBRARY_NOT_FOUND")


@contextmanager
def standing_in(file: Path) -> Iterator[Nvml]:
    """The library for this process and its children, its answers in `file`; no GPU at first."""
    import pynvml

    told = Nvml(file)
    told.set()
    values = os.environ
    before = {name: values.get(name) for name in (ANSWERS, "PYTHONPATH", "CUDA_VISIBLE_DEVICES")}
    values[ANSWERS] = str(file)
    values["PYTHONPATH"] = os.pathsep.join(filter(None, (str(_SHADOW), before["PYTHONPATH"])))
    values.pop("CUDA_VISIBLE_DEVICES", None)
    real = pynvml.nvmlLib
    install(pynvml, file, told)
    try:
        yield told
    finally:
        pynvml.nvmlLib = real
        pynvml._nvmlGetFunctionPointer_cache.clear()
        for name, value in before.items():
            values.pop(name, None)
            if value is not None:
                values[name] = value


def install(pynvml: types.ModuleType, file: Path, counter: Nvml | None = None) -> None:
    """Have `pynvml` call a library that answers from `file`."""
    pynvml._nvmlGetFunctionPointer_cache.clear()
    pynvml.nvmlLib = _Library(pynvml, file, counter or Nvml(file))


class _Library:
    """What ``ctypes.CDLL("libnvidia-ml.so.1")`` would be: C functions by name."""

    def __init__(self, pynvml: Any, file: Path, counter: Nvml) -> None:
        self._nvml = pynvml
        self._counter = counter
        self._file = file
        self._seen: tuple[int, int, int] | None = None
        self._driver = Driver()
        self._uses = 0

    def __getattr__(self, name: str) -> Callable[..., int]:
        answer = getattr(_Answers, name, None)
        if answer is None:
            raise AttributeError(name)  # as for a symbol that a library does not have
        return partial(self._call, name, answer)

    def _call(self, name: str, answer: Callable[..., Any], *arguments: Any) -> Any:
        driver = self.state()
        self._counter.looks += name == "nvmlDeviceGetCount_v2"
        if name == "nvmlErrorString":
            return b"an error of a later driver"
        if error := driver.errors.get(name):
            return self.code(error)
        if name == "nvmlInitWithFlags":
            self._uses += 1
            return 0
        if not self._uses:
            return self.code("UNINITIALIZED")
        if name == "nvmlShutdown":
            self._uses -= 1
            return 0
        try:
            answer(_Answers(self, driver), name, *arguments)
        except _Says as said:
            return self.code(str(said))
        return 0

    def code(self, name: str) -> int:
        """The number of an error; a number stands for itself."""
        return int(name) if name.isdigit() else int(getattr(self._nvml, f"NVML_ERROR_{name}"))

    def state(self) -> Driver:
        """What the file says now."""
        found = self._file.stat()
        stamp = (found.st_mtime_ns, found.st_ino, found.st_size)
        if stamp != self._seen:
            self._driver = msgspec.json.decode(self._file.read_bytes(), type=Driver)
            self._seen = stamp
        return self._driver


class _Says(Exception):
    """An error that a function answers."""


_Handle = tuple[Card, Instance | None, int, int]
"""A card, the instance of it that is meant, their numbers."""


class _Answers:
    """The functions, each with the arguments that C's has; results go where they point."""

    def __init__(self, library: _Library, driver: Driver) -> None:
        self._driver = driver
        self._library = library

    # Of the library

    def nvmlInitWithFlags(self) -> None: ...

    def nvmlShutdown(self) -> None: ...

    def nvmlErrorString(self) -> None: ...

    def nvmlSystemGetDriverVersion(self, _name: str, out: Any, _size: Any) -> None:
        out.value = self._driver.version.encode()

    def nvmlDeviceGetCount_v2(self, _name: str, out: Any) -> None:
        out._obj.value = len(self._driver.cards)

    # Handles

    def nvmlDeviceGetHandleByIndex_v2(self, name: str, index: Any, out: Any) -> None:
        if index.value >= len(self._driver.cards):
            raise _Says("INVALID_ARGUMENT")
        self._hand_out(out, index.value, None)
        self._refuse(name, self._driver.cards[index.value].errors)

    def nvmlDeviceGetHandleByUUID(self, _name: str, uuid: Any, out: Any) -> None:
        wanted = uuid.value.decode()
        for at, card in enumerate(self._driver.cards):
            if card_uuid(card, at) == wanted:
                return self._hand_out(out, at, None)
            for number, one in enumerate(card.instances):
                if instance_uuid(one, at, number) == wanted:
                    return self._hand_out(out, at, number)
        raise _Says("NOT_FOUND")

    def nvmlDeviceGetMigDeviceHandleByIndex(
        self, name: str, handle: Any, index: Any, out: Any
    ) -> None:
        card, _instance, at, _number = self._device(name, handle)
        number = index.value - card.hole
        if not card.mig or not 0 <= number < len(card.instances):
            raise _Says("NOT_FOUND" if card.mig else "NOT_SUPPORTED")
        self._hand_out(out, at, number)

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(
        self, name: str, handle: Any, out: Any
    ) -> None:
        self._hand_out(out, self._device(name, handle)[2], None)

    def _hand_out(self, out: Any, at: int, number: int | None) -> None:
        # A handle is a pointer that nobody follows: the numbers are in it.
        value = (at + 1) << 8 | (0 if number is None else number + 1)
        ctypes.c_void_p.from_buffer(out._obj).value = value

    def _device(self, name: str, handle: Any) -> _Handle:
        value = ctypes.cast(handle, ctypes.c_void_p).value or 0
        at, number = (value >> 8) - 1, (value & 0xFF) - 1
        if not 0 <= at < len(self._driver.cards):
            raise _Says("INVALID_ARGUMENT")
        card = self._driver.cards[at]
        if number < 0:
            self._refuse(name, card.errors)
            return card, None, at, number
        if number >= len(card.instances):
            raise _Says("INVALID_ARGUMENT")  # it was taken apart
        self._refuse(name, card.instances[number].errors)
        return card, card.instances[number], at, number

    @staticmethod
    def _refuse(name: str, errors: dict[str, str]) -> None:
        if name in errors:
            raise _Says(errors[name])

    def _whole(self, name: str, handle: Any) -> Card:
        """The card, for what NVML does not tell of an instance."""
        card, instance, _at, _number = self._device(name, handle)
        if instance is not None:
            raise _Says("NOT_SUPPORTED")
        return card

    # What a device is

    def nvmlDeviceGetName(self, name: str, handle: Any, out: Any, _size: Any) -> None:
        card, instance, _at, _number = self._device(name, handle)
        said = card.name if instance is None else f"{card.name} MIG {instance.profile}"
        out.value = said.encode()

    def nvmlDeviceGetUUID(self, name: str, handle: Any, out: Any, _size: Any) -> None:
        card, instance, at, number = self._device(name, handle)
        said = card_uuid(card, at) if instance is None else instance_uuid(instance, at, number)
        out.value = said.encode()

    def nvmlDeviceGetCudaComputeCapability(
        self, name: str, handle: Any, major: Any, minor: Any
    ) -> None:
        card = self._device(name, handle)[0]
        major._obj.value, minor._obj.value = _offered(card.capability)

    def nvmlDeviceIsMigDeviceHandle(self, name: str, handle: Any, out: Any) -> None:
        out._obj.value = self._device(name, handle)[1] is not None

    def nvmlDeviceGetMigMode(self, name: str, handle: Any, now: Any, pending: Any) -> None:
        now._obj.value = pending._obj.value = int(_offered(self._whole(name, handle).mig))

    def nvmlDeviceGetMaxMigDeviceCount(self, name: str, handle: Any, out: Any) -> None:
        out._obj.value = 0 if self._whole(name, handle).mig is None else 7

    def nvmlDeviceGetGpuInstanceId(self, name: str, handle: Any, out: Any) -> None:
        _card, instance, _at, number = self._device(name, handle)
        if instance is None:
            raise _Says("NOT_SUPPORTED")
        out._obj.value = number + 7  # numbers as a card gives them: not from 0

    def nvmlDeviceGetComputeInstanceId(self, name: str, handle: Any, out: Any) -> None:
        if self._device(name, handle)[1] is None:
            raise _Says("NOT_SUPPORTED")
        out._obj.value = 0

    # How it is

    def nvmlDeviceGetMemoryInfo(self, name: str, handle: Any, out: Any) -> None:
        card, instance, _at, _number = self._device(name, handle)
        held = card.reserved if instance is None else 0
        self._memory(card if instance is None else instance, held, out._obj)

    def nvmlDeviceGetMemoryInfo_v2(self, name: str, handle: Any, out: Any) -> None:
        card, instance, _at, _number = self._device(name, handle)
        self._memory(card if instance is None else instance, 0, out._obj)
        out._obj.reserved = card.reserved if instance is None else 0

    @staticmethod
    def _memory(one: Card | Instance, held: int, out: Any) -> None:
        out.total, out.used = one.total, one.used + held
        out.free = one.total - out.used

    def nvmlDeviceGetUtilizationRates(self, name: str, handle: Any, out: Any) -> None:
        card = self._whole(name, handle)
        if card.mig:
            raise _Says("NOT_SUPPORTED")
        out._obj.gpu = _offered(card.util)

    def nvmlDeviceGetTemperature(self, name: str, handle: Any, _sensor: Any, out: Any) -> None:
        out._obj.value = _offered(self._whole(name, handle).temperature)

    def nvmlDeviceGetPowerUsage(self, name: str, handle: Any, out: Any) -> None:
        out._obj.value = int(_offered(self._whole(name, handle).power) * 1000)

    def nvmlDeviceGetPowerState(self, name: str, handle: Any, out: Any) -> None:
        self._whole(name, handle)
        out._obj.value = 0

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, name: str, handle: Any, out: Any) -> None:
        out._obj.value = self._whole(name, handle).throttled

    def nvmlDeviceGetTotalEccErrors(
        self, name: str, handle: Any, _kind: Any, _counter: Any, out: Any
    ) -> None:
        out._obj.value = _offered(self._whole(name, handle).ecc)

    def nvmlDeviceGetComputeRunningProcesses_v3(
        self, name: str, handle: Any, count: Any, out: Any
    ) -> None:
        card, instance, _at, _number = self._device(name, handle)
        if instance is not None:
            there = instance.processes
        elif card.processes is None:
            raise _Says("NO_PERMISSION")
        else:
            there = card.processes + [one for part in card.instances for one in part.processes]
        room, count._obj.value = count._obj.value, len(there)
        if room < len(there):
            raise _Says("INSUFFICIENT_SIZE")
        for place, one in zip(out or (), there, strict=False):
            place.pid = one.pid
            place.usedGpuMemory = 2**64 - 1 if one.memory is None else one.memory

    nvmlDeviceGetComputeRunningProcesses_v2 = nvmlDeviceGetComputeRunningProcesses_v3


def _offered(value: Any) -> Any:
    if value is None:
        raise _Says("NOT_SUPPORTED")
    return value


def card_uuid(card: Card, at: int) -> str:
    """The UUID of the card with this number."""
    return card.uuid or f"GPU-{at:08x}-{os.environ[_MACHINE]}-2222-3333-444444444444"


def instance_uuid(instance: Instance, at: int, number: int) -> str:
    """The UUID of the instance with this number of that card."""
    return (
        instance.uuid or f"MIG-{at:04x}{number:04x}-{os.environ[_MACHINE]}-6666-7777-888888888888"
    )
