"""Stands in for XTuner under torchrun: a gloo group that makes steps until it is told to stop.

What is real are torchrun, the group and the question whether to stop; there is no model, and
its imports take a second where XTuner's take ten.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from engine.train import ranks

STEPS = 10_000


def main(folder: Path) -> None:
    """Make steps in `folder`; each takes all ranks, as a gradient does."""
    distributed.init_process_group("gloo")
    facts: dict[str, Any] = {"first": 0, "steps": STEPS, "started": time.time()}
    _note(folder, facts)
    for step in range(1, STEPS + 1):
        ones = torch.ones(1)
        distributed.all_reduce(ones)
        time.sleep(0.01)
        if ranks.exchange(folder, ones.device).stop:
            print(f"rank {distributed.get_rank()} of {int(ones)} stops after step {step}")
            _note(folder, facts | {"stopped": step})
            break
    distributed.destroy_process_group()


def _note(folder: Path, facts: dict[str, Any]) -> None:
    if distributed.get_rank() == 0:
        part = folder / "trainer.part"
        part.write_text(json.dumps(facts))
        part.replace(folder / "trainer.json")


if __name__ == "__main__":
    main(Path(sys.argv[sys.argv.index("--work-dir") + 1]))
