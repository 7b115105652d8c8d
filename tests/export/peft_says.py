"""What peft makes of the adapters that we merge: ``python peft_says.py FOLDER``.

For each case a tiny random model and adapter are saved by transformers and
peft, merged by us, and compared with peft. Prints one JSON object: case ->
``ulps`` (the largest distance of our bf16 weights from peft's float32 merge,
in units of the last place of bf16), ``names`` (tensors only one side has),
``logits`` (the largest difference between adapter-on-base and our fp32 merge),
``effect`` (the same between the base with and without adapter), ``apart`` and
``apart_bf16`` (the same between our merge and peft's as `engine.export.verify_worker`
rounds it, in float32, and where that has no room in bfloat16).
"""

from __future__ import annotations

import json
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from engine.export.merge import merge
from engine.export.verify_worker import merge_as_peft

TRUST = {"trust_remote_code": True}
SIZES = {
    "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2,
}  # fmt: skip
INTERNLM2 = ["wqkv", "wo", "w1", "w2", "w3", "output"]
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def llama(tied: bool = False) -> Any:
    return LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=tied))


def qwen() -> Any:
    model = Qwen2ForCausalLM(Qwen2Config(**SIZES, tie_word_embeddings=True))
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter)
    return model


def gpt2() -> Any:
    return GPT2LMHeadModel(GPT2Config(vocab_size=96, n_embd=32, n_layer=2, n_head=4))


def internlm2() -> Any:
    """InternLM2 with its own code, of which XTuner has a copy. Its output head is ``output``."""
    found = find_spec("xtuner")
    assert found is not None and found.origin is not None
    code = Path(found.origin).parent / "_lite/modelings/internlm2"
    folder = Path(sys.argv[1]) / "internlm2-code"
    folder.mkdir(exist_ok=True)
    for name in ("configuration_internlm2", "modeling_internlm2"):
        shutil.copy(code / f"{name}.py", folder)
    config = {
        **SIZES, "model_type": "internlm2", "architectures": ["InternLM2ForCausalLM"],
        "auto_map": {"AutoConfig": "configuration_internlm2.InternLM2Config",
                     "AutoModelForCausalLM": "modeling_internlm2.InternLM2ForCausalLM"},
        "bias": False, "tie_word_embeddings": False, "attn_implementation": "eager",
        "pad_token_id": 2,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    known = AutoConfig.from_pretrained(folder, trust_remote_code=True)
    return AutoModelForCausalLM.from_config(known, trust_remote_code=True)


CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "plain": (llama, {"target_modules": LINEAR}),
    "patterns": (
        llama,
        {
            "target_modules": LINEAR,
            "rank_pattern": {"q_proj": 2, "layers.1.mlp.up_proj": 7},
            "alpha_pattern": {"v_proj": 3, "model.layers.0.mlp.up_proj": 40},
        },
    ),
    "rslora": (qwen, {"target_modules": LINEAR, "use_rslora": True}),
    "biases": (qwen, {"target_modules": LINEAR, "bias": "all"}),
    "lora bias": (qwen, {"target_modules": ["q_proj", "v_proj"], "lora_bias": True}),
    "conv1d": (gpt2, {"target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True}),
    "saved": (
        llama,
        {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head"]},
    ),
    "embedding": (llama, {"target_modules": ["embed_tokens", "q_proj"]}),
    "wide base": (llama, {"target_modules": LINEAR}),
    "pickles": (qwen, {"target_modules": LINEAR}),
    "dora": (llama, {"target_modules": LINEAR, "use_dora": True, "use_rslora": True}),
    "dora conv1d": (
        gpt2,
        {"target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True, "use_dora": True},
    ),
    "internlm2": (internlm2, {"target_modules": INTERNLM2, "use_dora": True}),
    "internlm2 saved": (
        internlm2,
        {"target_modules": ["wqkv", "wo"], "modules_to_save": ["tok_embeddings", "output"]},
    ),
    "tied head": (lambda: llama(True), {"target_modules": ["lm_head", "q_proj"]}),
    "tied embedding": (lambda: llama(True), {"target_modules": ["embed_tokens", "q_proj"]}),
    "tied saved": (
        lambda: llama(True),
        {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
    ),
}  # fmt: skip


def apart(base: Path, adapter: Path, merged: Path, computed: torch.dtype | None) -> float:
    """Between `merged` and peft's merge, computed in `computed`, or as each was stored."""
    tokens = torch.arange(90).reshape(2, 45)
    options = {"dtype": computed or "auto", **TRUST}
    ours = AutoModelForCausalLM.from_pretrained(merged, **options).eval()
    loaded = AutoModelForCausalLM.from_pretrained(base, **options)
    theirs = PeftModel.from_pretrained(loaded, adapter).eval()
    merge_as_peft(theirs, torch.bfloat16, ours.dtype)
    with torch.inference_mode():
        return float((theirs(tokens).logits - ours(tokens).logits).abs().max())


def compare(folder: Path, build: Any, lora: dict[str, Any], kind: str) -> dict[str, Any]:
    torch.manual_seed(1)
    base, adapter, out = folder / "base", folder / "adapter", folder / "out"
    build().to(torch.float32 if kind == "wide base" else torch.bfloat16).save_pretrained(
        base, max_shard_size="30KB", safe_serialization=kind != "pickles"
    )
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, **TRUST)
    trained = get_peft_model(model, LoraConfig(r=4, lora_alpha=16, task_type="CAUSAL_LM", **lora))
    for parameter in trained.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    trained.save_pretrained(adapter)
    # Read back, so that both sides start from the same files.
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, **TRUST)
    on_base = PeftModel.from_pretrained(model, adapter).eval()
    tokens = torch.arange(90).reshape(2, 45)
    with torch.inference_mode():
        expected = on_base(tokens).logits
        with on_base.disable_adapter():
            without = on_base(tokens).logits
        merge(base, adapter, folder / "fp32", dtype="fp32")
        ours = AutoModelForCausalLM.from_pretrained(folder / "fp32", dtype="auto", **TRUST)
        assert ours.dtype == torch.float32
        logits = (ours(tokens).logits - expected).abs().max().item()
    merge(base, adapter, out, dtype="bf16")
    theirs = on_base.merge_and_unload().state_dict()
    mine = {k: v for file in out.glob("*.safetensors") for k, v in load_file(file).items()}
    names = set(mine) ^ set(theirs)
    ulps = 0.0
    for name in set(mine) & set(theirs):
        assert mine[name].dtype == torch.bfloat16
        exact = theirs[name].double()
        unit = 2.0 ** (torch.frexp(exact)[1] - 8)
        ulps = max(ulps, ((mine[name].double() - exact).abs() / unit).max().item())
    return {
        "ulps": ulps,
        "names": sorted(names),
        "logits": logits,
        "effect": (without - expected).abs().max().item(),
        "apart": apart(base, adapter, out, torch.float32),
        "apart_bf16": apart(base, adapter, out, None),
        "shards": len(list(out.glob("*.safetensors"))),
    }


if __name__ == "__main__":
    root = Path(sys.argv[1])
    print(
        json.dumps(
            {
                name: compare(root / name.replace(" ", "-"), build, lora, name)
                for name, (build, lora) in CASES.items()
            }
        )
    )
