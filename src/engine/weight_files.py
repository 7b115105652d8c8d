"""The files that a model's weights lie in, and whether all of them are there.

Names, sizes and headers only: no weight is read, and no library is needed.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.errors import Problem
from engine.i18n import _

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""A model's single file, by format; sharded, it has an index beside its shards. transformers
takes the first that is there of one and other in the first format, then in the second."""
ADAPTERS = ("adapter_model.safetensors", "adapter_model.bin")
"""An adapter's file, by format, in the order in which PEFT takes one of them."""
_INDEX = ".index.json"
_HEADER = 100_000_000
"""Bytes that a safetensors header may have, by the format."""
_NAMED = 3


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; {} where there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def shards(folder: Path) -> dict[str, str]:
    """Tensor name → file, from the index of a sharded model; {} for one without an index."""
    first = taken(folder)
    names = read_json(folder / first).get("weight_map") if first.endswith(_INDEX) else None
    return {str(name): str(file) for name, file in names.items()} if isinstance(names, dict) else {}


def taken(folder: Path) -> str:
    """The single file or the index that a model is loaded by; "" where there is none."""
    names = (name for single in WEIGHTS for name in (single, single + _INDEX))
    return next((name for name in names if (folder / name).is_file()), "")


def header(file: Path) -> dict[str, dict[str, Any]]:
    """A safetensors file's header: name → dtype, shape, data_offsets; {} for none."""
    return (_read(file) or (0, {}))[1]


def named(folder: Path) -> list[str]:
    """The files of a model's weights: those that its index names, or the single one."""
    first = taken(folder)
    if first.endswith(_INDEX):
        return sorted(set(shards(folder).values()))
    return [first] if first else []


def fault(folder: Path) -> str:
    """Why the model in `folder` lacks weights, in a sentence; "" when they are all there."""
    first, names = taken(folder), shards(folder)
    if first.endswith(_INDEX) and not names:
        return _("Its index cannot be read: {name}").format(name=first)
    files = named(folder)
    if not files:
        return _("It has no weights (model.safetensors or shards).")
    if wrong := _wrong(folder, files):
        return wrong
    absent = _absent(folder, names)
    return _("In no file, though its index names it: {name}").format(name=absent) if absent else ""


def require(folder: Path) -> None:
    """Raise `Problem` when the model in `folder` lacks weights."""
    if why := fault(folder):
        what = _("The model {path} is not whole").format(path=folder)
        raise Problem(what, why, _("Copy or download it again."))


def fault_of_adapter(folder: Path) -> str:
    """Why the adapter in `folder` lacks weights, in a sentence; "" when they are there."""
    file = next((name for name in ADAPTERS if (folder / name).is_file()), "")
    if not file:
        return _("It has no weights ({file}).").format(file=ADAPTERS[0])
    return _wrong(folder, [file])


def require_adapter(folder: Path) -> None:
    """Raise `Problem` when the adapter in `folder` lacks weights."""
    if why := fault_of_adapter(folder):
        what = _("The adapter {path} is not whole").format(path=folder)
        raise Problem(what, why, _("Copy it again, or convert its checkpoint anew."))


def _wrong(folder: Path, files: list[str]) -> str:
    """What is wrong with the first few of a model's files that are not whole; "" for nothing."""
    checks: tuple[tuple[Callable[[Path], bool], str], ...] = (
        (lambda path: not path.is_file(), _("Missing: {files}")),
        (_pointer, _("Never downloaded (Git LFS pointers): {files}")),
        (_torn, _("Not whole: {files}")),
    )
    for wrong, words in checks:
        found = [one for one in files if wrong(folder / one)]
        if found:
            return words.format(files=", ".join(_shown(folder, one) for one in found[:_NAMED]))
    return ""


def _absent(folder: Path, names: dict[str, str]) -> str:
    """A tensor that is not in the file where the index says it is; "" for none."""
    there: dict[str, dict[str, Any]] = {}
    for name, file in names.items():
        if file.endswith(".safetensors"):
            if file not in there:
                there[file] = header(folder / file)
            if name not in there[file]:
                return name
    return ""


def _shown(folder: Path, file: str) -> str:
    path = folder / file
    return f"{file} → {path.readlink()}" if path.is_symlink() and not path.exists() else file


def _read(file: Path) -> tuple[int, dict[str, dict[str, Any]]] | None:
    """Where the data begin, and the header; None for what is no safetensors file."""
    try:
        with file.open("rb") as stream:
            size = int(struct.unpack("<Q", stream.read(8))[0])
            found = json.loads(stream.read(size)) if size <= _HEADER else None
    except (OSError, ValueError, struct.error):
        return None
    if not isinstance(found, dict):
        return None
    tensors = {name: one for name, one in found.items() if isinstance(one, dict)}
    return 8 + size, {name: one for name, one in tensors.items() if "shape" in one}


def _pointer(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(8) == b"version "


def _torn(file: Path) -> bool:
    """Whether a file is shorter than its header says (a download broken off), or has none."""
    size = file.stat().st_size
    if file.suffix != ".safetensors":
        return size == 0
    read = _read(file)
    if read is None:
        return True
    begin, found = read
    try:
        return size < begin + max(
            (int(one["data_offsets"][1]) for one in found.values()), default=0
        )
    except (KeyError, IndexError, TypeError, ValueError):
        return True
