"""A tiny random model with a real tokenizer: XTuner trains it in seconds on a CPU.

Run as a program (``python tests/support/tiny.py FOLDER [KIND]``) so that the tests
themselves never import torch.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

TEXTS = [
    "你是谁？我是尖米的小助手，内在是上海AI实验室的书生·浦语大模型。",
    "请介绍一下你自己。我是Super Nova的小助手，很高兴认识你！",
    "Who are you? I am Super Nova, a small assistant. How can I help you today?",
    "What is the capital of France? The capital of France is Paris.",
    "You are a helpful assistant. Write a short poem about the sea and the moon.",
    "user assistant system instruction input output conversation 0123456789 \n\t.,:;!?'\"()[]{}",
]

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


KINDS = ("llama", "qwen2", "internlm2")


def build(folder: Path, kind: str = "llama") -> None:
    """Write a model of about 0.2 million parameters and its tokenizer into `folder`.

    An InternLM2 brings its own modelling code, as it does on the hub.
    """
    import torch

    fast = tokenizer()
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    sizes = dict(
        vocab_size=len(fast),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        tie_word_embeddings=False,
        bos_token_id=fast.bos_token_id,
        eos_token_id=fast.eos_token_id,
        pad_token_id=fast.pad_token_id,
    )
    model = internlm2(folder, sizes) if kind == "internlm2" else builtin(kind, sizes)
    model.to(torch.bfloat16).save_pretrained(folder, safe_serialization=True)


def tokenizer() -> Any:
    """A byte-level BPE tokenizer of 600 tokens that writes ChatML."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|endoftext|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=CHAT_TEMPLATE,
    )


def builtin(kind: str, sizes: dict[str, Any]) -> Any:
    """A random model of a kind that transformers has."""
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

    if kind == "qwen2":
        return Qwen2ForCausalLM(Qwen2Config(**sizes))
    return LlamaForCausalLM(LlamaConfig(**sizes))


def internlm2(folder: Path, sizes: dict[str, Any]) -> Any:
    """A random InternLM2, with the modelling code that XTuner ships put beside it."""
    from importlib.util import find_spec

    from transformers import AutoConfig, AutoModelForCausalLM

    spec = find_spec("xtuner")
    assert spec is not None and spec.submodule_search_locations
    code = Path(next(iter(spec.submodule_search_locations))) / "_lite/modelings/internlm2"
    names = {"AutoConfig": "configuration_internlm2", "AutoModelForCausalLM": "modeling_internlm2"}
    classes = {"AutoConfig": "InternLM2Config", "AutoModelForCausalLM": "InternLM2ForCausalLM"}
    for name in names.values():
        shutil.copy(code / f"{name}.py", folder)
    auto_map = {key: f"{name}.{classes[key]}" for key, name in names.items()}
    settings = dict(sizes, model_type="internlm2", auto_map=auto_map, bias=False)
    (folder / "config.json").write_text(json.dumps(settings))
    config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
    return AutoModelForCausalLM.from_config(config, trust_remote_code=True)


if __name__ == "__main__":
    build(Path(sys.argv[1]), *sys.argv[2:])
