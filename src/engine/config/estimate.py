"""A first estimate of GPU memory and disk, from the model's own config.json.

The formula was fitted to measured runs on an H100 (1.2B and 7.7B, LoRA and
QLoRA, with and without ZeRO-2); see the tests for how near it comes. Bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from engine.config.loaded import Loaded

LOGITS = 14
"""Bytes per token and vocabulary entry: logits, their gradient and their float32 copies."""
CHECKPOINT = 12
"""Bytes per trainable parameter in a checkpoint: weight and AdamW's two moments."""
CONTEXT = 1_700_000_000
"""CUDA's context and what the allocator holds beyond what is in use."""
ZERO_BUFFERS = 1_500_000_000
"""DeepSpeed's communication buffers."""
NF4 = 0.52
"""Bytes per parameter of a 4-bit linear layer, with its scales."""


class Estimate(msgspec.Struct, frozen=True):
    """What a training needs on each GPU; ``parts`` add up to ``gpu_bytes``."""

    gpu_bytes: int
    parts: dict[str, int]
    """weights, adapter, gradients, optimizer, logits, activations, overhead."""


class Shape(msgspec.Struct, frozen=True):
    """The sizes of a decoder-only language model."""

    hidden: int
    layers: int
    intermediate: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    tied: bool
    experts: int = 1

    @property
    def linears(self) -> list[tuple[int, int]]:
        """(in, out) of each linear layer of one block."""
        q, kv = self.heads * self.head_size, self.kv_heads * self.head_size
        attention = [(self.hidden, q), (self.hidden, kv), (self.hidden, kv), (q, self.hidden)]
        inner = self.intermediate
        mlp = [(self.hidden, inner), (self.hidden, inner), (inner, self.hidden)]
        return attention + mlp * self.experts

    @property
    def linear(self) -> int:
        """Parameters in all blocks' linear layers."""
        return self.layers * sum(one * other for one, other in self.linears)

    @property
    def embedding(self) -> int:
        """Parameters of the embeddings and the output head."""
        return self.vocabulary * self.hidden * (1 if self.tied else 2)

    @property
    def parameters(self) -> int:
        """All parameters (norms and biases left out)."""
        return self.linear + self.embedding

    def adapter(self, rank: int, output: bool = False) -> int:
        """Parameters of a LoRA of `rank` on all linear layers (`output`: and on the head)."""
        own = self.layers * sum(rank * (one + other) for one, other in self.linears)
        return own + (rank * (self.hidden + self.vocabulary) if output else 0)


def shape(folder: Path) -> Shape | None:
    """The sizes in a model folder's config.json; None when they are not those of a known form."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return _shape(config)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _shape(config: Mapping[str, Any]) -> Shape:
    hidden, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
    experts = config.get("num_local_experts") or config.get("num_experts") or 1
    inner = config.get("moe_intermediate_size") if experts > 1 else None
    return Shape(
        hidden=hidden,
        layers=int(config["num_hidden_layers"]),
        intermediate=int(inner or config["intermediate_size"]),
        heads=heads,
        kv_heads=int(config.get("num_key_value_heads") or heads),
        head_size=int(config.get("head_dim") or hidden // heads),
        vocabulary=int(config["vocab_size"]),
        tied=bool(config.get("tie_word_embeddings", False)),
        experts=int(experts),
    )


def trainable(config: Loaded, model: Shape, kind: str = "") -> int:
    """Parameters that this config trains. `kind` is the model_type of its config.json."""
    lora = config.get("model.lora")
    if not isinstance(lora, Mapping):
        return model.parameters
    return model.adapter(int(config.number("model.lora.r", 8)), output=kind == "internlm2")


def model_kind(folder: Path) -> str:
    """The model_type of a model folder, or ""."""
    try:
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
        return str(kind or "")
    except (OSError, ValueError, AttributeError):
        return ""


def memory(
    config: Loaded, model: Shape, *, kind: str = "", tokens: int, zero: int = 0, processes: int = 1
) -> Estimate:
    """The memory of one GPU.

    Args:
        tokens: in one micro-batch, padding included.
        zero: DeepSpeed's stage, 0 for none.
        processes: GPUs among which ZeRO shares its part.
    """
    trained = trainable(config, model, kind)
    adapted = isinstance(config.get("model.lora"), Mapping)
    share = max(1, processes)
    # Bytes a trained parameter: itself, its gradient, AdamW's state (with ZeRO a float32 master).
    own, gradient, state = (2, 2, 12) if zero else (4, 4, 8)
    if not zero and not adapted and _half(config):
        own, gradient, state = 2, 2, 4
    frozen = _frozen(config, model, zero) if adapted else 0.0
    weights = frozen if adapted else own * trained
    parts = {
        "weights": int(weights / (share if zero == 3 else 1)),
        "adapter": own * trained if adapted else 0,
        "gradients": int(gradient * trained / (share if zero >= 2 else 1)),
        "optimizer": int(state * trained / (share if zero else 1)),
        "logits": LOGITS * tokens * model.vocabulary,
        "activations": _activations(config, model, tokens),
        "overhead": CONTEXT + (ZERO_BUFFERS if zero else 0),
    }
    return Estimate(sum(parts.values()), parts)


def _frozen(config: Loaded, model: Shape, zero: int) -> float:
    """Bytes of the base under an adapter. Without quantisation XTuner holds it in float32."""
    if config.get("model.llm.quantization_config.load_in_4bit") is True:
        return NF4 * model.linear + 4 * model.embedding
    return (2 if zero else 4) * model.parameters


def _half(config: Loaded) -> bool:
    return config.name("model.llm.torch_dtype") in ("float16", "bfloat16")


def _activations(config: Loaded, model: Shape, tokens: int) -> int:
    """Kept for the backward pass: with checkpointing one state a layer and one layer's inside."""
    layer = 34 * model.hidden + 12 * model.intermediate
    if config.get("model.use_activation_checkpointing", True):
        return tokens * (4 * model.hidden * model.layers + layer)
    return tokens * model.layers * layer


def disk(config: Loaded, model: Shape, *, kind: str = "", steps: int, folder: Path) -> int:
    """Bytes of all checkpoints that are kept, the adapter and the merged model."""
    trained = trainable(config, model, kind)
    interval = int(config.number("default_hooks.checkpoint.interval", 0)) or max(steps, 1)
    saved = max(1, -(-steps // interval))
    kept = int(config.number("default_hooks.checkpoint.max_keep_ckpts", -1))
    count = saved if kept < 0 else min(saved, kept)
    weights = sum(
        file.stat().st_size for file in folder.glob("*") if file.suffix in (".safetensors", ".bin")
    )
    adapted = isinstance(config.get("model.lora"), Mapping)
    return count * CHECKPOINT * trained + (4 * trained if adapted else 0) + weights
