"""XTuner models of real sizes with random weights, made on the device in seconds.

A folder with a ``config.json`` stands for the model; `build` is what a config's
``model.llm`` names in place of ``AutoModelForCausalLM.from_pretrained``. No
weights are on any disk, and none pass through the host's memory.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import nn

Sizes = dict[str, Any]

QWEN_05B: Sizes = {
    "model_type": "qwen2",
    "architectures": ["Qwen2ForCausalLM"],
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "vocab_size": 151936,
    "tie_word_embeddings": True,
    "max_position_embeddings": 32768,
}
"""Qwen2.5-0.5B: a large vocabulary, tied."""
LLAMA_12B: Sizes = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_hidden_layers": 22,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "vocab_size": 49152,
    "tie_word_embeddings": False,
    "max_position_embeddings": 8192,
}
"""TinyLlama's sizes with a vocabulary of 49152: 1.17e9 parameters."""
INTERNLM_77B: Sizes = {
    "model_type": "internlm2",
    "architectures": ["InternLM2ForCausalLM"],
    "auto_map": {
        "AutoConfig": "configuration_internlm2.InternLM2Config",
        "AutoModel": "modeling_internlm2.InternLM2ForCausalLM",
        "AutoModelForCausalLM": "modeling_internlm2.InternLM2ForCausalLM",
    },
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 92544,
    "tie_word_embeddings": False,
    "max_position_embeddings": 32768,
    "bias": False,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1e6,
    "attn_implementation": "eager",
    "pad_token_id": 2,
}
"""InternLM2.5-7B, with InternLM2's own modelling code."""
SIZES = {"0.5B": QWEN_05B, "1.2B": LLAMA_12B, "7.7B": INTERNLM_77B}


def toy(sizes: Sizes) -> Sizes:
    """The same form, small enough for a CPU."""
    small = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 512}
    return {**sizes, **small, **heads}


def folder(sizes: Sizes, where: Path) -> Path:
    """A model folder of `sizes` without weights; InternLM2's code is XTuner's own copy."""
    where.mkdir(parents=True, exist_ok=True)
    (where / "config.json").write_text(json.dumps(sizes), encoding="utf-8")
    if "auto_map" in sizes:
        import xtuner

        code = Path(xtuner.__file__).parent / "_lite/modelings/internlm2"
        for name in ("configuration_internlm2.py", "modeling_internlm2.py"):
            shutil.copy(code / name, where / name)
    return where


def build(
    pretrained_model_name_or_path: str,
    device: str,
    torch_dtype: torch.dtype | None = None,
    quantization_config: Any = None,
    **options: Any,
) -> nn.Module:
    """What ``from_pretrained`` would give for these arguments, with random weights on `device`.

    Whoever calls it keeps weights from being initialised (XTuner's LoadWoInit
    does); they are filled here.
    """
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.modeling_utils import no_init_weights

    config = AutoConfig.from_pretrained(pretrained_model_name_or_path, **options)
    with torch.device(device), no_init_weights():
        model = AutoModelForCausalLM.from_config(
            config, torch_dtype=torch_dtype or torch.float32, **options
        )
    model.tie_weights()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.02)
            else:
                parameter.fill_(1)
    if quantization_config is not None:
        _quantize(model, quantization_config)
    return model


def _quantize(model: Any, wanted: Any) -> None:
    """Turn the linear layers into nf4 where they lie, the output head left out.

    That is what transformers does with a ``BitsAndBytesConfig`` while it loads.
    """
    import bitsandbytes as bnb

    head = model.get_output_embeddings()
    found = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.Linear) and child is not head
    ]
    for parent, name, old in found:
        device = old.weight.device
        new = bnb.nn.Linear4bit(
            old.in_features,
            old.out_features,
            bias=old.bias is not None,
            compute_dtype=wanted.bnb_4bit_compute_dtype,
            compress_statistics=wanted.bnb_4bit_use_double_quant,
            quant_type=wanted.bnb_4bit_quant_type,
            device="meta",
        )
        new.weight = bnb.nn.Params4bit(
            old.weight.data,
            requires_grad=False,
            compress_statistics=wanted.bnb_4bit_use_double_quant,
            quant_type=wanted.bnb_4bit_quant_type,
            module=new,
        ).to(device)
        new.bias = old.bias
        setattr(parent, name, new)
        del old
    model.is_loaded_in_4bit = True
    model.is_quantized = True
    model.config.quantization_config = wanted
