"""A checkpoint to an adapter: ``tunedeck convert`` against XTuner's ``pth_to_hf``.

    python benchmarks/convert.py CHECKPOINT CONFIG [--runs 3]

Both run as whole processes, in turn (A B A B …); *wall* is time on the clock, *cpu* that of
processors. Then every key and value is
compared: ours, cast to the type that XTuner wrote, must be bit-equal. Run it
with an interpreter that has XTuner. Exit status 1 when anything differs.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

# XTuner asks torch.cpu for something that is not there when there is no GPU.
XTUNER = """
import runpy, torch
if not torch.cuda.is_available():
    torch.cpu.is_bf16_supported = lambda *_: True
runpy.run_module("xtuner.tools.model_converters.pth_to_hf", run_name="__main__", alter_sys=True)
"""
OURS = "from tui.__main__ import main; main()"  # what the command `tunedeck` runs


class Took(NamedTuple):
    """Seconds of a whole process: on the clock, and of processors (which a busy machine
    lengthens less)."""

    wall: float
    cpu: float


def run(code: str, *arguments: str | Path) -> Took:
    """A Python process that runs `code`; its words are shown if it fails."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    if done.returncode:
        sys.exit(f"{done.stdout}{done.stderr}")
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Took(wall, cpu)


def differences(ours: Path, theirs: Path) -> tuple[int, str, list[str]]:
    """Keys compared, the type XTuner wrote, and the keys that are not the same."""
    from safetensors.torch import load_file

    mine: dict[str, Any] = load_file(ours / "adapter_model.safetensors")
    other: dict[str, Any] = load_file(theirs / "adapter_model.safetensors")
    wrong = set(mine) ^ set(other)
    for name in set(mine) & set(other):
        if mine[name].shape != other[name].shape or not bool(
            (mine[name].to(other[name].dtype) == other[name]).all()
        ):
            wrong.add(name)
    kinds = {str(one.dtype) for one in other.values()}
    return len(mine), ", ".join(kinds), sorted(wrong)


def main() -> None:
    """Measure both, compare the results, print the table."""
    parser = argparse.ArgumentParser(description="tunedeck convert against XTuner's pth_to_hf.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("config", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    pairs = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(args.runs):
            theirs, ours = folder / f"xtuner-{number}", folder / f"tunedeck-{number}"
            slow = run(XTUNER, args.config, args.checkpoint, theirs, "--safe-serialization")
            fast = run(OURS, "convert", args.checkpoint, ours, "--config", args.config)
            pairs.append((slow, fast))
        keys, kind, wrong = differences(ours, theirs)
    for what in Took._fields:
        slow_ones = [getattr(slow, what) for slow, _fast in pairs]
        fast_ones = [getattr(fast, what) for _slow, fast in pairs]
        ratios = [slow / fast for slow, fast in zip(slow_ones, fast_ones, strict=True)]
        print(f"{what:4} XTuner pth_to_hf   {statistics.median(slow_ones):7.2f} s")
        print(f"{what:4} tunedeck convert   {statistics.median(fast_ones):7.3f} s")
        print(
            f"{what:4} ratio              {statistics.median(ratios):7.1f}  "
            f"({min(ratios):.1f} to {max(ratios):.1f}, {args.runs} pairs)"
        )
    print(f"{keys} keys, bit-equal as {kind}" if not wrong else f"NOT the same: {wrong}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
