"""Whether a model fits into memory, told from file sizes before anything is loaded."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

import msgspec

from engine import text
from engine.chat import sources
from engine.chat.sources import ModelSpec
from engine.errors import Failed, Problem
from engine.i18n import _
from engine.machine import gpu
from engine.machine.devices import GpuId
from engine.machine.gpu import Gpu

_BYTES = {"fp32": 4, "float32": 4, "bf16": 2, "fp16": 2, "bfloat16": 2, "float16": 2}
ROOM = 1.1
"""What a short conversation needs beside the weights, as a factor."""
QUANTIZED = 0.2
"""The part of the weights that stays in 16 bits when a model is loaded quantized
(embeddings, output head, norms): more for small models with a big vocabulary."""
_CUDA = 700_000_000  # bytes that CUDA itself takes on a card


class Fit(msgspec.Struct, frozen=True):
    """What a model needs and what is free, in bytes.

    `where` is "GPU 0", "2 GPUs" or "memory" (the host's); `device` is what to
    tell torch. `taken`: the GPUs that were passed over because a training of
    ours runs there.
    """

    needs: int
    free: int
    where: str
    device: str
    taken: list[GpuId] = []

    @property
    def fits(self) -> bool:
        """Whether it does."""
        return self.needs <= self.free

    @property
    def words(self) -> str:
        """One sentence for a person."""
        return _("needs about {needs} of {free} free ({where})").format(
            needs=text.size(self.needs), free=text.size(self.free), where=self.where
        )


def read(spec: ModelSpec, busy: Collection[GpuId] = ()) -> Fit:
    """What `spec` will need; some milliseconds. Raises `Problem` for no model.

    Args:
        spec: the model; its `device` is where it should go.
        busy: GPUs (as the driver counts) to leave alone, unless `spec.share`.
    """
    stored = _stored_bytes(sources.config(Path(spec.model)))
    size = sum(one.stat().st_size for one in sources.weights(Path(spec.model)))
    cards = [] if spec.device == "cpu" else _cards(spec.device, busy)
    if not cards and spec.device not in ("auto", "cpu"):
        raise Problem(
            _("There is no device {device}").format(device=spec.device),
            gpu.read().reason or _("{count} GPUs can be used.").format(count=len(gpu.read().gpus)),
            _("The CPU can do it."),
            ways=("device",),
        )
    taken = [] if spec.share else [card.id for _at, card in cards if card.id in busy]
    free = {at: card.free for at, card in cards if card.id not in taken}
    if not free:
        # Where every card is taken, or named and taken, nothing is left.
        where, most = (_("memory"), _host_free()) if not cards else (_("no GPU"), 0)
        device = "cpu" if spec.device == "auto" else spec.device
        return Fit(_needs(size, stored, spec, 4), most, where, device, taken)
    needs = _needs(size, stored, spec, stored) + _CUDA
    best = max(free, key=free.__getitem__)
    if needs <= free[best] or len(free) == 1 or taken:
        return Fit(needs, free[best], f"GPU {dict(cards)[best].id}", f"cuda:{best}", taken)
    where = _("{count} GPUs").format(count=len(free))
    return Fit(needs, sum(free.values()), where, "cuda")


def require(spec: ModelSpec, busy: Collection[GpuId] = ()) -> Fit:
    """`read`, or `Failed` when it does not fit."""
    found = read(spec, busy)
    if not found.fits and found.taken:
        raise Failed(
            _("{model} would disturb a training").format(model=spec.model),
            _("It needs about {needs}; a run of yours has GPU {gpus}.").format(
                needs=text.size(found.needs), gpus=", ".join(map(str, found.taken))
            ),
            _("Wait until the run has ended."),
            ways=("device", "share-gpu"),
        )
    if not found.fits:
        raise Failed(
            _("{model} does not fit").format(model=spec.model),
            _("It {fit}.").format(fit=found.words),
            _("Free memory, or take a smaller model."),
            ways=("dtype", "bits", "device", "unload"),
        )
    return found


def _cards(device: str, busy: Collection[GpuId]) -> list[tuple[int, Gpu]]:
    """The visible GPUs that `device` allows, with torch's numbers for them."""
    if not re.fullmatch(r"auto|cuda(:\d+)?", device):
        return []
    cards = list(enumerate(gpu.for_one_process(gpu.read().gpus, busy)))
    number = device.removeprefix("cuda:") if device.startswith("cuda:") else ""
    return [one for one in cards if not number or str(one[0]) == number]


def _needs(size: int, stored: int, spec: ModelSpec, auto: int) -> int:
    weights = size / stored
    each = float(_BYTES.get(spec.dtype, auto))
    if spec.bits:
        each = QUANTIZED * 2 + (1 - QUANTIZED) * spec.bits / 8
    return int(weights * each * ROOM)


def _stored_bytes(config: dict[str, object]) -> int:
    name = str(config.get("dtype") or config.get("torch_dtype") or "float32")
    return _BYTES.get(name, 4)


def _host_free() -> int:
    import psutil

    return int(psutil.virtual_memory().available)
