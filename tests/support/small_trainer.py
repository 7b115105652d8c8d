"""Stands in for XTuner under torchrun: a gloo group that makes steps until it is told to stop.

What is real are torchrun, the group and the question whether to stop; there is no model, and
its imports take a second where XTuner's take ten. ``--fault`` befalls rank 1 after a few steps.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from engine.train import ranks

STEPS = 10_000
PATIENCE = timedelta(seconds=4)
"""How long ranks wait for each other where one is to hang."""


def main(folder: Path, fault: str = "") -> None:
    """Make steps in `folder`; each takes all ranks, as a gradient does.

    fault: "raises" (rank 1, an error of its own) or "hangs" (it makes no further step).
    """
    distributed.init_process_group("gloo", timeout=PATIENCE if fault == "hangs" else None)
    facts: dict[str, Any] = {"first": 0, "steps": STEPS, "started": time.time()}
    _note(folder, facts)
    for step in range(1, STEPS + 1):
        ones = torch.ones(1)
        distributed.all_reduce(ones)
        time.sleep(0.01)
        if fault and step == 5 and distributed.get_rank() == 1:
            if fault == "raises":
                raise ValueError("a row without an answer: 17")
            time.sleep(600)
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
    given = dict(itertools.pairwise(sys.argv))
    main(Path(given["--work-dir"]), given.get("--fault", ""))
