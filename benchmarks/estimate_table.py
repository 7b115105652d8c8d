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
from engine.config.memory import estimate
from engine.config.memory import sizes as model_sizes


def results(path: Path) -> list[dict[str, Any]]:
    """The points that were measured to the end."""
    found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [one for one in found if one.get("peak")]


def estimated(result: dict[str, Any]) -> estimate.Estimate:
    """What the engine says to a point's config."""
    rows = {
        "batch_size": result["batch"],
        "dataset": {"pack_to_max_length": result["packed"]},
    }
    config = Loaded({"values": {**result["config"], "train_dataloader": rows}})
    return estimate.memory(
        config,
        model_sizes.of(result["sizes"]),
        tokens=result["batch"] * result["length"],
        zero=result["zero"],
    )


def measured(result: dict[str, Any]) -> int:
    """The peak, as XTuner would log it; what cuBLAS keeps from one plan to the next is in it."""
    return int(result["peak"])


def room(result: dict[str, Any], told: estimate.Estimate) -> int:
    """What the estimate leaves to torch's allocator."""
    outside = estimate.CONTEXT + (estimate.COMMUNICATION if result["zero"] else 0)
    return told.gpu_bytes - outside


def caps(result: dict[str, Any], word: str) -> list[float]:
    """The limits of the allocator under which it "trains", or is "out of memory"."""
    tried = result.get("cap") or {}
    return [float(factor) * result["peak"] for factor, found in tried.items() if found == word]


def enough(result: dict[str, Any]) -> int:
    """The least that is known to do: a limit, or what it took without one."""
    return int(min([*caps(result, "trains"), result["reserved"]]))


def main() -> None:
    """Print a row each, and the errors' middle and worst."""
    errors = []
    print("| training | micro-batch | estimated | measured | error | room | was enough |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for result in results(Path(sys.argv[1])):
        told, real = estimated(result), measured(result)
        error = told.allocated_bytes / real - 1
        errors.append(abs(error))
        shape = f"{result['batch']} x {result['length']}{'' if result['packed'] else ', padded'}"
        print(
            f"| {result['plan']} | {shape} | {told.allocated_bytes >> 20} | {real >> 20} "
            f"| {error:+.1%} | {room(result, told) >> 20} | {enough(result) >> 20} |"
        )
    print(
        f"\n{len(errors)} points: median {statistics.median(errors):.1%}, worst {max(errors):.1%}"
    )


if __name__ == "__main__":
    main()
