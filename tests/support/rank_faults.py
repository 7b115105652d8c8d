"""What befalls one rank of a training: a hook for a config, in a module that lies beside it.

Also told there, for the tables of tests/gpu: the most memory that each rank's tensors took,
and which card it sat on.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

AFTER = {"waits": 7}
"""The step after which it befalls the rank; 3, if it is not named here."""
_HOOK = """\
import time
from pathlib import Path
import torch
from mmengine.hooks import Hook
from torch import distributed


class Rank(Hook):
    priority = "VERY_HIGH"  # before the exchange of the ranks, which has the config's time-out

    def __init__(self, rank, kind, after):
        self.rank, self.kind, self.after, self.peak = rank, kind, after, 0

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if torch.cuda.is_available():  # each line that mmengine logs begins a new peak
            self.peak = max(self.peak, torch.cuda.max_memory_allocated())
        if runner.iter + 1 != self.after:
            return
        # All of them: one that waits for another in a collective holds its GPU meanwhile.
        while self.kind == "waits" and not (Path(runner.work_dir) / "stop").exists():
            time.sleep(0.05)
        if distributed.get_rank() != self.rank:
            return
        if self.kind == "raises":
            raise ValueError("a row without an answer: 17")
        if self.kind == "memory" and torch.cuda.is_available():
            torch.empty(2 * torch.cuda.mem_get_info()[1], dtype=torch.uint8, device="cuda")
        if self.kind == "memory":  # a CPU has no such thing: the words of a GPU
            raise torch.OutOfMemoryError(
                "CUDA out of memory. Tried to allocate 12.00 GiB. GPU 1 has a total capacity of "
                "79.18 GiB of which 3.47 GiB is free."
            )
        if self.kind == "hangs":
            time.sleep(3600)

    def after_run(self, runner):
        if torch.cuda.is_available():
            card = torch.cuda.get_device_properties(torch.cuda.current_device()).uuid
            print(f"RANK {distributed.get_rank()} card {card} peak {self.peak}", flush=True)
"""


def hook(kind: str = "", rank: int = 1) -> Callable[[Path], None]:
    """Something that gives a config file the hook: `kind` befalls `rank` ("": nothing does).

    raises: an error of its own. memory: its GPU is full. hangs: it makes no further step.
    waits: all ranks go on when the run is told to stop.
    """

    def give(config: Path) -> None:
        (config.parent / "rank_hook.py").write_text(_HOOK)
        text = config.read_text()
        assert text.startswith("import torch\n")
        line = f"dict(type=Rank, rank={rank}, kind={kind!r}, after={AFTER.get(kind, 3)})"
        config.write_text(f"from rank_hook import Rank\n{text}\ncustom_hooks.append({line})\n")

    return give
