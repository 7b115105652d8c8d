"""Several ranks on one GPU, where there are fewer GPUs than ranks.

What each rank holds and what DeepSpeed does is as on several GPUs; speed is not, as all
share the card and speak through the loopback device (``tests/gpu/one_card``).
"""

from __future__ import annotations

import os
from pathlib import Path

from engine.machine import gpu

HERE = Path(__file__).parents[1] / "tests/gpu/one_card"


def needed(ranks: int) -> bool:
    """Whether `ranks` processes have to share a GPU; not on a machine without any."""
    return 0 < len(gpu.read().gpus) < ranks


def env(ranks: int) -> dict[str, str]:
    """The environment for a torchrun of `ranks` processes."""
    found = dict(os.environ)
    path = [one for one in found.get("PYTHONPATH", "").split(os.pathsep) if one]
    path = [one for one in path if one != str(HERE)]
    found["PYTHONPATH"] = os.pathsep.join([str(HERE), *path] if needed(ranks) else path)
    return found
