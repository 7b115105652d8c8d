"""The memory estimate beside what was measured, as a table.

    python benchmarks/estimate_table.py measured.jsonl

reads what ``benchmarks/estimate.py`` wrote; no GPU and no torch. MiB. The last
two columns are what the estimate leaves to torch's allocator, and the least
that is known to have been enough for it.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from engine.config.checks.loaded import Loaded
from engine.config.memory import estimate, parts, zero
from engine.config.memory import sizes as model_sizes

CUBLAS = 64 << 20
"""Stays allocated from one plan to the next."""


def results(path: Path) -> list[dict[str, Any]]:
    """The points that were measured to the end."""
    found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [one for one in found if one.get("peak")]


def estimated(result: dict[str, Any]) -> estimate.Estimate:
    """What the engine says to a point's config."""
    return estimate.of(*planned(result))


def planned(result: dict[str, Any]) -> tuple[parts.Training, model_sizes.Shape]:
    """What decides a point's memory."""
    rows = {
        "batch_size": result["batch"],
        "dataset": {"pack_to_max_length": result["packed"]},
    }
    model = model_sizes.of(result["sizes"])
    training = estimate.training(
        Loaded({"values": {**result["config"], "train_dataloader": rows}}),
        kind=model.kind,
        tokens=result["batch"] * result["length"],
        zero=result["zero"],
        processes=result.get("ranks", 1),
        deepspeed=result.get("deepspeed"),
    )
    return training, model


def measured(result: dict[str, Any]) -> int:
    """The peak, as XTuner would log it; what cuBLAS keeps from one plan to the next is in it.

    Not so what else a plan before left behind: DeepSpeed's stage 3 is never quite given back.
    """
    kept = 0 if counted(result) else CUBLAS
    return int(result["peak"] - max(0, result.get("before", 0) - kept))


def counted(result: dict[str, Any]) -> bool:
    """Whether it was made on a CPU, by adding up torch's memory events."""
    return result["used"] == 0


def allocated(result: dict[str, Any]) -> int:
    """What the estimate says of tensors, in a training as it was measured.

    That may have been no training's second step, in which DDP holds most (``fresh``); it may
    have run with DeepSpeed's ``linear``, which an earlier plan had left behind (``linear``).
    A CPU has no workspace for cuBLAS; and gloo, unlike NCCL, holds no copies any more when
    DDP makes new ones, and scatters a copy of what it reduces (one more of the tensor, by a
    test of its own).
    """
    plan, model = planned(result)
    copy = 0.0
    if counted(result) or not result.get("fresh", True):
        copy -= parts.rebuilding(plan, model)
    if result.get("linear") == "zero3" and not plan.zero.stage:
        copy -= 2 * model.head
    if counted(result) and plan.zero.stage == 3:
        copy += zero.reducing(plan.zero, plan.processes, parts.tensors(plan, model))
    held = parts.moments(plan, model)
    most = max(one.total + (copy if one.moment in ("loss", "backward") else 0) for one in held)
    return int(most) - (parts.WORKSPACE if counted(result) else 0)


def room(result: dict[str, Any], told: estimate.Estimate) -> int:
    """What the estimate leaves to torch's allocator."""
    joined = result["zero"] or result.get("ranks", 1) > 1
    outside = estimate.CONTEXT + (estimate.COMMUNICATION if joined else 0)
    return told.gpu_bytes - outside


def caps(result: dict[str, Any], word: str) -> list[float]:
    """The limits of the allocator under which it "trains", or is "out of memory"."""
    tried = result.get("cap") or {}
    return [float(factor) * result["peak"] for factor, found in tried.items() if found == word]


def enough(result: dict[str, Any]) -> int:
    """The least that is known to do: a limit, or what it took without one."""
    return int(min([*caps(result, "trains"), result["reserved"]]))


def ranks(result: dict[str, Any]) -> str:
    """How many processes shared it, where there were several."""
    count = result.get("ranks", 1)
    return f", {count} processes" if count > 1 else ""


def main() -> None:
    """Print a row each, and the errors' middle and worst."""
    errors = []
    print("| training | micro-batch | estimated | measured | error | room | was enough |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for result in results(Path(sys.argv[1])):
        told, real = estimated(result), measured(result)
        tensors = allocated(result)
        error = tensors / real - 1
        errors.append(abs(error))
        shape = f"{result['batch']} x {result['length']}{'' if result['packed'] else ', padded'}"
        print(
            f"| {result['plan']}{ranks(result)} | {shape} | {tensors >> 20} | {real >> 20} "
            f"| {error:+.1%} | {room(result, told) >> 20} | {enough(result) >> 20} |"
        )
    print(
        f"\n{len(errors)} points: median {statistics.median(errors):.1%}, worst {max(errors):.1%}"
    )


if __name__ == "__main__":
    main()
