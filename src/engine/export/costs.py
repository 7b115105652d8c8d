"""What a step costs, said before it begins."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec

from engine.errors import Problem
from engine.export import dtypes
from engine.export.base_model import BaseModel
from engine.export.plan import Choices, Plan
from engine.i18n import _

_THREADS = 300 << 20
"""Bytes that the threads and their chunks take beside the tensors."""
_SECONDS, _MINUTE = 2 << 30, 20 << 30
"""Up to so many bytes written it is a matter of seconds, of a minute or so."""


class Costs(msgspec.Struct, frozen=True):
    """Bytes on the disk where the result goes, what is free there, bytes of memory at most."""

    disk: int
    free: int
    memory: int

    @property
    def time(self) -> str:
        """About how long, in words."""
        if self.disk <= _SECONDS:
            return _("seconds")
        return _("about a minute") if self.disk <= _MINUTE else _("some minutes")


def of_merge(plan: Plan, chosen: Choices) -> Costs | None:
    """What merging costs; None when the base model is not here or cannot be read."""
    if plan.base is None:
        return None
    try:
        with BaseModel(plan.base) as base:
            counts = [(entry.size, entry.dtype) for entry in base.entries.values()]
    except Problem:
        return None
    target = None if chosen.dtype == "auto" else dtypes.parse(chosen.dtype)
    sizes = [size if target is None else _cast(size, dtype, target) for size, dtype in counts]
    largest = max((_cast(size, dtype, "F32") for size, dtype in counts), default=0)
    return Costs(sum(sizes), free(plan.merged), _THREADS + 2 * largest)


def _cast(size: int, dtype: str, target: str) -> int:
    if dtype not in dtypes.FLOATS:
        return size
    return size * dtypes.SIZES[target] // dtypes.SIZES[dtype]


def free(target: Path) -> int:
    """Bytes free where `target` will be."""
    parent = next(one for one in target.absolute().parents if one.exists())
    return shutil.disk_usage(parent).free
