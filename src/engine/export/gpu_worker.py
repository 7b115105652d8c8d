"""A merge's arithmetic on a GPU: torch in a process of its own, under the training interpreter.

Weights and results pass through memory that both processes map, pinned where
CUDA allows it, so that the copies to and from the card are the only ones.
Nothing of the model stays on the card but the changes that are in use.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from engine.errors import Failed
from engine.export.dtypes import FROM_TORCH
from engine.i18n import _
from engine.worker.serve import Cancelled, Emit, serve

_TORCH = {name: getattr(torch, kind) for kind, name in FROM_TORCH.items() if hasattr(torch, kind)}


class _Card:
    """The device, the memory in common, and the changes that were given."""

    device: torch.device
    shared: torch.Tensor  # bytes
    changes: dict[int, dict[str, torch.Tensor]]


_card = _Card()


def _open(request: Mapping[str, Any], _emit: Emit, _cancelled: Cancelled) -> Mapping[str, Any]:
    """Take `device`; map `size` bytes of the file `path`."""
    _card.device = torch.device(request["device"])
    torch.set_float32_matmul_precision("highest")
    descriptor = os.open(request["path"], os.O_RDWR)
    _card.shared = torch.frombuffer(mmap.mmap(descriptor, request["size"]), dtype=torch.uint8)
    os.close(descriptor)
    _card.changes = {}
    name = "cpu"
    if _card.device.type == "cuda":
        name = torch.cuda.get_device_name(_card.device)
        torch.zeros(1, device=_card.device)
        with suppress(RuntimeError):  # slower without
            torch.cuda.cudart().cudaHostRegister(_card.shared.data_ptr(), _card.shared.numel(), 0)
    return {"name": name}


def _change(request: Mapping[str, Any], _emit: Emit, _cancelled: Cancelled) -> Mapping[str, Any]:
    """Keep the float32 arrays of a change, whose bytes lie in the file `path`, end to end."""
    data = torch.frombuffer(bytearray(Path(request["path"]).read_bytes()), dtype=torch.float32)
    found, at = {}, 0
    for name, shape in request["arrays"].items():
        count = int(torch.Size(shape).numel())
        found[name] = data[at : at + count].reshape(shape).to(_card.device)
        at += count
    _card.changes[request["key"]] = found
    return {}


def _forget(request: Mapping[str, Any], _emit: Emit, _cancelled: Cancelled) -> Mapping[str, Any]:
    _card.changes.pop(request["key"], None)
    return {}


def _rows(request: Mapping[str, Any], _emit: Emit, _cancelled: Cancelled) -> Mapping[str, Any]:
    """Change the rows that lie at `begin` of the common memory; the result lies at `out`."""
    change = _card.changes[request["key"]]
    rows, columns, first = request["rows"], request["columns"], request["first"]
    source, target = _TORCH[request["stored"]], _TORCH[request["dtype"]]
    count = rows * columns
    raw = _card.shared[request["begin"] :][: count * source.itemsize].view(source)
    values = raw.to(_card.device, non_blocking=True).float().view(rows, columns)
    values.addmm_(change["left"][first : first + rows], change["right"])
    if "stretch" in change:
        values *= change["stretch"]
    elif "magnitude" in change:
        lengths = torch.linalg.vector_norm(values, dim=1)
        values *= (change["magnitude"][first : first + rows] / lengths)[:, None]
    result = values.to(target)
    if target == torch.float16 and not result.isfinite().all() and values.isfinite().all():
        raise Failed(
            _("The weight {name} does not fit into fp16").format(name=request["name"]),
            _("It holds values beyond 65504, where fp16 ends."),
            _("Use bf16, which reaches as far as fp32."),
        )
    _card.shared[request["out"] :][: count * target.itemsize].copy_(
        result.view(-1).view(torch.uint8)
    )
    return {}


if __name__ == "__main__":
    serve({"open": _open, "change": _change, "forget": _forget, "rows": _rows})
