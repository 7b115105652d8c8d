"""Everything that has a figure on a GPU, one after another on one machine (15 minutes).

    python benchmarks/gpu.py --out FOLDER [--only WORD …] [--seconds 1500]

Each part is a script of its own, which can be run by itself; its output goes to a file
in FOLDER and to the terminal. The machine and the versions stand in ``machine.txt``.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
PARTS = {
    "training": "training_speed.py speed --rounds 1",
    "overhead": "overhead.py step --rounds 2",
    "merge": "export.py --sizes 1.3 --pairs 3 --with gpu,convert",
    "merge-peft": "export.py --sizes 1.3 --pairs 1 --with peft,xtuner,convert",
    "merge-8b": "export.py --sizes 8 --pairs 1 --with gpu,convert",
    "chat": "chat.py --gpu --size 1.2 --pairs 3 --firsts 7 --tokens 64 --no-memory",
    "estimate": "estimate.py --seconds 140",
    "shared": "estimate.py --plans shared --seconds 85 --json shared.jsonl",
    "ranks": "estimate.py --plans shared --seconds 85 --json ranks.jsonl --ranks 2",
    "first-step": "first_step.py --pairs 1",
    "scaling": "scaling.py --ranks 1 2 --rounds 2",
}
PACKAGES = ("torch", "transformers", "peft", "bitsandbytes", "deepspeed", "mmengine", "xtuner")


def machine() -> str:
    """The GPUs, their driver, the processor, and the versions of the libraries."""
    asked = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    lines = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.splitlines()
    lines += [f"{os.cpu_count()} cores, {platform.platform()}, Python {platform.python_version()}"]
    lines += [f"{name} {_version(name)}" for name in PACKAGES]
    return "\n".join(lines) + "\n"


def _version(name: str) -> str:
    """Of the package as it is imported: the first on the path counts."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "is not installed"


def main() -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seconds", type=float, default=1500, help="begin no part after these")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "machine.txt").write_text(machine())
    began = time.monotonic()
    for name in args.only:
        if time.monotonic() - began > args.seconds:
            print(f"(no time for {name})", flush=True)
            continue
        print(f"\n== {name}: {PARTS[name]}", flush=True)
        script, *arguments = PARTS[name].split()
        command = [sys.executable, str(HERE / script), *arguments]
        part = time.monotonic()
        with (args.out / f"{name}.txt").open("w") as log:
            done = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, cwd=args.out)
        print((args.out / f"{name}.txt").read_text(errors="replace")[-6000:])
        print(f"({time.monotonic() - part:.0f} s, exit status {done.returncode})", flush=True)


if __name__ == "__main__":
    main()
