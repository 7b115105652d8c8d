"""Seconds from the command to the first step: ``xtuner train`` against ``tunedeck train``.

    python benchmarks/first_step.py [--pairs 3] [--map-num-proc N]

Both train the same tiny model (LoRA) on the same 60 rows with the same config, in turn:
each side first on rows that it never saw, then again on the same. As in XTuner's own
configs nothing says how many processes map the rows (32), unless ``--map-num-proc`` does.
Needs XTuner in the Python that runs this. Where there is a GPU both train on it; without
one plain XTuner is given the one function of torch that it misses there.

A run begins when its command is started and has made its first step when the loss
of it is in ``scalars.json``. CPU seconds are those of all processes until then;
"whole" ones are until the last has ended, a checkpoint saved.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

from engine.machine import gpu

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.support import tiny_config  # noqa: E402

ROWS = 60
TAG = "FIRST_STEP"
"""Every process of a run carries it in its environment."""
MISSING = "import torch\nif not torch.cuda.is_available():\n"
MISSING += "    torch.cpu.is_bf16_supported = lambda *a: True\n"


class Start(NamedTuple):
    """What one start took, in seconds."""

    wall: float
    cpu: float
    whole_wall: float
    whole_cpu: float


def measure(command: list[str], work: Path, **env: str) -> Start:
    """Start `command`, wait for the first step in `work`, then for the end of all processes."""
    tag = uuid.uuid4().hex
    before = _ended()
    began = time.monotonic()
    with work.with_suffix(".out").open("w") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=out, env=os.environ | env | {TAG: tag}, cwd=work.parent
        )
        first: tuple[float, float] | None = None
        cpu = 0.0
        while process.poll() is None or _alive(tag):
            now = sum(map(_cpu, _alive(tag))) + _ended() - before
            cpu = max(cpu, now)  # what an orphan has used goes with it
            if first is None and _stepped(work):
                first = time.monotonic() - began, now
            time.sleep(0.05)
    if first is None:
        raise SystemExit(f"No step was made: see {out.name} and {work}")
    return Start(*first, time.monotonic() - began, max(cpu, _ended() - before))


def _stepped(work: Path) -> bool:
    return any('"loss"' in log.read_text() for log in work.glob("*/vis_data/scalars.json"))


def _alive(tag: str) -> list[psutil.Process]:
    return [one for one in psutil.process_iter() if _environment(one).get(TAG) == tag]


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return {} if process.pid == os.getpid() else process.environ()
    except psutil.Error:
        return {}


def _cpu(process: psutil.Process) -> float:
    """CPU seconds of a process and of its children that have ended."""
    try:
        return sum(process.cpu_times()[:4])
    except psutil.Error:
        return 0.0


def _ended() -> float:
    """CPU seconds of this process's children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def sides(folder: Path, config: Path) -> Iterator[tuple[str, list[str], Path, dict[str, str]]]:
    """Each side's name, command, work dir and variables."""
    # xtuner starts a bare "python", which has to be this one.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    xtuner = shutil.which("xtuner", path=path)
    if xtuner is None:
        raise SystemExit("XTuner's command is not on the PATH: install xtuner into this Python.")
    work = folder / "xtuner-work"
    command = [xtuner, "train", str(config), "--work-dir", str(work)]
    cache = str(folder / "xtuner-cache")
    modules = [str(folder / "missing"), *filter(None, [os.environ.get("PYTHONPATH")])]
    missing = {"PYTHONPATH": os.pathsep.join(modules), "PATH": path, "HF_DATASETS_CACHE": cache}
    yield "xtuner train", command, work, missing
    work = folder / "tunedeck-work"
    command = [sys.executable, "-m", "tui", "train", str(config)]
    command += ["--work-dir", str(work), *([] if gpu.read().available else ["--gpus", "cpu"])]
    yield "tunedeck train", command, work, {"HF_DATASETS_CACHE": str(folder / "tunedeck-cache")}


def prepare(folder: Path, map_num_proc: int | None) -> Path:
    """Write model, rows and config."""
    model = folder / "model"
    subprocess.run([sys.executable, ROOT / "tests/support/tiny.py", model], check=True)
    config = tiny_config.write(folder, model, save=100000)
    rows = [{"instruction": f"Who are you? {number}", "input": "", "output": "Super Nova."}
            for number in range(ROWS)]  # fmt: skip
    (folder / "assistant.json").write_text(json.dumps(rows))
    line = f"    map_num_proc={map_num_proc},\n" if map_num_proc else ""
    text = config.read_text()
    assert "    map_num_proc=1,\n" in text
    config.write_text(text.replace("    map_num_proc=1,\n", line))
    (folder / "missing").mkdir()
    (folder / "missing/sitecustomize.py").write_text(MISSING)
    return config


def main() -> None:
    """Measure both, print the table."""
    parser = argparse.ArgumentParser(description="From the command to the first step.")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--map-num-proc", type=int)
    options = parser.parse_args()
    found: dict[tuple[str, str], list[Start]] = {}
    with tempfile.TemporaryDirectory(prefix="first-step-") as name:
        folder = Path(name)
        config = prepare(folder, options.map_num_proc)
        for _pair in range(options.pairs):
            for when in ("new rows", "same rows"):
                for side, command, work, env in sides(folder, config):
                    if when == "new rows":
                        shutil.rmtree(env["HF_DATASETS_CACHE"], ignore_errors=True)
                    found.setdefault((when, side), []).append(measure(command, work, **env))
                    print(when, side, found[when, side][-1], flush=True)
                    shutil.rmtree(work)
    _print(found)


def _print(found: dict[tuple[str, str], list[Start]]) -> None:
    print("\n| | first step, s | CPU s until then | whole process, s | CPU s |")
    print("| --- | --- | --- | --- | --- |")
    for (when, side), starts in found.items():
        cells = [_spread(list(values)) for values in zip(*starts, strict=True)]
        print(f"| {side}, {when} | {' | '.join(cells)} |")
    for when in ("new rows", "same rows"):
        pairs = list(zip(found[when, "tunedeck train"], found[when, "xtuner train"], strict=True))
        ratios = [
            _spread([ours[place] / plain[place] for ours, plain in pairs])
            for place in range(len(Start._fields))
        ]
        print(f"| ratio, {when} | {' | '.join(ratios)} |")


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f}–{max(values):.2f})"


if __name__ == "__main__":
    main()
