"""What the ranks of a run tell each other at the end of each step, in one exchange.

Needs torch alone, so that it can be tried out without XTuner.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import distributed

FILE = "stop"
"""In the run's folder: end, please."""


class Told(NamedTuple):
    """What all ranks know then; the same for each of them."""

    stop: bool
    """Whether the run is to end, saved, after this step."""
    tokens: int
    """Those of this step, over all ranks."""


def exchange(folder: Path, device: torch.device, tokens: int = 0) -> Told:
    """Tell the others how many `tokens` this rank had; learn theirs, and whether to stop.

    Only the first rank looks for the stop file, or on a network disk some would see it a step
    later than others, and wait for ever. `device` is one that the group's backend can send from.
    """
    if not distributed.is_initialized() or distributed.get_world_size() == 1:
        return Told((folder / FILE).exists(), tokens)
    stop = distributed.get_rank() == 0 and (folder / FILE).exists()
    sums = torch.tensor([stop, tokens], dtype=torch.int64, device=device)
    distributed.all_reduce(sums)
    stops, every = sums.tolist()
    return Told(stops > 0, every)
