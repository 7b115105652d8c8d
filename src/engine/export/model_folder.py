"""Writing a whole model's folder: shards, their index, and what makes weights a model."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from engine.export import dtypes
from engine.export.base_model import CONFIG, INDEX, companions
from engine.export.output import Output
from engine.export.recipe import WeightFile


def write_weights(
    output: Output, files: Mapping[str, WeightFile], told: Callable[[int], None]
) -> int:
    """Write weight files and, for several, their index; returns the files' bytes.

    `told` hears the bytes of each chunk.
    """
    size = output.make(files, told)
    if len(files) > 1:
        where = {entry.name: name for name, file in files.items() for entry in file.entries}
        total = sum(entry.size for file in files.values() for entry in file.entries)
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(where.items()))}
        output.text(INDEX, json.dumps(index, indent=2, ensure_ascii=False) + "\n")
    return size


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
