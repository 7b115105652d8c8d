"""How much GPU memory and disk a training takes, from the model's own config.json.

What a step holds is counted by `memory_parts`; here the config is read, and
what CUDA itself needs and measured runs of one's own are added. Bytes.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from engine.config import attention
from engine.config.checks import model as check_model
from engine.config.checks.loaded import Loaded
from engine.config.memory import parts as memory_parts
from engine.config.memory import zero as memory_zero
from engine.config.memory.parts import Training
from engine.config.memory.sizes import Shape, shape
from engine.hub import cache

__all__ = ["Estimate", "Measured", "Shape", "disk", "memory", "of", "place", "shape", "trainable"]

CHECKPOINT = 12
"""Bytes per trainable parameter in a checkpoint: weight and AdamW's two moments."""
ROUNDED = 2
"""And once more in 16 bits, as the model ran, where DeepSpeed's stage 1 or 2 saves it."""
CONTEXT = 815_000_000
"""CUDA's context with the kernels that a training loads, as an H100 has it."""
COMMUNICATION = 600_000_000
"""What NCCL takes for itself."""
_LARGEST_CORRECTION = 1.3
"""Runs of one's own that differ more were not of the kind that is estimated."""


class Estimate(msgspec.Struct, frozen=True):
    """What a training needs on each GPU; ``parts`` add up to ``gpu_bytes``."""

    gpu_bytes: int
    """What must be free: tensors, the allocator's room around them, CUDA itself."""
    parts: dict[str, int]
    """weights, adapter, gradients, optimizer, logits, activations, attention, buffers,
    correction (by one's own runs; may be negative), overhead."""
    allocated_bytes: int = 0
    """Of these, tensors at their peak: what XTuner logs as ``memory``."""
    moment: str = ""
    """When it peaks: loss, backward or optimizer."""


class Measured(msgspec.Struct, frozen=True):
    """A run of one's own, as it was estimated and as it was."""

    estimated: int
    """`Estimate.allocated_bytes` of its config, uncorrected."""
    peak: int
    """The largest ``memory`` that it logged, in bytes."""


def place(config: Loaded) -> Path | None:
    """The folder with the base model's config.json: its own, or the hub client's cache."""
    folder = check_model.folder(config)
    return cache.model(check_model.name(config)[0]) if folder is None else folder


def trainable(config: Loaded, model: Shape) -> int:
    """Parameters that this config trains."""
    lora = config.get("model.lora")
    if not isinstance(lora, Mapping):
        return model.parameters
    return model.adapter(int(config.number("model.lora.r", 8)), output=model.adapts_head)


def memory(
    config: Loaded,
    model: Shape,
    *,
    tokens: int,
    zero: int = 0,
    processes: int = 1,
    deepspeed: Mapping[str, Any] | None = None,
    measured: Iterable[Measured] = (),
) -> Estimate:
    """The memory of one GPU.

    Args:
        tokens: in one micro-batch, padding included.
        zero: DeepSpeed's stage, 0 for none.
        processes: GPUs among which ZeRO shares its part.
        deepspeed: the values of its file, for what it moves to the host.
        measured: runs of one's own of the same model, by the same method.
    """
    plan = training(
        config,
        kind=model.kind,
        tokens=tokens,
        zero=zero,
        processes=processes,
        deepspeed=deepspeed,
    )
    return of(plan, model, measured)


def of(plan: Training, model: Shape, measured: Iterable[Measured] = ()) -> Estimate:
    """The memory of one GPU for `plan`, corrected by `measured` runs."""
    held = memory_parts.peak(plan, model)
    factor = _correction(measured)
    parts = dict(held.parts)
    parts["correction"] = int(held.total * (factor - 1))
    allocated = sum(parts.values())
    room = int(memory_parts.room(plan, model) * factor)
    parts["overhead"] = (
        room - allocated + CONTEXT + (COMMUNICATION if plan.zero.stage or plan.processes > 1 else 0)
    )
    return Estimate(sum(parts.values()), parts, allocated, held.moment)


def training(
    config: Loaded,
    *,
    kind: str,
    tokens: int,
    zero: int = 0,
    processes: int = 1,
    deepspeed: Mapping[str, Any] | None = None,
) -> Training:
    """What decides the memory, as this config has it."""
    # A sample is cut among the processes that share it, DeepSpeed's part among all of them.
    shared = max(1, int(config.number("sequence_parallel_size", 1)))
    batch = max(1, int(config.number("train_dataloader.batch_size", 1)))
    optimizer = config.name("optim_wrapper.optimizer.type").lower()
    method, computed = _method(config), attention.of(config, kind)
    return Training(
        batch=batch,
        length=max(1, math.ceil(tokens // batch / shared)),
        method=method,
        rank=int(config.number("model.lora.r", 8)),
        dropout=config.number("model.lora.lora_dropout", 0.0) > 0,
        checkpointing=config.get("model.use_activation_checkpointing", True) is not False,
        attention=computed,
        padded=batch > 1 and not _packed(config),
        double_quant=config.get(f"{_QUANTIZATION}.bnb_4bit_use_double_quant", False) is True,
        half=method == "full" and (computed == attention.FLASH or _half(config)),
        kept=method != "full" and config.get("keep_base_dtype") is True and _half(config),
        state=2.0 if "8bit" in optimizer else 8.0,
        zero=memory_zero.read(zero, deepspeed),
        processes=max(1, processes),
        accumulates=config.number("optim_wrapper.accumulative_counts", 1) > 1,
    )


_QUANTIZATION = "model.llm.quantization_config"


def _method(config: Loaded) -> str:
    if not isinstance(config.get("model.lora"), Mapping):
        return "full"
    if config.get(f"{_QUANTIZATION}.load_in_4bit") is True:
        return "qlora"
    return "lora8" if config.get(f"{_QUANTIZATION}.load_in_8bit") is True else "lora"


def _packed(config: Loaded) -> bool:
    return config.get("train_dataloader.dataset.pack_to_max_length", True) is not False


def _half(config: Loaded) -> bool:
    name = config.name("model.llm.torch_dtype").removeprefix("torch.")
    return name in ("float16", "bfloat16")


def _correction(measured: Iterable[Measured]) -> float:
    """By how much one's own runs were above (or below) their estimates, in the middle."""
    ratios = [one.peak / one.estimated for one in measured if one.estimated > 0 and one.peak > 0]
    ratios = [one for one in ratios if 1 / _LARGEST_CORRECTION < one < _LARGEST_CORRECTION]
    return statistics.median(ratios) if ratios else 1.0


def disk(config: Loaded, model: Shape, *, steps: int, folder: Path, zero: int = 0) -> int:
    """Bytes of all checkpoints that are kept, the adapter and the merged model.

    `zero`: DeepSpeed's stage. However many processes share a checkpoint, it is one.
    """
    trained = trainable(config, model)
    interval = int(config.number("default_hooks.checkpoint.interval", 0)) or max(steps, 1)
    saved = max(1, -(-steps // interval))
    kept = int(config.number("default_hooks.checkpoint.max_keep_ckpts", -1))
    count = saved if kept < 0 else min(saved, kept)
    weights = sum(
        file.stat().st_size for file in folder.glob("*") if file.suffix in (".safetensors", ".bin")
    )
    adapted = isinstance(config.get("model.lora"), Mapping)
    each = CHECKPOINT + (ROUNDED if zero in (1, 2) else 0)
    return count * each * trained + (4 * trained if adapted else 0) + weights
