"""Figures of the machine that stand still until they have moved by more than noise.

No machine is at rest: its load goes up and down by some percent at each look.
In the line above the panes that would be a redraw a second, all night.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from engine.machine.gpu import Gpu
    from tui.watch import Sight

_LOOKS = 10
"""Looks over which the processor's load is averaged."""
_PERCENT = 10
_DEGREES = 2
_HOST_MEMORY, _GPU_MEMORY = 0.05, 0.01
"""Shares of the whole: of a GPU's memory one wants to know more exactly what is left."""


class Steady:
    """What of a `Sight` is shown in a line: figures that have not moved are the last ones."""

    def __init__(self) -> None:
        self._held: dict[str, float] = {}
        self._load: deque[float] = deque(maxlen=_LOOKS)

    def of(self, sight: Sight) -> Sight:
        """The sight with held figures; call it once for each look."""
        host = sight.host
        if self._load or host.cpu:  # the first reading has nothing to count from
            self._load.append(host.cpu)
        load = sum(self._load) / max(len(self._load), 1)
        memory = self._hold("memory", host.memory_used, _HOST_MEMORY * host.memory_total)
        still = msgspec.structs.replace(
            host, cpu=self._hold("load", load, _PERCENT), memory_used=int(memory)
        )
        gpus = msgspec.structs.replace(sight.gpus, gpus=[self._gpu(one) for one in sight.gpus.gpus])
        return replace(sight, host=still, gpus=gpus)

    def _gpu(self, one: Gpu) -> Gpu:
        def hold(name: str, value: int | None, step: float) -> int | None:
            return None if value is None else int(self._hold(f"{one.id} {name}", value, step))

        return msgspec.structs.replace(
            one,
            used=hold("memory", one.used, _GPU_MEMORY * one.total),
            util=hold("util", one.util, _PERCENT),
            temperature=hold("temperature", one.temperature, _DEGREES),
        )

    def _hold(self, name: str, value: float, step: float) -> float:
        """`value`, unless the one held is less than `step` away; nothing is always told as such."""
        held = self._held.get(name)
        if held is None or abs(value - held) >= step or (not value and held):
            self._held[name] = held = value
        return held
