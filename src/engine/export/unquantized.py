"""The full-precision model that a quantized one was made from, if it is on this machine."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from engine.export.base_model import (
    CONFIG,
    INDEX,
    PICKLED,
    PICKLED_INDEX,
    SINGLE,
    is_quantized,
    read_config,
)
from engine.hub import cache
from engine.paths import expanded

_SUFFIX = re.compile(
    r"[-_.](unsloth-bnb-4bit|bnb-4bit|4bits?|8bits?|gptq|awq|int4|int8|nf4|w4a16|w8a16|fp8|quantized)$",
    re.IGNORECASE,
)


def find(base: Path, named: str) -> Path:
    """The folder to merge into: `base`, or, where it is quantized, what it was made from.

    Looked for: the models that the quantized one's config and the adapter
    (`named`) name, as folders and in the Hugging Face cache; then a folder
    beside it whose name lacks the quantization's. `base` itself when there is
    none (opening it says what is missing).
    """
    if not (base / CONFIG).is_file() or not is_quantized(read_config(base)):
        return base
    return next((one for one in _candidates(base, named) if _whole(one)), base)


def _candidates(base: Path, named: str) -> Iterator[Path]:
    for name in (*_names(read_config(base)), named):
        for one in dict.fromkeys((name, _plain(name))):
            if one:
                yield expanded(one)
                yield from cache.snapshots(one)
    resolved = base.resolve()
    if _plain(resolved.name) != resolved.name:
        yield resolved.with_name(_plain(resolved.name))


def _names(config: Mapping[str, object]) -> Iterator[str]:
    for told in (config, config.get("quantization_config")):
        if isinstance(told, dict):
            for key in ("_name_or_path", "base_model_name_or_path", "model_name_or_path"):
                if isinstance(told.get(key), str):
                    yield told[key]


def _plain(name: str) -> str:
    """A model's name without what says how it was quantized (GPTQ-Int4 has two such parts)."""
    while (shorter := _SUFFIX.sub("", name)) != name:
        name = shorter
    return name


def _whole(folder: Path) -> bool:
    if not (folder / CONFIG).is_file() or is_quantized(read_config(folder)):
        return False
    return any((folder / name).is_file() for name in (SINGLE, INDEX, PICKLED, PICKLED_INDEX))
