"""A checkpoint to an adapter: ``tunedeck convert`` against XTuner's ``pth_to_hf``.

    python benchmarks/convert.py CHECKPOINT CONFIG [--runs 3] [--alone]

Ours against the command that a user types, ``xtuner convert pth_to_hf`` (which imports
all of XTuner, then starts another Python that does so again), and against that second
Python alone, as whole processes, in turn (A B C A B C …); *wall* is time on the clock,
*cpu* that of processors. Then every key and value is compared: ours, cast to the type that
XTuner wrote, must be bit-equal. Run it with an interpreter that has XTuner. Exit status 1
when anything differs.
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

BIN = Path(sys.executable).parent
OURS = (sys.executable, "-c", "from tui.__main__ import main; main()")  # the command `tunedeck`
ALONE = (sys.executable, "-m", "xtuner.tools.model_converters.pth_to_hf")
COMMAND = (str(BIN / "xtuner"), "convert", "pth_to_hf")
WITHOUT_GPU = """
import torch
if not torch.cuda.is_available():
    torch.cpu.is_bf16_supported = lambda *_: True
"""
"""XTuner asks torch.cpu for what it does not have; it imports torch in any case."""


class Took(NamedTuple):
    """Seconds of a whole process: on the clock, and of processors (which a busy machine
    lengthens less)."""

    wall: float
    cpu: float


def run(command: tuple[str, ...], *arguments: str | Path, site: Path | None = None) -> Took:
    """Run `command`; its words are shown if it fails. `site` has a sitecustomize module."""
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "PATH": f"{BIN}:{os.environ['PATH']}"}
    if site is not None:
        env["PYTHONPATH"] = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True, env=env)
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
    parser.add_argument("--alone", action="store_true", help="leave the xtuner command out")
    args = parser.parse_args()
    theirs = {"its second Python alone": ALONE}
    if not args.alone:
        theirs = {"xtuner convert pth_to_hf": COMMAND} | theirs
    took: dict[str, list[Took]] = {name: [] for name in (*theirs, "tunedeck convert")}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "sitecustomize.py").write_text(WITHOUT_GPU)
        for number in range(args.runs):
            ours = folder / f"ours-{number}"
            for at, (name, command) in enumerate(theirs.items()):
                made = folder / f"theirs-{number}-{at}"
                given = (args.config, args.checkpoint, made, "--safe-serialization")
                took[name].append(run(command, *given, site=folder))
            told = run(OURS, "convert", args.checkpoint, ours, "--config", args.config)
            took["tunedeck convert"].append(told)
        keys, kind, wrong = differences(ours, made)
    for what in Took._fields:
        seconds = {name: [getattr(one, what) for one in took[name]] for name in took}
        fast = seconds.pop("tunedeck convert")
        print(f"{what}: tunedeck convert {statistics.median(fast):.3f} s")
        for name, slow in seconds.items():
            ratios = [one / other for one, other in zip(slow, fast, strict=True)]
            print(
                f"  {name} {statistics.median(slow):.2f} s: {statistics.median(ratios):.0f} times "
                f"({min(ratios):.0f} to {max(ratios):.0f}, {args.runs} rounds)"
            )
    print(f"{keys} keys, bit-equal as {kind}" if not wrong else f"NOT the same: {wrong}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
