"""What a model's folder says about itself, read from its small files: no torch, no weights.

Everything here answers with nothing ({} or "") where a file is missing or is
not what it should be: whether that is a fault is for the checks to say.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from engine.weight_files import WEIGHTS, header, read_json, shards


def config(folder: Path) -> dict[str, Any]:
    """The model's config.json."""
    return read_json(folder / "config.json")


def tensors(folder: Path) -> dict[str, list[int]]:
    """Tensor name → shape; a shape that its index does not tell is []."""
    names = shards(folder)
    if names:
        return {name: [] for name in names}
    return {name: one["shape"] for name, one in header(folder / WEIGHTS[0]).items()}


def linears(folder: Path) -> list[str]:
    """Module names of the layers with a matrix, as their weights are called."""
    found = []
    for name, shape in tensors(folder).items():
        if name.endswith(".weight") and (not shape or len(shape) == 2):
            found.append(name.removesuffix(".weight"))
    return found


class _Token(msgspec.Struct):
    id: int
    content: str


class _TokenizerFile(msgspec.Struct):
    """The part of a tokenizer.json that is needed; the vocabulary is skipped over."""

    added_tokens: list[_Token] = []


@cache
def _added(file: Path, _changed: float) -> dict[str, int]:
    try:
        found = msgspec.json.decode(file.read_bytes(), type=_TokenizerFile)
    except (OSError, msgspec.DecodeError):
        return {}
    return {one.content: one.id for one in found.added_tokens}


def added_tokens(folder: Path) -> dict[str, int]:
    """Special and other added tokens → their number."""
    file = folder / "tokenizer.json"
    found = dict(_added(file, file.stat().st_mtime)) if file.is_file() else {}
    decoder = read_json(folder / "tokenizer_config.json").get("added_tokens_decoder")
    for number, one in decoder.items() if isinstance(decoder, dict) else ():
        if isinstance(one, dict) and str(number).isdigit():
            found[str(one.get("content", ""))] = int(number)
    return found


def special_token(folder: Path, name: str) -> str | None:
    """The tokenizer's `name` ("bos_token").

    "" where its files say that there is none, None where they are silent.
    """
    for file in ("tokenizer_config.json", "special_tokens_map.json"):
        found = read_json(folder / file)
        if name in found:
            value = found[name]
            if isinstance(value, dict):
                value = value.get("content")
            return str(value) if value else ""
    return None


def chat_template(folder: Path) -> str:
    """The model's own chat template, or ""."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8", errors="replace")
    template = read_json(folder / "tokenizer_config.json").get("chat_template")
    if not template:
        return ""
    return template if isinstance(template, str) else json.dumps(template, ensure_ascii=False)
