"""Shapes that a map function makes: a module beside the config, or one of XTuner's by name."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from engine.dataset import mapping as mapping_
from engine.dataset.mapping import Mapping
from engine.dataset.shapes.base import Found, Shape, Turn
from engine.dataset.shapes.columns import column_problems, column_turns
from engine.dataset.shapes.messages import message_problems, message_turns
from engine.paths import expanded

_XTUNERS = re.compile(r"\w+_map_fn")


def is_mapped(name: str) -> bool:
    """Whether `name` is that of a map function: a path to a .py file, or a name like XTuner's."""
    return name.endswith(".py") or _XTUNERS.fullmatch(name) is not None


def by_function(name: str) -> Shape:
    """The shape of rows that the map function `name` takes (see `is_mapped`).

    A module that was made of a `Mapping` is read, not run: what it does to a row
    and what it needs of it is known. Of others only the worker knows that. The same
    object is returned until the module changes.
    Raises `Problem` for a module that cannot be used.
    """
    if not name.endswith(".py"):
        return _by_xtuners(name)
    path = expanded(name).resolve()
    return _by_module(str(path), path.stat().st_mtime_ns if path.exists() else 0)


@lru_cache(maxsize=64)
def _by_xtuners(name: str) -> Shape:
    title = f"XTuner's {name}"
    return Shape(name, title, (), _unknown_turns, _no_problems, map_fn=name, opaque=True)


@lru_cache(maxsize=16)
def _by_module(path: str, _changed: int) -> Shape:
    found = mapping_.read_map_module(Path(path))
    title = Path(path).name
    if found is None:
        return Shape(path, title, (), _unknown_turns, _no_problems, module=path, opaque=True)
    return by_mapping(found, path, title, module=path)


def by_mapping(mapping: Mapping, name: str, title: str, module: str = "") -> Shape:
    """The shape of rows that `mapping` takes."""
    turns, problems = (
        (message_turns, message_problems) if mapping.messages else (column_turns, column_problems)
    )
    return Shape(
        name,
        title,
        mapping.columns,
        lambda row: turns(row, mapping),
        lambda row: problems(row, mapping),
        mapping=None if module else mapping,
        module=module,
    )


def _unknown_turns(_row: dict[str, Any]) -> list[Turn]:
    return []


def _no_problems(_row: dict[str, Any]) -> list[Found]:
    return []
