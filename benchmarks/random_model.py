"""XTuner models of real sizes with random weights, made on the device in seconds.

A folder with a ``config.json`` stands for the model; `build` is what a config's
``model.llm`` names in place of ``AutoModelForCausalLM.from_pretrained``. No
weights are on any disk, and none pass through the host's memory.

Where the weights must lie on the disk (who merges reads them there), `save` writes them:

    python benchmarks/random_model.py FOLDER [--size 7.7B] [--device cuda] [--toy]

puts a tokenizer of a few hundred tokens beside them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
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
SHARD = 2 * 10**9
"""Bytes of a file of weights, about."""
SIDE_BY_SIDE = 4
SPREAD = 0.02
"""The standard deviation that weights are initialised with."""
LLAMA_8M: Sizes = {
    **LLAMA_12B,
    "hidden_size": 256,
    "intermediate_size": 704,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 4096,
}
"""A Llama whose bytes can be counted on a CPU: 7.7e6 parameters."""
SIZES = {"8M": LLAMA_8M, "0.5B": QWEN_05B, "1.2B": LLAMA_12B, "7.7B": INTERNLM_77B}


def toy(sizes: Sizes) -> Sizes:
    """The same form, small enough for a CPU."""
    small = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    # More rows than the tests' tokenizer has tokens, as in the real ones.
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 1024}
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
    for parameter in model.parameters():
        _fill(parameter.data)
    if quantization_config is not None:
        _quantize(model, quantization_config)
    return model


def save(sizes: Sizes, where: Path, device: str) -> Path:
    """A model folder of `sizes` whose bfloat16 weights lie in safetensors files, without tokenizer.

    They are made on `device` a tensor at a time, and some files are written side by side.
    Their spread is such that what rounds off in a layer does not grow in the next ones, as
    it does in `build`'s: there a merged model, whose weights are rounded once more, differs
    by more than real ones do, and by nearly as much as `verify` allows.
    """
    from huggingface_hub import split_torch_state_dict_into_shards
    from safetensors.torch import save_file
    from transformers import AutoConfig, AutoModelForCausalLM

    folder({**sizes, "torch_dtype": "bfloat16"}, where)
    config = AutoConfig.from_pretrained(where, trust_remote_code=True)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            config, torch_dtype=torch.bfloat16, trust_remote_code=True
        )
    shapes = dict(model.named_parameters())  # tied ones once
    split = split_torch_state_dict_into_shards(shapes, max_shard_size=SHARD)

    def make(name: str) -> torch.Tensor:
        values = torch.empty(shapes[name].shape, dtype=torch.bfloat16, device=device)
        return _fill(values, _spread(name, sizes["num_hidden_layers"])).cpu()

    def write(name: str) -> None:
        made = {tensor: make(tensor) for tensor in split.filename_to_tensors[name]}
        save_file(made, where / name, {"format": "pt"})

    with ThreadPoolExecutor(SIDE_BY_SIDE) as threads:
        list(threads.map(write, split.filename_to_tensors))
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        (where / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return where


def _fill(values: torch.Tensor, spread: float = SPREAD) -> torch.Tensor:
    """Random numbers into a matrix, in every row (one of zeros would make gradients NaN)."""
    return values.normal_(0, spread) if values.dim() > 1 else values.fill_(1)


def _spread(name: str, layers: int) -> float:
    """The standard deviation of a tensor: what a layer adds is small beside what comes in."""
    if name.endswith(("tok_embeddings.weight", "embed_tokens.weight")):
        return 1.0
    adds = name.endswith(("wo.weight", "w2.weight", "o_proj.weight", "down_proj.weight"))
    return SPREAD / (2 * layers) ** 0.5 if adds else SPREAD  # as GPT-2 is initialised


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
            quant_storage=wanted.bnb_4bit_quant_storage,
            device="meta",
        )
        new.weight = bnb.nn.Params4bit(
            old.weight.data,
            requires_grad=False,
            compress_statistics=wanted.bnb_4bit_use_double_quant,
            quant_type=wanted.bnb_4bit_quant_type,
            quant_storage=wanted.bnb_4bit_quant_storage,
            module=new,
        ).to(device)
        new.bias = old.bias
        setattr(parent, name, new)
        del old
    model.is_loaded_in_4bit = True
    model.is_quantized = True
    model.config.quantization_config = wanted


def main() -> None:
    """Write a model with its tokenizer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", choices=SIZES, default="7.7B")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--toy", action="store_true")
    args = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.support import tiny

    torch.manual_seed(0)
    sizes = SIZES[args.size]
    save(toy(sizes) if args.toy else sizes, args.folder, args.device)
    tiny.tokenizer().save_pretrained(args.folder)


if __name__ == "__main__":
    main()
