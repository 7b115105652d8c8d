"""The GPUs that a person names on the command line."""

from __future__ import annotations

import argparse
import re

from engine.i18n import _
from engine.machine.devices import GpuId


def gpu_ids(text: str) -> list[GpuId]:
    """``0,1``; ``0:1`` for a MIG instance; ``cpu`` for none. For argparse."""
    if text in ("cpu", "none", ""):
        return []
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch(r"\d+(:\d+)?", part) for part in parts):
        message = _("numbers with commas between them, as in 0,1 (0:1 is a MIG instance), or cpu")
        raise argparse.ArgumentTypeError(message)
    return [int(part) if part.isdigit() else part for part in parts]
