"""What Tunedeck costs a training, and what the app costs the machine.

    python benchmarks/overhead.py step [--rounds 3] [--toy]   XTuner alone against XTuner under us
    python benchmarks/overhead.py hooks                       what our hooks take of each step
    python benchmarks/overhead.py follow                      the app on four runs: share of a core
    python benchmarks/overhead.py log                         5,000 lines a second: how late it is

`step` pairs ABAB in one go: on a GPU a Llama of 1.2e9 random weights (`random_model.py`)
with LoRA on samples of 2048 tokens; with --toy a tiny one, for trying it on a CPU.
A machine's step times differ by more from one training to the next than the 1 % that is
looked for: `hooks` times what we add to a step by itself.
`follow` and `log` run the app in a pseudo-terminal, with a writer in the trainers' place.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

import psutil

from terminal import Pty, Screen

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.support import run_files, tiny_config  # noqa: E402

from engine.machine import gpu  # noqa: E402
from engine.run import control, launch, planning  # noqa: E402
from engine.settings import Settings  # noqa: E402
from engine.workspace import Workspace  # noqa: E402

WARM = 10
"""Steps at the start that do not count."""
SECONDS = 20.0
"""How long the app is watched."""
_NUMBER = re.compile(r"line(\d{9})")


# XTuner alone, and under us


def step(rounds: int, toy: bool) -> None:
    """Print the seconds a step of each training, and the ratio of each pair."""
    folder = Path(tempfile.mkdtemp(prefix="overhead-"))
    prepared = prepare(folder, toy)
    prepared.rows(40 * prepared.batch if toy else 80)
    config = prepared.config
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(ROOT / "benchmarks"), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    ratios = []
    for number in range(rounds):
        alone = _alone(config, folder / f"alone-{number}", toy)
        ours = _under_us(config, folder, f"ours-{number}", toy)
        ratios.append(ours / alone)
        print(f"alone {alone:.5f} s, under us {ours:.5f} s, ratio {ratios[-1]:.4f}", flush=True)
    print(f"ratio: median {statistics.median(ratios):.4f}, {min(ratios):.4f} to {max(ratios):.4f}")


class Prepared(NamedTuple):
    """A training on samples that are all as long as they may be."""

    config: Path
    data: Path
    batch: int
    length: int
    """Tokens of a sample."""

    def rows(self, count: int) -> None:
        """Write so many."""
        rows = [
            {"instruction": f"你是谁 {number}", "input": "", "output": "海" * 2 * self.length}
            for number in range(count)
        ]
        self.data.write_text(json.dumps(rows), encoding="utf-8")


def prepare(folder: Path, toy: bool) -> Prepared:
    """The training in `folder`, without answers in between: they would be what is measured."""
    model = folder / "model"
    changes = []
    if toy:
        subprocess.run([sys.executable, ROOT / "tests/support/tiny.py", model], check=True)
    else:
        making = (
            "import sys; from pathlib import Path; import random_model as m; "
            "from tests.support import tiny; m.folder(m.LLAMA_12B, Path(sys.argv[1]));"
            " tiny.tokenizer().save_pretrained(sys.argv[1])"
        )
        env = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'benchmarks'}"}
        env["PYTHONPATH"] += os.pathsep + os.environ.get("PYTHONPATH", "")
        subprocess.run([sys.executable, "-c", making, model], check=True, env=env)
        changes = [
            (
                "import AutoModelForCausalLM, AutoTokenizer",
                "import AutoTokenizer\nfrom random_model import build",
            ),
            ("type=AutoModelForCausalLM.from_pretrained", 'type=build, device="cuda"'),
            ("torch_dtype=torch.float32", "torch_dtype=torch.bfloat16"),
            ("LinearLR, OptimWrapper", "AmpOptimWrapper, LinearLR"),
            ("type=OptimWrapper,", 'type=AmpOptimWrapper, dtype="bfloat16",'),
            ('backend="gloo"', 'backend="nccl"'),
            ("max_length = 128", "max_length = 2048"),
            ("batch_size = 2", "batch_size = 1"),
            ("        trust_remote_code=False,\n        torch_dtype", "        torch_dtype"),
        ]
    config = tiny_config.write(folder, model, epochs=1, save=100000)
    text = config.read_text()
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    text = re.sub(r"    dict\(\n        type=EvaluateChatHook.*?\n    \),\n", "", text, flags=re.S)
    config.write_text(text)
    data = folder / "assistant.json"
    return Prepared(config, data, *((2, 128) if toy else (1, 2048)))


def _alone(config: Path, work: Path, toy: bool) -> float:
    command = [sys.executable, "-m", "xtuner.tools.train", str(config), "--work-dir", str(work)]
    if toy:  # XTuner asks torch.cpu for what it does not have
        shim = (
            "import runpy, sys, torch; torch.cpu.is_bf16_supported = lambda *a, **k: True;"
            "sys.argv = sys.argv[1:]; runpy.run_module('xtuner.tools.train', run_name='__main__')"
        )
        command = [sys.executable, "-c", shim, *command[2:]]
    with work.with_suffix(".log").open("w") as log:
        subprocess.run(command, check=True, stdout=log, stderr=log)
    return step_time(work)


def _under_us(config: Path, folder: Path, name: str, toy: bool) -> float:
    gpus = [] if toy else [gpu.read().gpus[0].id]
    plan = planning.plan(
        config, workspace=Workspace(folder), settings=Settings(), name=name, gpus=gpus
    )
    run = launch.start(plan, Settings())
    end = control.wait(run, 600)
    assert end.state == "finished", run.log.read_text(errors="replace")[-2000:]
    return step_time(run.path)


def step_time(work: Path) -> float:
    """The median of what a step took without waiting for data."""
    [scalars] = work.glob("*/vis_data/scalars.json")
    points = [json.loads(line) for line in scalars.read_text().splitlines()][WARM:]
    return statistics.median(point["time"] - point["data_time"] for point in points)


def hooks(steps: int = 5000) -> None:
    """Print what our hooks take of a step with 2048 tokens, in microseconds."""
    from types import SimpleNamespace

    import torch
    from mmengine.logging import MessageHub

    from engine.train.continuing import ContinuingHook
    from engine.train.hooks import RanksHook, RunHook

    tokens = torch.ones(1, 2048, dtype=torch.int64)
    batch = {"data": {"input_ids": tokens, "attention_mask": tokens}}
    with tempfile.TemporaryDirectory() as folder:
        wrapper = SimpleNamespace(_accumulative_counts=16)
        runner = SimpleNamespace(
            work_dir=folder, iter=0, max_iters=steps + 1, optim_wrapper=wrapper
        )
        MessageHub.get_instance("overhead")
        of_all = RanksHook()
        ours, spent = (of_all, RunHook(of_all), ContinuingHook()), []
        for number in range(steps):
            runner.iter = number
            began = time.perf_counter()
            for hook in ours:
                hook.before_train_iter(runner, number, batch)
            for hook in ours:
                hook.after_train_iter(runner, number, batch)
            spent.append(time.perf_counter() - began)
    spent.sort()
    print(f"{1e6 * spent[steps // 2]:.0f} µs a step (95 %: {1e6 * spent[steps * 95 // 100]:.0f})")


# The app


class Writer(threading.Thread):
    """Writes what trainers write: a step a second into each run, or many lines into the log."""

    def __init__(self, runs: list[Path], lines_a_second: int = 0) -> None:
        super().__init__(daemon=True)
        self.runs, self.rate = runs, lines_a_second
        self.written: list[tuple[float, int]] = []
        """When which line was the last one written."""
        self.over = threading.Event()

    def run(self) -> None:
        """Write until it is over."""
        at, number, began = 1000, 0, time.perf_counter()
        while not self.over.wait(0.02 if self.rate else 1.0):
            if not self.rate:
                for run in self.runs:
                    run_files.add_steps(run, at, at + 1, steps=100000)
                at += 1
                continue
            due = int((time.perf_counter() - began) * self.rate)
            text = "".join(f"line{n:09} a line as long as a step's usually is, {'x' * 60}\n"
                           for n in range(number, due))  # fmt: skip
            with (self.runs[0] / "trainer.log").open("a") as log:
                log.write(text)
            number = due
            self.written.append((time.perf_counter(), number - 1))


def _watched(runs: int, size: tuple[int, int], rate: int) -> None:
    folder = Path(tempfile.mkdtemp(prefix="follow-"))
    workspace = Workspace(folder)
    made = [
        run_files.write_run(workspace, f"训练-{n}", "training", step=1000, steps=100000)
        for n in range(runs)
    ]
    env = {"XDG_CONFIG_HOME": str(folder / "config"), "XDG_CACHE_HOME": str(folder / "cache")}
    app = Pty([sys.executable, "-m", "tui", str(folder)], *size, **env)
    app.read(4.0)
    app.write(b"\x1bOS")  # F4: Train
    app.until("训练-".encode())
    writer = Writer(made, rate)
    writer.start()
    app.read(3.0)
    process, late = psutil.Process(app.pid), []
    before, began = process.cpu_times(), time.perf_counter()
    bytes_written, screen, newest = 0, Screen(*size), -1
    screen.take(app.output)
    while (now := time.perf_counter()) < began + SECONDS:
        fresh = app.read(0.02)
        bytes_written += len(fresh)
        screen.take(fresh)
        shown = max(map(int, _NUMBER.findall(screen.text)), default=-1) if rate and fresh else -1
        if shown > newest:
            newest = shown
            # How long ago the newest line shown was the newest line written.
            times = [when for when, number in writer.written if number <= newest]
            late.append(now - times[-1] if times else 0.0)
    after = process.cpu_times()
    writer.over.set()
    used = after.user + after.system - before.user - before.system
    print(
        f"{size[0]}x{size[1]}: {100 * used / SECONDS:.1f} % of a core, "
        f"{bytes_written / SECONDS:.0f} bytes/s"
        + (f", {len(late)} frames, late by {statistics.median(late):.2f} s in the median,"
           f" {max(late):.2f} at most" if late else ""),
        flush=True,
    )  # fmt: skip
    app.close()


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("step", "hooks", "follow", "log"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--toy", action="store_true")
    args = parser.parse_args()
    if args.what == "step":
        step(args.rounds, args.toy)
        return
    if args.what == "hooks":
        hooks()
        return
    for size in ((140, 45), (80, 24)):
        _watched(4 if args.what == "follow" else 1, size, 0 if args.what == "follow" else 5000)


if __name__ == "__main__":
    main()
