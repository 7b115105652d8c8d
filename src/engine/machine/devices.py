"""Which cards and MIG instances a list means that is written as ``CUDA_VISIBLE_DEVICES`` is.

`engine.machine.gpu` brings pynvml, and asks what is found here.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

from engine.i18n import _

GpuId = int | str
"""What a GPU is called: the driver's number, or ``"0:1"`` for the MIG instance 1 of card 0."""


@dataclass(frozen=True)
class Device:
    """A card, or an instance of it, to be asked."""

    index: int
    instance: int | None
    handle: Any
    card: Any
    """The handle of the card: what NVML does not tell of an instance."""

    @property
    def id(self) -> GpuId:
        """What it is called."""
        return self.index if self.instance is None else f"{self.index}:{self.instance}"


class Cards:
    """The cards that the driver knows, looked at as far as they are asked for.

    `notes` gets a sentence for each that cannot be used.
    """

    def __init__(self, pynvml: Any, notes: list[str]) -> None:
        self._nvml = pynvml
        self._notes = notes
        self.count = pynvml.nvmlDeviceGetCount()
        self._known: dict[int, list[Device]] = {}

    def chosen(self, visible: str) -> list[Device]:
        """Those of a list as `read` takes it, up to the first that is not there, as CUDA does."""
        if visible == "all":
            return [one for index in range(self.count) for one in self._of(index)]
        found: list[Device] = []
        for part in visible.split(","):
            noted = len(self._notes)
            one = self._named(part.strip())
            if one is None and len(self._notes) == noted:
                break
            if one is None:
                continue  # it is there, and cannot be used
            if one in found:
                twice = _("GPU {index} is named twice: CUDA shows none then.")
                self._notes.append(twice.format(index=one.id))
                return []
            found.append(one)
        return found

    def _of(self, index: int) -> list[Device]:
        """A card, or its instances where it is divided; none of one that cannot be used."""
        if index in self._known:
            return self._known[index]
        self._known[index] = []
        try:
            card = self._nvml.nvmlDeviceGetHandleByIndex(index)
        except self._nvml.NVMLError as error:
            self._notes.append(silent(index, error))
            return []
        if not self._is_divided(card):
            self._known[index] = [Device(index, None, card, card)]
            return self._known[index]
        for number in range(ask(self._nvml, card, "nvmlDeviceGetMaxMigDeviceCount") or 0):
            # The numbers may have gaps, and an instance may be another user's.
            with contextlib.suppress(self._nvml.NVMLError):
                handle = self._nvml.nvmlDeviceGetMigDeviceHandleByIndex(card, number)
                self._known[index].append(Device(index, number, handle, card))
        if not self._known[index]:
            self._notes.append(
                _("GPU {index} is divided (MIG), and there is no instance to use.").format(
                    index=index
                )
            )
        return self._known[index]

    def _is_divided(self, card: Any) -> bool:
        modes = ask(self._nvml, card, "nvmlDeviceGetMigMode")  # as it is now, as it is to be
        return modes is not None and bool(modes[0] == self._nvml.NVML_DEVICE_MIG_ENABLE)

    def _named(self, name: str) -> Device | None:
        number, colon, instance = name.partition(":")
        if number.isdecimal() and int(number) < self.count and (not colon or instance.isdecimal()):
            of_card = self._of(int(number))
            if not colon:
                return next(iter(of_card), None)  # of a divided one CUDA takes the first
            return next((one for one in of_card if one.instance == int(instance)), None)
        if not name.startswith(("GPU-", "MIG-")):
            return None
        every = [one for index in range(self.count) for one in self._of(index)]
        found = {one.id: one for one in every if self._is_called(one, name)}
        cards = {one.index for one in found.values()}
        if len(found) > 1 and (name.startswith("MIG-") or len(cards) > 1):
            return None  # a beginning that several have
        return next(iter(found.values()), None)

    def _is_called(self, one: Device, name: str) -> bool:
        card = self._uuid(one.card)
        if name.startswith("GPU-") or one.instance is None:
            return bool(card) and card.startswith(name)
        place = [
            ask(self._nvml, one.handle, f"nvmlDeviceGet{part}InstanceId")
            for part in ("Gpu", "Compute")
        ]
        old = f"MIG-{card}/{place[0]}/{place[1]}"  # as drivers before 470 write it
        return name == old or self._uuid(one.handle).startswith(name)

    def _uuid(self, handle: Any) -> str:
        return text(ask(self._nvml, handle, "nvmlDeviceGetUUID") or "")


def silent(index: GpuId, error: Exception) -> str:
    """That a card does not answer, for a person."""
    return _("GPU {index} does not answer: {error}").format(index=index, error=error)


def ask(pynvml: Any, handle: Any, name: str, *arguments: Any) -> Any:
    """What NVML answers; None for what this card, driver or user is not given."""
    try:
        return getattr(pynvml, name)(handle, *arguments)
    except (pynvml.NVMLError, pynvml.NVMLLibraryMismatchError, AttributeError):
        return None


def text(value: Any) -> str:
    """What NVML said: old versions of pynvml give bytes."""
    return value.decode() if isinstance(value, bytes) else str(value)
