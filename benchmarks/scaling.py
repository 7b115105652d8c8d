"""From 1 to N GPUs, under us and under plain torchrun: tokens a second, as ratios.

    python benchmarks/scaling.py --ranks 1 2 4 [--deepspeed deepspeed_zero2] [--rounds 2]
    python benchmarks/scaling.py --ranks 1 2 --cpu

Each rank trains as many samples in every case, so that a training on N GPUs is N times
the work (weak scaling). Plain is what ``NPROC_PER_NODE=N xtuner train`` does: torchrun
with XTuner's ``tools/train.py``, on the same config, rows and DeepSpeed setting, and with
what of ours lets it run with these versions at all (`engine.train.shims`). One after
the other, plain and ours in turns (ABAB). On GPUs a Llama of 1.2e9 random weights with
LoRA on samples of 2048 tokens (`random_model.py`); with --cpu a tiny one, whose processes
speak through gloo: that shows that the way works, and no more. Where there are fewer GPUs
than ranks all share one (`one_card.py`): then *of plain* still says something, *scaling* not.

Tokens a second: of all ranks, from the median of the first rank's steps after the first
`WARM`, without its waiting for data. *Of plain*: ours through plain on as many GPUs, the
median of the rounds' ratios. *Scaling*: through N times that on the fewest GPUs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import one_card
from engine.run import control, launch, planning
from engine.settings import Settings
from engine.workspace import Workspace
from overhead import ROOT, WARM, prepare, step_time

STEPS = WARM + 30
_SHIM = """\
import runpy
from engine.train import shims
shims.apply()  # without them XTuner does not start with these versions
runpy.run_module("xtuner.tools.train", run_name="__main__")
"""


def plain(config: Path, work: Path, ranks: int, deepspeed: str, cpu: bool) -> float:
    """Seconds a step of XTuner under torchrun."""
    program = work.with_suffix(".py")
    program.write_text(_SHIM)
    env = one_card.env(ranks)
    if cpu:
        env |= {"DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    else:
        env["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, cards(ranks)))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(ranks), str(program), str(config)]
    command += ["--work-dir", str(work), "--launcher", "pytorch"]
    command += ["--deepspeed", deepspeed] if deepspeed else []
    log = work.with_suffix(".log")
    with log.open("w") as out:
        done = subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, env=env)
    if done.returncode:
        errors = [line for line in log.read_text().splitlines() if "Error" in line]
        sys.exit(f"plain torchrun ended with {done.returncode}, see {log}: {errors[:5]}")
    return step_time(work)


def cards(ranks: int) -> list[int]:
    """The GPUs of a training: one for each rank, or one for all."""
    return [0] if one_card.needed(ranks) else list(range(ranks))


def ours(config: Path, folder: Path, name: str, ranks: int, deepspeed: str, cpu: bool) -> float:
    """Seconds a step of the same under us."""
    os.environ["PYTHONPATH"] = one_card.env(ranks).get("PYTHONPATH", "")
    plan = planning.plan(
        config,
        workspace=Workspace(folder),
        settings=Settings(),
        name=name,
        gpus=[] if cpu else cards(ranks),
        processes=ranks,
        deepspeed=deepspeed or None,
    )
    run = launch.start(plan, Settings())
    end = control.wait(run, 900)
    if end.state != "finished":
        sys.exit(f"{name} is {end.state}:\n{run.log.read_text(errors='replace')[-3000:]}")
    return step_time(run.path)


def main() -> None:
    """Train in every case, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--deepspeed", default="deepspeed_zero2", help='"": torch\'s own DDP')
    parser.add_argument("--cpu", action="store_true")
    options = parser.parse_args()
    if options.cpu:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    folder = Path(tempfile.mkdtemp(prefix="scaling-"))
    prepared = prepare(folder, options.cpu)
    tokens = prepared.batch * prepared.length
    rates: dict[tuple[int, str], list[float]] = defaultdict(list)
    for number in range(options.rounds):
        for ranks in sorted(options.ranks):
            prepared.rows(STEPS * prepared.batch * ranks)
            name = f"{ranks}-{number}"
            for who in ("plain", "ours"):
                if who == "plain":
                    work = folder / f"plain-{name}"
                    took = plain(prepared.config, work, ranks, options.deepspeed, options.cpu)
                else:
                    took = ours(
                        prepared.config,
                        folder,
                        f"ours-{name}",
                        ranks,
                        options.deepspeed,
                        options.cpu,
                    )
                rates[ranks, who].append(ranks * tokens / took)
                told = {"ranks": ranks, "who": who, "step_s": round(took, 5)}
                print(json.dumps(told | {"tokens_s": round(rates[ranks, who][-1])}), flush=True)
    table(rates, sorted(options.ranks))


def table(rates: dict[tuple[int, str], list[float]], ranks: list[int]) -> None:
    """A row for each number of GPUs."""
    middle = {key: statistics.median(values) for key, values in rates.items()}
    print("\n| GPUs | plain, tokens/s | ours, tokens/s | of plain | scaling, plain | ours |")
    print("| --- | --- | --- | --- | --- | --- |")
    for count in ranks:
        pairs = zip(rates[count, "ours"], rates[count, "plain"], strict=True)
        ratios = [mine / other for mine, other in pairs]
        scaled = [
            middle[count, who] / middle[ranks[0], who] * ranks[0] / count
            for who in ("plain", "ours")
        ]
        print(
            f"| {count} | {middle[count, 'plain']:.0f} | {middle[count, 'ours']:.0f} "
            f"| {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}) "
            f"| {scaled[0]:.2f} | {scaled[1]:.2f} |"
        )


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(ROOT / "benchmarks"), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    main()
