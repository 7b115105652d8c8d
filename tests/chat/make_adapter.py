"""A LoRA adapter with random weights for a model, in peft's format: no torch, so no seconds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

RANK = 4


def write(model: Path, folder: Path, seed: int = 1) -> Path:
    """Write it for every linear layer of `model` but the output head; returns `folder`."""
    numbers = np.random.default_rng(seed)
    tensors: dict[str, np.ndarray] = {}
    with safe_open(model / "model.safetensors", "numpy") as weights:
        for name in weights.keys():  # noqa: SIM118 (it is no dict)
            rows, *columns = weights.get_slice(name).get_shape()
            layer = name.removesuffix(".weight")
            if not columns or not layer.endswith("_proj"):
                continue
            for part, shape in (("lora_A", (RANK, columns[0])), ("lora_B", (rows, RANK))):
                values = numbers.normal(0, 0.3, shape).astype(np.float32)
                tensors[f"base_model.model.{layer}.{part}.weight"] = values
    folder.mkdir(parents=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    modules = sorted({name.split(".")[-3] for name in tensors})
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": 8}
    config |= {"target_modules": modules, "base_model_name_or_path": str(model)}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder
