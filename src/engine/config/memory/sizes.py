"""The sizes of a language model, from its own config.json; no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

_QKV_BIAS = frozenset({"qwen2", "qwen2_moe"})
_ALWAYS_TIED = frozenset({"gemma", "gemma2", "gemma3_text"})
"""Their config.json need not say that they are."""
_OWN_HEAD = frozenset({"internlm2"})
"""The output layer has a name that XTuner's LoRA does not leave out."""


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
    experts_used: int = 1
    kind: str = ""
    """The model_type of its config.json."""

    @property
    def query(self) -> int:
        """Width of all query heads."""
        return self.heads * self.head_size

    @property
    def key(self) -> int:
        """Width of all key (or value) heads."""
        return self.kv_heads * self.head_size

    @property
    def attention(self) -> list[tuple[int, int]]:
        """(in, out) of the attention's linear layers; InternLM2 has one for query, key, value."""
        out = (self.query, self.hidden)
        if self.kind == "internlm2":
            return [(self.hidden, self.query + 2 * self.key), out]
        return [(self.hidden, self.query), (self.hidden, self.key), (self.hidden, self.key), out]

    @property
    def linears(self) -> list[tuple[int, int]]:
        """(in, out) of each linear layer of one block."""
        inner = self.intermediate
        mlp = [(self.hidden, inner), (self.hidden, inner), (inner, self.hidden)]
        return self.attention + mlp * self.experts

    @property
    def linear(self) -> int:
        """Parameters in all blocks' linear layers."""
        return self.layers * sum(one * other for one, other in self.linears)

    @property
    def head(self) -> int:
        """Parameters of the output head (the embedding's own where tied)."""
        return self.vocabulary * self.hidden

    @property
    def embedding(self) -> int:
        """Parameters of the embeddings and the output head."""
        return self.head * (1 if self.tied else 2)

    @property
    def small(self) -> int:
        """Parameters of norms and biases."""
        biases = self.query + 2 * self.key if self.kind in _QKV_BIAS else 0
        return self.layers * (2 * self.hidden + biases) + self.hidden

    @property
    def parameters(self) -> int:
        """All parameters."""
        return self.linear + self.embedding + self.small

    @property
    def adapts_head(self) -> bool:
        """Whether XTuner's LoRA "on all linear layers" takes in the output head."""
        return self.kind in _OWN_HEAD

    def adapter(self, rank: int, output: bool = False) -> int:
        """Parameters of a LoRA of `rank` on all linear layers (`output`: and on the head)."""
        own = self.layers * sum(rank * (one + other) for one, other in self.linears)
        return own + (rank * (self.hidden + self.vocabulary) if output else 0)


def shape(folder: Path) -> Shape | None:
    """The sizes in a model folder's config.json; None when they are not those of a known form."""
    try:
        return of(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def of(config: Mapping[str, Any]) -> Shape:
    """The sizes in the values of a config.json.

    Raises KeyError, TypeError or ValueError for a form that is not known.
    """
    hidden, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
    experts = config.get("num_local_experts") or config.get("num_experts") or 1
    inner = config.get("moe_intermediate_size") if experts > 1 else None
    kind = str(config.get("model_type") or "")
    return Shape(
        hidden=hidden,
        layers=int(config["num_hidden_layers"]),
        intermediate=int(inner or config["intermediate_size"]),
        heads=heads,
        kv_heads=int(config.get("num_key_value_heads") or heads),
        head_size=int(config.get("head_dim") or hidden // heads),
        vocabulary=int(config["vocab_size"]),
        tied=bool(config.get("tie_word_embeddings", kind in _ALWAYS_TIED)),
        experts=int(experts),
        experts_used=int(config.get("num_experts_per_tok") or 1) if experts > 1 else 1,
        kind=kind,
    )
