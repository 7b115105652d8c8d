"""Checkpoints that torch itself writes: ``python make_files.py FOLDER``.

A program of its own, so that the tests never import torch. Each ``NAME.pth``
has its tensors beside it in ``NAME.safetensors``.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from pathlib import Path

import torch
from safetensors.torch import save_file

CONFIG = """
model = dict(
    llm=dict(
        pretrained_model_name_or_path='/models/base',
        trust_remote_code=True,
        type='transformers.AutoModelForCausalLM.from_pretrained'),
    lora=dict(
        bias='none', lora_alpha=16, lora_dropout=0.1, r=4, task_type='CAUSAL_LM',
        modules_to_save=['lm_head'], type='peft.LoraConfig'),
    type='xtuner.model.SupervisedFinetune')
custom_hooks = [
    dict(
        type='xtuner.engine.hooks.EvaluateChatHook',
        evaluation_inputs=['Who are you?', '你是谁？'])]
"""


def save(folder: Path, name: str, tensors: dict[str, torch.Tensor], root: object = None) -> None:
    torch.save(tensors if root is None else root, folder / f"{name}.pth")
    save_file({key: value.contiguous().clone() for key, value in tensors.items()},
              folder / f"{name}.safetensors")  # fmt: skip


def adapter_weights() -> dict[str, torch.Tensor]:
    layer = "llm.base_model.model.model.layers.0"
    return OrderedDict(
        {
            f"{layer}.self_attn.q_proj.lora_A.default.weight": torch.randn(4, 6),
            f"{layer}.self_attn.q_proj.lora_B.default.weight": torch.randn(8, 4),
            f"{layer}.mlp.down_proj.lora_A.default.weight": torch.randn(4, 5),
            f"{layer}.mlp.down_proj.lora_B.default.weight": torch.randn(6, 4),
            "llm.base_model.model.lm_head.modules_to_save.default.weight": torch.randn(10, 6),
        }
    )


def main(folder: Path) -> None:
    torch.manual_seed(0)
    grid = torch.arange(60, dtype=torch.float32).reshape(3, 4, 5)
    views = {
        "whole": grid,
        "turned": grid.permute(2, 0, 1),
        "part": grid[1:, 1:3, ::2],
        "row": grid[2, 3],
        "spread": torch.arange(3.0).expand(4, 3),
        "scalar": torch.tensor(7.0),
        "empty": torch.zeros(0, 3),
    }
    save(folder, "views", views)
    kinds = [
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32),
        *(torch.int16, torch.int8, torch.uint8, torch.bool, torch.uint16, torch.float8_e4m3fn),
    ]
    save(folder, "kinds", {str(kind): torch.arange(6).to(kind) for kind in kinds})
    parameter = torch.nn.Parameter(torch.randn(2, 3))
    save(folder, "parameter", {"weight": parameter.detach()}, {"weight": parameter})
    weights = adapter_weights()
    meta = {"cfg": CONFIG, "iter": 12, "seed": 3}
    root = {"meta": meta, "state_dict": weights, "optimizer": {"lr": torch.tensor(1.0)}}
    save(folder, "iter_12", weights, root)
    save(folder, "no_config", weights, {"meta": {}, "state_dict": weights})
    full = {"llm.model.embed_tokens.weight": torch.randn(3, 2)}
    save(folder, "full", full, {"meta": meta, "state_dict": full})
    legacy = folder / "legacy.pth"
    torch.save(weights, legacy, _use_new_zipfile_serialization=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
