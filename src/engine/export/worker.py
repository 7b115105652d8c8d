"""Converting and merging in a process of their own, so that the app stays quick.

Runs under the app's own interpreter (numpy, no torch). Killing it leaves
nothing under the final names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from engine import settings
from engine.export.convert import convert
from engine.export.merge import merge
from engine.worker.serve import Cancelled, Emit, serve


def _progress(emit: Emit) -> Callable[[int, int], None]:
    """Progress events, at most one for each percent."""
    last = -1

    def tell(done: int, total: int) -> None:
        nonlocal last
        percent = 100 * done // total if total else 0
        if percent != last:
            last = percent
            emit("progress", done=done, total=total)

    return tell


def _plain(result: Any) -> Mapping[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(result, enc_hook=str)
    return found


def _convert(request: Mapping[str, Any], emit: Emit, _cancelled: Cancelled) -> Mapping[str, Any]:
    made = convert(
        Path(request["checkpoint"]),
        Path(request["out"]),
        force=request["force"],
        progress=_progress(emit),
    )
    return _plain(made)


def _merge(request: Mapping[str, Any], emit: Emit, cancelled: Cancelled) -> Mapping[str, Any]:
    made = merge(
        Path(request["base"]),
        Path(request["adapter"]),
        Path(request["out"]),
        settings=settings.load(),
        force=request["force"],
        progress=_progress(emit),
        cancelled=cancelled,
    )
    return _plain(made)


if __name__ == "__main__":
    serve({"convert": _convert, "merge": _merge})
