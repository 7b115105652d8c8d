"""Activations: kept for the backward pass, or computed twice (activation checkpointing).

Kept they are faster and take more memory. Who suggests one or the other, in either
direction, asks here what it would take and what counts as room.
"""

from __future__ import annotations

import msgspec

from engine.config.memory import estimate
from engine.config.memory.parts import Training
from engine.config.memory.sizes import Shape

SETTING = "model.use_activation_checkpointing"
"""True computes them twice."""
MARGIN = 0.95
"""Of the memory that there is: what a suggestion may fill."""


def need(plan: Training, model: Shape, *, twice: bool) -> int:
    """Bytes that `plan` takes of each GPU, with activations kept or computed `twice`."""
    changed = msgspec.structs.replace(plan, checkpointing=twice)
    return estimate.of(changed, model).gpu_bytes
