"""Whether a model fits into memory, told from file sizes before anything is loaded."""

from __future__ import annotations

from pathlib import Path

import msgspec

from engine import text
from engine.chat import sources
from engine.chat.sources import ModelSpec
from engine.errors import Failed
from engine.i18n import _
from engine.machine import gpu

_BYTES = {"fp32": 4, "float32": 4, "bf16": 2, "fp16": 2, "bfloat16": 2, "float16": 2}
ROOM = 1.1
"""What a short conversation needs beside the weights, as a factor."""
_CUDA = 700_000_000  # bytes that CUDA itself takes on a card


class Fit(msgspec.Struct, frozen=True):
    """What a model needs and what is free, in bytes.

    `where` is "GPU 0", "2 GPUs" or "memory" (the host's).
    """

    needs: int
    free: int
    where: str

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


def read(spec: ModelSpec) -> Fit:
    """What `spec` will need; some milliseconds. Raises `Problem` for no model."""
    model = Path(spec.model)
    stored = _stored_bytes(sources.config(model))
    size = sum(one.stat().st_size for one in sources.weights(model))
    cards = [] if spec.device == "cpu" else gpu.read().gpus
    if spec.device.startswith("cuda:"):
        number = spec.device.removeprefix("cuda:")
        cards = [card for at, card in enumerate(cards) if str(at) == number]
    if not cards:
        return Fit(_needs(size, stored, spec, 4), _host_free(), _("memory"))
    needs = _needs(size, stored, spec, stored) + _CUDA
    free = {card.index: card.total - card.used for card in cards}
    best = max(free, key=free.__getitem__)
    if needs <= free[best] or len(cards) == 1:
        return Fit(needs, free[best], f"GPU {best}")
    return Fit(needs, sum(free.values()), _("{count} GPUs").format(count=len(cards)))


def require(spec: ModelSpec) -> Fit:
    """`read`, or `Failed` when it does not fit."""
    found = read(spec)
    if not found.fits:
        raise Failed(
            _("{model} does not fit").format(model=spec.model),
            _("It {fit}.").format(fit=found.words),
            _("Free memory, or load it with --dtype bf16 or on another device."),
        )
    return found


def _needs(size: int, stored: int, spec: ModelSpec, auto: int) -> int:
    return int(size / stored * _BYTES.get(spec.dtype, auto) * ROOM)


def _stored_bytes(config: dict[str, object]) -> int:
    name = str(config.get("dtype") or config.get("torch_dtype") or "float32")
    return _BYTES.get(name, 4)


def _host_free() -> int:
    import psutil

    return int(psutil.virtual_memory().available)
