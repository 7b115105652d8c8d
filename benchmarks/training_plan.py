"""What is trained: plans, their part of a config, and the model and optimizer set up by it.

XTuner's own SupervisedFinetune (built from a config's ``llm`` and ``lora``),
mmengine's optimizer wrapper or XTuner's DeepSpeed strategy.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.optim import AdamW

import device_memory
import random_model
import ranks

SMALL = {
    "reduce_bucket_size": 2_000_000,
    "stage3_prefetch_bucket_size": 200_000,
    "stage3_max_live_parameters": 3_000_000,
    "stage3_max_reuse_distance": 3_000_000,
    "stage3_param_persistence_threshold": 1_000,
    "sub_group_size": 1_500_000,
}
"""DeepSpeed's sizes for a model that is a hundred times smaller than a real one."""


_LINEAR = torch.nn.functional.linear


@dataclass(frozen=True)
class Shape:
    """One micro-batch."""

    batch: int
    length: int
    packed: bool = True
    """False: rows of different lengths, the longest of `length` tokens, padded."""
    expected: int = 0
    """MiB that a real run of XTuner logged as ``memory``, 0 where none was made."""

    def lengths(self) -> list[int]:
        """Tokens of each row."""
        if self.packed:
            return [self.length] * self.batch
        return [self.length - self.length * row // (2 * self.batch) for row in range(self.batch)]


@dataclass(frozen=True)
class Plan:
    """One model, made once, and the micro-batches it is trained with."""

    size: str
    method: str
    """qlora, lora or full."""
    shapes: tuple[Shape, ...]
    attention: str = "sdpa"
    checkpointing: bool = True
    zero: int = 0
    offload: bool = False
    """XTuner's ``deepspeed_zeroN_offload``: the optimizer's part on the host, in ZeRO-3 all."""
    accumulation: int = 1
    """Micro-batches for one step of the optimizer."""
    dtype: str = "bfloat16"
    """Of the autocast, and of an adapter's base as the config asks for it."""
    weights: str = ""
    """Of the weights of full fine-tuning; "" is float32, as XTuner's configs have it."""
    optimizer: str = "AdamW"

    @property
    def name(self) -> str:
        """One line that tells it from the others."""
        parts = [self.size, self.method, self.attention, self.dtype]
        parts += ["checkpointing" if self.checkpointing else "no checkpointing"]
        parts += [f"ZeRO-{self.zero}{' offload' if self.offload else ''}"] if self.zero else []
        parts += [f"accumulation {self.accumulation}"] if self.accumulation > 1 else []
        parts += [self.weights] if self.weights else []
        parts += [self.optimizer] if self.optimizer != "AdamW" else []
        return ", ".join(parts)

    def config(self, path: str) -> dict[str, Any]:
        """The part of a config that decides memory, as `engine.config.checks.loaded` gives it."""
        llm: dict[str, Any] = {"pretrained_model_name_or_path": path, "trust_remote_code": True}
        llm["attn_implementation"] = self.attention
        if self.method != "full":
            llm["torch_dtype"] = {"$ref": f"torch:{self.dtype}"}
        elif self.weights:
            llm["torch_dtype"] = {"$ref": f"torch:{self.weights}"}
        if self.method == "qlora":
            llm["quantization_config"] = {
                "load_in_4bit": True,
                "bnb_4bit_compute_dtype": {"$ref": f"torch:{self.dtype}"},
                "bnb_4bit_use_double_quant": True,
                "bnb_4bit_quant_type": "nf4",
            }
            if self.zero == 3:  # as XTuner sets it: DeepSpeed cuts no whole numbers
                storage = {"$ref": f"torch:{self.dtype}"}
                llm["quantization_config"]["bnb_4bit_quant_storage"] = storage
        model: dict[str, Any] = {"llm": llm, "use_activation_checkpointing": self.checkpointing}
        if self.method != "full":
            model["lora"] = {
                "r": 64,
                "lora_alpha": 16,
                "lora_dropout": 0.1,
                "bias": "none",
                "task_type": "CAUSAL_LM",
            }
        optimizer = {"type": {"$ref": f"torch.optim:{self.optimizer}"}, "lr": 2e-4}
        wrapper: dict[str, Any] = {"dtype": self.dtype, "optimizer": optimizer}
        wrapper["accumulative_counts"] = self.accumulation
        return {"model": model, "optim_wrapper": wrapper}

    def deepspeed(self) -> dict[str, Any] | None:
        """XTuner's own setting of that stage; None without."""
        if not self.zero:
            return None
        import xtuner

        name = f"deepspeed_zero{self.zero}{'_offload' if self.offload else ''}.json"
        path = Path(xtuner.__file__).parent / "configs/deepspeed" / name
        told = dict(json.loads(path.read_text(encoding="utf-8")))
        told["zero_optimization"] |= SMALL if device_memory.counting() else {}
        return told


def build(plan: Plan, where: Path, device: str) -> tuple[Any, Any]:
    """The model and the optimizer's settings, by this process alone."""
    from xtuner.model import SupervisedFinetune

    settings = _objects(plan, where, device)
    return SupervisedFinetune(**settings["model"]), settings["optimizer"]


def prepare(
    plan: Plan, model: Any, optimizer: Any, device: str
) -> tuple[Any, Any, Callable[[], None]]:
    """The model as all processes train it, its optimizer wrapper and how to close them."""
    from mmengine.optim import build_optim_wrapper

    if plan.zero:
        return _deepspeed(plan, model, optimizer, device)
    model = model.to(device)
    wrapper = dict(
        optimizer=optimizer,
        clip_grad=dict(max_norm=1, error_if_nonfinite=False),
        accumulative_counts=plan.accumulation,
    )
    # The gradient scaler of mixed precision refuses gradients in 16 bits: such weights
    # are trained without it.
    if device == "cuda" and not plan.weights:
        wrapper |= dict(type="AmpOptimWrapper", loss_scale="dynamic", dtype=plan.dtype)
    else:
        wrapper |= dict(type="OptimWrapper")
    if ranks.count() > 1:
        model = _side_by_side(model, device)
    return model.train(), build_optim_wrapper(model, wrapper), lambda: None


def _side_by_side(model: Any, device: str) -> Any:
    """As mmengine's runner wraps a model that several processes train."""
    from mmengine.model import MMDistributedDataParallel

    ranks.join(device)
    where = [torch.cuda.current_device()] if device == "cuda" else None
    return MMDistributedDataParallel(model, device_ids=where, broadcast_buffers=False)


def _objects(plan: Plan, where: Path, device: str) -> dict[str, Any]:
    """The config's values as the objects that it names."""
    from mmengine.config import ConfigDict
    from peft import LoraConfig
    from transformers import BitsAndBytesConfig

    def resolve(value: Any) -> Any:
        if isinstance(value, dict):
            if "$ref" in value:
                return getattr(torch, value["$ref"].rpartition(":")[2])
            return {key: resolve(one) for key, one in value.items()}
        return value

    found = plan.config(str(where))
    model = resolve(found["model"])
    model["llm"] |= {"type": random_model.build, "device": device}
    if device == "cpu" and "torch_dtype" in model["llm"]:
        model["llm"]["torch_dtype"] = torch.float32  # there is no autocast in a run on a CPU
    if quantization := model["llm"].get("quantization_config"):
        quantization["type"] = BitsAndBytesConfig
    if "lora" in model:
        model["lora"]["type"] = LoraConfig
    optimizer: Any = AdamW
    if plan.optimizer != "AdamW":
        import bitsandbytes

        optimizer = getattr(bitsandbytes.optim, plan.optimizer)
    told: dict[str, Any] = dict(type=optimizer, lr=2e-4, betas=(0.9, 0.999), weight_decay=0)
    if device_memory.counting():
        told["foreach"] = True  # as torch does by itself on a GPU
    return {"model": ConfigDict(model), "optimizer": told}


def _deepspeed(
    plan: Plan, model: Any, optimizer: Any, device: str
) -> tuple[Any, Any, Callable[[], None]]:
    """XTuner's strategy with its own ``deepspeed_zeroN``, as ``--deepspeed`` sets it up."""
    from xtuner.engine import DeepSpeedStrategy

    ranks.join(device)
    told = plan.deepspeed()
    assert told is not None
    half = device == "cuda" or device_memory.counting()
    told["bf16"], told["fp16"] = {"enabled": half}, {"enabled": False}
    strategy = DeepSpeedStrategy(
        config=told,
        gradient_accumulation_steps=plan.accumulation,
        train_micro_batch_size_per_gpu=1,
        gradient_clipping=1,
        exclude_frozen_parameters=True,
        sequence_parallel_size=1,
        work_dir=str(Path(os.environ.get("TMPDIR", "/tmp"))),
    )
    strategy.prepare(
        model,
        optim_wrapper=dict(type="DeepSpeedOptimWrapper", optimizer=optimizer),
        dispatch_kwargs={},
    )
    engine = strategy.model
    engine.train()

    def close() -> None:
        engine.destroy()
        # ZeRO-3 leaves one of its own behind, with which autocast keeps fewer copies.
        torch.nn.functional.linear = _LINEAR

    return engine, strategy.optim_wrapper, close
