"""mmengine saving a toy's checkpoints, disturbed: ``python saving_faults.py CASE FOLDER ...``.

Each pair is a case and the folder for it. One process imports torch and
mmengine (seconds), then forks for each case (milliseconds). A case's name is
``how-fault``: how is "ours" (with `engine.train.saving`) or "plain" (mmengine
as it is); the fault comes in the middle of the second checkpoint.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.fileio import LocalBackend
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from engine.train import saving


class Toy(BaseModel):
    """Two numbers that learn."""

    def __init__(self) -> None:
        super().__init__()
        self.line = torch.nn.Linear(1, 1)

    def forward(self, data: torch.Tensor, mode: str) -> dict[str, torch.Tensor]:
        return {"loss": self.line(data).square().mean()}


def runner(folder: Path) -> Any:
    """Four steps, a checkpoint each, one of them kept."""
    return Runner(
        model=Toy(),
        work_dir=str(folder),
        cfg=Config({}),
        train_dataloader=DataLoader([{"data": torch.ones(1)}] * 4, batch_size=1),
        train_cfg={"by_epoch": False, "max_iters": 4},
        optim_wrapper={"optimizer": {"type": "SGD", "lr": 0.1}},
        default_hooks={
            "checkpoint": {
                "type": "CheckpointHook",
                "by_epoch": False,
                "interval": 1,
                "max_keep_ckpts": 1,
            }
        },
        log_level="ERROR",
        experiment_name=folder.name,
    )


def at_the_second(fault: str) -> None:
    """Let the second file that mmengine writes be cut short by `fault`."""
    put, count = LocalBackend.put, 0

    def disturbed(backend: Any, content: bytes, path: str) -> None:
        nonlocal count
        count += 1
        if count != 2 or fault == "none":
            put(backend, content, path)
            return
        put(backend, content[: len(content) // 2], path)
        if fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    LocalBackend.put = disturbed


def case(name: str, folder: Path) -> None:
    """Run one case to its end in this process."""
    how, fault = name.split("-")
    if how == "ours":
        saving.install()
    at_the_second(fault)
    toy = runner(folder)
    toy.train()
    if fault == "none":
        # What a stop does after the last step: nothing new, for it is saved.
        saving.save_now(toy, 4)
        saving.save_now(toy, 5)


def main() -> None:
    """Fork for each case; one after the other."""
    words = sys.argv[1:]
    for name, folder in zip(words[::2], words[1::2], strict=True):
        child = os.fork()
        if child == 0:
            try:
                case(name, Path(folder))
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        print(name, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
