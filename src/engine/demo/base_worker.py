"""Turns the demo's GGUF into a Hugging Face folder that XTuner can train.

    python .../worker/bootstrap.py engine.demo.base_worker   (requests on stdin)

Runs under the training interpreter. transformers reads the weights; the
tokenizer is rebuilt here from the GGUF's own tables, because transformers
takes every GGUF with model type "llama" for SentencePiece: the result would
name ``<|im_start|>`` as the end of a text and add it in front of each one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.worker.serve import Cancelled, Emit, serve

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""ChatML, the same text that XTuner's ``PROMPT_TEMPLATE.qwen_chat`` makes."""

_CONTROL = 3  # GGUF's token type of a special token


def _tokenizer(gguf: Path) -> Any:
    """The byte-level BPE tokenizer that the GGUF describes (``tokenizer.ggml.*``)."""
    from gguf import GGUFReader
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    fields = GGUFReader(gguf).fields

    def read(name: str) -> Any:
        return fields[f"tokenizer.ggml.{name}"].contents()

    tokens: list[str] = read("tokens")
    merges = [tuple(merge.split(" ")) for merge in read("merges")]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [
        token for token, kind in zip(tokens, read("token_type"), strict=True) if kind == _CONTROL
    ]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=tokens[read("bos_token_id")],
        eos_token=tokens[read("eos_token_id")],
        pad_token=tokens[read("padding_token_id")],
        unk_token=tokens[read("unknown_token_id")],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=8192,
    )


def _convert(request: Mapping[str, Any], emit: Emit, cancelled: Cancelled) -> Mapping[str, Any]:
    """``{gguf, out}`` → weights (bfloat16 safetensors), configs and tokenizer in `out`."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    gguf, out = Path(request["gguf"]), Path(request["out"])
    source = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
    emit("progress", done=1, total=4)
    tokenizer = _tokenizer(gguf)
    config = AutoConfig.from_pretrained(**source)
    config.architectures = ["LlamaForCausalLM"]
    emit("progress", done=2, total=4)
    model = AutoModelForCausalLM.from_pretrained(**source, config=config, dtype=torch.float32)
    for settings in (model.config, model.generation_config):
        settings.bos_token_id = tokenizer.bos_token_id
        settings.eos_token_id = tokenizer.eos_token_id
        settings.pad_token_id = tokenizer.pad_token_id
    emit("progress", done=3, total=4)
    model.to(torch.bfloat16).save_pretrained(out, safe_serialization=True)
    tokenizer.save_pretrained(out)
    emit("progress", done=4, total=4)
    return {"parameters": model.num_parameters()}


if __name__ == "__main__":
    serve({"convert": _convert})
