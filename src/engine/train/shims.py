"""What XTuner 0.2.0 misses in today's libraries, put back before it starts.

Each function names the failure or the delay it prevents. They change the trainer's
own process only, and do nothing where a library does not need them.
"""

from __future__ import annotations

import functools
import multiprocessing
import time
from types import ModuleType
from typing import Any

from engine.train.imports import when_imported
from engine.worker.model_code import cache_max_length


def apply() -> None:
    """Apply every shim; call it once, before xtuner is imported."""
    load_own_checkpoints()
    cache_max_length()
    deepspeed_without_onebit()
    deepspeed_without_compiler()
    train_on_cpu()
    lay_config_out_once()
    go_on_to_next_epoch()


def load_own_checkpoints() -> None:
    """Let ``--resume`` read a checkpoint of the user's own.

    xtuner and mmengine call torch.load without `weights_only`; their
    checkpoints hold HistoryBuffer, numpy and ConfigDict objects, which torch
    >= 2.6 refuses by default ("Weights only load failed"). A pickle can run
    code: this is right for the checkpoint that the user chose to go on from,
    and the model's own weights are read as safetensors.
    """
    import torch

    original = torch.load

    @functools.wraps(original)
    def load(*args: Any, weights_only: bool | None = None, **options: Any) -> Any:
        return original(*args, weights_only=bool(weights_only), **options)

    torch.load = load


def deepspeed_without_onebit() -> None:
    """Let mmengine start DeepSpeed >= 0.19.7, which has no 1-bit optimizers.

    mmengine registers those by name whenever DeepSpeed is used ("No module
    named deepspeed.runtime.fp16.onebit"). XTuner's configs name none of them.
    """
    import mmengine._strategy.deepspeed as strategy

    strategy.register_deepspeed_optimizers = lambda: []


def deepspeed_without_compiler() -> None:
    """Let DeepSpeed start on a CPU without compiling C++ for half a minute.

    What it builds there sums over processes in inference; training's sums are torch's.
    Where it has none, DeepSpeed takes torch's everywhere.
    """

    def change(module: ModuleType) -> None:
        name = "build_shm_op"
        if hasattr(module, name):
            setattr(module, name, lambda: None)

    when_imported("deepspeed.comm.torch", change)


def train_on_cpu() -> None:
    """Answer what xtuner and mmengine ask of a GPU where there is none.

    xtuner asks torch.cpu for ``is_bf16_supported`` (not there), mmengine calls
    ``torch.cuda.set_device`` before DeepSpeed starts, and names a device for
    each of several processes, which torch refuses for a model on the CPU.
    """
    import torch
    from torch.nn.parallel import DistributedDataParallel

    if torch.cuda.is_available():
        return
    if not hasattr(torch.cpu, "is_bf16_supported"):
        torch.cpu.is_bf16_supported = lambda *args, **options: True
    torch.cuda.set_device = lambda *args, **options: None
    make = DistributedDataParallel.__init__

    @functools.wraps(make)
    def on_cpu(self: Any, module: Any, device_ids: Any = None, *args: Any, **options: Any) -> None:
        make(self, module, None, *args, **options)

    DistributedDataParallel.__init__ = on_cpu


def lay_config_out_once() -> None:
    """Let yapf lay the config's text out once: mmengine has it done seven times a run."""
    from mmengine.config import config

    lay_out = config.FormatCode
    done: dict[tuple[str, str], Any] = {}

    @functools.wraps(lay_out)
    def once(text: str, **options: Any) -> Any:
        key = (text, repr(options))
        if key not in done:
            done[key] = lay_out(text, **options)
        return done[key]

    config.FormatCode = once


def go_on_to_next_epoch() -> None:
    """Spare the two seconds that mmengine sleeps between epochs where nothing needs them.

    They are there for processes that load data, which may still be ending. XTuner's
    configs have none by default: then this process has no child.
    """
    from mmengine.runner import loops

    class Clock:
        """The module ``time``, as far as that module uses it."""

        def sleep(self, seconds: float) -> None:
            """Sleep if there are processes to wait for."""
            if multiprocessing.active_children():
                time.sleep(seconds)

        def __getattr__(self, name: str) -> Any:
            return getattr(time, name)

    loops.time = Clock()
