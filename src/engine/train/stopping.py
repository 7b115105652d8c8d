"""Whether the trainer is to end: what its ranks agree on after each step.

Needs torch alone, so that it can be tried out without XTuner.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import distributed

FILE = "stop"
"""In the run's folder: end, please."""


def wanted(folder: Path, device: torch.device) -> bool:
    """Whether the first rank sees the stop file; all ranks get the same answer.

    Only one looks, or on a network disk some would see it a step later than others, and wait
    for ever. `device` is one that the group's backend can send from.
    """
    if not distributed.is_initialized() or distributed.get_world_size() == 1:
        return (folder / FILE).exists()
    first = distributed.get_rank() == 0
    answer = torch.tensor([int(first and (folder / FILE).exists())], device=device)
    distributed.broadcast(answer, src=0)
    return bool(answer.item())
