"""Which kind of attention a model is trained with: the config's, or else XTuner's choice."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.config.checks.loaded import Loaded

SETTING = "model.llm.attn_implementation"
SDPA, FLASH, EAGER = "sdpa", "flash_attention_2", "eager"
"""What it may say. With flash-attn XTuner loads the weights in 16 bits, whatever the config says
of them."""
_TAKES_FLASH = frozenset(
    [
        "deepseek_v2",
        "gemma",
        "internlm2",
        "internlm3",
        "llama",
        "mistral",
        "mixtral",
        "phi3",
        "qwen2",
        "qwen2_moe",
        "starcoder2",
    ]
)
"""Model types for which XTuner takes flash-attn by itself where it is installed
(``SupervisedFinetune._prepare_for_flash_attn``)."""


def of(config: Loaded, kind: str) -> str:
    """The attention of a model of type `kind` ("" where nobody knows it) under `config`.

    Where neither config nor XTuner say, it is what transformers takes: sdpa, except that
    InternLM2's own code knows eager only.
    """
    asked = config.get(SETTING)
    if asked is not None:
        return str(asked)
    if kind in _TAKES_FLASH and config.versions.get("flash_attn"):
        return FLASH
    return EAGER if kind == "internlm2" else SDPA
