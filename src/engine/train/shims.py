"""What XTuner 0.2.0 misses in today's libraries, put back before it starts.

Each function names the failure it prevents. They change the trainer's own
process only, and do nothing where a library does not need them.
"""

from __future__ import annotations

import functools
import importlib
from typing import Any

from engine.worker.model_code import cache_max_length


def apply() -> None:
    """Apply every shim; call it once, before xtuner is imported."""
    compile_when_called()
    load_own_checkpoints()
    cache_max_length()
    deepspeed_without_onebit()
    train_on_cpu()


def compile_when_called() -> None:
    """Import bitsandbytes without torch's compiler: an eighth of a trainer's start.

    It hands four functions to ``torch.compile`` while it is imported, which
    imports inductor for a run that may call none of them. They are compiled at
    their first call instead.
    """
    import torch

    compile_now = torch.compile

    def compile_later(model: Any = None, **options: Any) -> Any:
        if model is None:
            return functools.partial(compile_later, **options)
        compiled = functools.cache(lambda: compile_now(model, **options))

        @functools.wraps(model)
        def call(*args: Any, **words: Any) -> Any:
            return compiled()(*args, **words)

        return call

    torch.compile = compile_later
    try:
        importlib.import_module("bitsandbytes")
    except ImportError:
        pass  # full fine-tuning and LoRA need none
    finally:
        torch.compile = compile_now


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


def train_on_cpu() -> None:
    """Answer what xtuner and mmengine ask of a GPU where there is none.

    xtuner asks torch.cpu for ``is_bf16_supported`` (not there), mmengine calls
    ``torch.cuda.set_device`` before DeepSpeed starts.
    """
    import torch

    if torch.cuda.is_available():
        return
    if not hasattr(torch.cpu, "is_bf16_supported"):
        torch.cpu.is_bf16_supported = lambda *args, **options: True
    torch.cuda.set_device = lambda *args, **options: None
