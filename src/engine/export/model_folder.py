"""Writing a whole model's folder: shards, their index, and what makes weights a model."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path

from engine.export import dtypes, safetensors_file
from engine.export.base_model import CONFIG, INDEX, companions
from engine.export.output import Output
from engine.export.weights import Entry


def write_shard(
    output: Output, name: str, entries: list[Entry], data: Iterable[bytes | memoryview]
) -> int:
    """Write one weight file and return its size; `data` are the bytes of all `entries` in order."""
    head = safetensors_file.header(entries)
    size = output.write(name, chain([head], data))
    expected = len(head) + sum(entry.size for entry in entries)
    if size != expected:
        raise ValueError(f"{name}: {size} bytes for {expected}")
    return size


def write_index(output: Output, shards: Mapping[str, list[Entry]]) -> None:
    """Write the index of several weight files (one alone needs none)."""
    if len(shards) < 2:
        return
    where = {entry.name: name for name, entries in shards.items() for entry in entries}
    total = sum(entry.size for entries in shards.values() for entry in entries)
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(where.items()))}
    output.text(INDEX, json.dumps(index, indent=2, ensure_ascii=False) + "\n")


def write_companions(
    output: Output,
    folder: Path,
    config: Mapping[str, object],
    dtype: str | None,
    changes: Mapping[str, object],
) -> None:
    """Copy config, tokenizer, generation config, chat template, code and licence of a model.

    Args:
        output: where to.
        folder: the model.
        config: its ``config.json``.
        dtype: the type that the weights were given, None when it is the model's own.
        changes: what else is different in ``config.json``.
    """
    told = {**config, **changes}
    if dtype:
        told["dtype" if "dtype" in told else "torch_dtype"] = dtypes.torch_name(dtype)
    if told == config:
        output.copy(folder / CONFIG)
    else:
        output.text(CONFIG, json.dumps(told, indent=2, ensure_ascii=False) + "\n")
    for file in companions(folder):
        output.copy(file)
