"""What models that bring their own modelling code miss in today's transformers.

For every process that runs such a model: the trainer, the chat, the verification.
"""

from __future__ import annotations

from typing import Any


def cache_max_length() -> None:
    """Give caches the method that InternLM2's own modelling code asks for.

    transformers renamed ``Cache.get_max_length``; without it the model cannot
    generate (and the first evaluation during training ends the run).
    """
    from transformers.cache_utils import Cache

    if hasattr(Cache, "get_max_length"):
        return

    def get_max_length(cache: Any) -> int | None:
        length = cache.get_max_cache_shape()
        # -1 is today's word for "no limit", None was the old one.
        return length if length is not None and length > 0 else None

    Cache.get_max_length = get_max_length
