"""What our configs gain over XTuner's own, in tokens a second, on the seed's case.

    python benchmarks/training_speed.py [speed|curves] [--seconds 600] [--toy]

InternLM2.5-7B's sizes and modelling code with random weights (`random_model.py`); each
config is copied by `tunedeck config copy` for a card of the named size, and trained by
XTuner's own trainer with our shims, one after another in one process: so all see the same
GPU, libraries and rows. What is evened out: no talk in between, one seed, the same learning
rate, which rises over the first steps. Full samples of 2048 tokens, of different made-up texts.

The first table says what a config becomes for a card of 24, 40 and 80 GB. The second is
about speed, each config with its own accumulation: seconds a micro-batch (mean over whole
rounds of accumulation after the first, least and most of the single ones), tokens/s, the ratio
to XTuner's QLoRA, the memory that XTuner logged beside what preflight expects, the seconds
until the first step is done (compiling is part of it). The third is about the curve: the same
adapter, an optimizer step each micro-batch, and how far the losses are from XTuner's.
--toy tries the whole way on a CPU with a tiny model.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import random
import statistics
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from tests.support import tiny, train_configs  # noqa: E402

import random_model  # noqa: E402
from engine.config.checks import loaded  # noqa: E402
from engine.config.checks.start import Start  # noqa: E402
from engine.config.memory import estimate, sizing  # noqa: E402
from engine.config.text.source import ConfigSource  # noqa: E402
from engine.config.text.values import Code  # noqa: E402
from engine.joined.copying import copy_config  # noqa: E402
from engine.settings import Settings  # noqa: E402

ROUND = 16
"""Micro-batches that are counted together: XTuner's QLoRA makes a step of each, ours of 4."""
TOKENS = 2048
STOCK = "internlm2_5_chat_7b_qlora_alpaca_e3"
QLORA = "internlm2_5_chat_7b_qlora_custom_sft_e3"
LORA = "internlm2_5_chat_7b_lora_custom_sft_e3"
CURVE = {"model.lora.target_modules": None, "accumulative_counts": 1}
"""XTuner's choice of layers, the output head among them; a step each micro-batch."""
PLAIN = {"compile_layers": False}
EVEN = {
    "randomness": {"seed": 42},
    "param_scheduler": [
        {"type": Code("LinearLR"), "start_factor": 0.1, "by_epoch": False, "begin": 0, "end": 10}
    ],
    "lr": 2e-4,
    "max_epochs": 1,
    "evaluation_inputs": [],
    "default_hooks.logger.interval": 1,
    "log_processor": {"by_epoch": False, "window_size": 1},
    "default_hooks.checkpoint.interval": 100000,
    "default_hooks.checkpoint.save_last": False,
}


class Case(NamedTuple):
    """A config of the catalogue, copied for a card of so many GB (0: as it is)."""

    name: str
    config: str
    card: int = 0
    changes: dict[str, Any] = {}  # noqa: RUF012  # nobody changes it


SPEED = (
    Case("XTuner's QLoRA, untouched", STOCK),
    Case("our QLoRA for 24 GB", QLORA, 24),
    Case("our QLoRA for 80 GB", QLORA, 80),
    Case("our LoRA for 24 GB", LORA, 24),
    Case("our LoRA for 80 GB", LORA, 80),
    Case("our QLoRA for 80 GB, not compiled", QLORA, 80, PLAIN),
    Case("our LoRA for 80 GB, not compiled", LORA, 80, PLAIN),
)
CARDS = (24, 40, 80)
"""GB."""
CURVES = (
    Case("XTuner's QLoRA", STOCK, 0, CURVE),
    Case("XTuner's QLoRA, bfloat16", STOCK, 0, CURVE | {"optim_wrapper.dtype": "bfloat16"}),
    Case("our QLoRA", QLORA, 80, CURVE),
    Case("our QLoRA, base in float32", QLORA, 80, CURVE | {"keep_base_dtype": False}),
    Case("our LoRA", LORA, 80, CURVE),
    Case("our LoRA, base in float32", LORA, 80, CURVE | {"keep_base_dtype": False}),
    Case("our LoRA, not compiled", LORA, 80, CURVE | PLAIN),
)


def prepare(case: Case, number: int, work: Path, toy: bool) -> tuple[Path, estimate.Estimate]:
    """The case's config as it is trained, and the memory that preflight expects of it."""
    path = work / "configs" / f"case_{number}.py"
    card = case.card * 10**9 or None
    data, model = work / "rows.json", str(work / "model")
    copy_config(case.config, path, settings=Settings(), data=data, model=model, card=card)
    source = ConfigSource.open(path)
    for key, value in {**EVEN, **case.changes}.items():
        source.set(key, value)
    if toy:
        train_configs.for_a_cpu(source)
        source.set("max_length", 128)
    source.save()
    config = loaded.load(path, Settings())
    assert config.error is None, config.error
    planned = sizing.plan(Start(path, config, Settings(), [0]))
    assert planned is not None
    # The trainer's model comes from memory; what was judged so far is what a user would have.
    source.ensure_import("random_model", "build")
    source.set("model.llm.type", Code("build"))
    source.set("model.llm.device", "cpu" if toy else "cuda")
    return source.save(), estimate.of(*planned)


def train(config: Path, folder: Path) -> dict[str, Any]:
    """Train as XTuner does; seconds to the first step's end, steps, losses and memory (MiB)."""
    from xtuner.tools.train import main

    sys.argv = ["train", str(config), "--work-dir", str(folder)]
    began = time.time()
    main()
    [scalars] = folder.glob("*/vis_data/scalars.json")
    points = [json.loads(line) for line in scalars.read_text().splitlines()]
    first = json.loads((folder / "trainer.json").read_text())["started"]
    return {
        "start_s": round(first - began + points[0]["time"], 1),
        "steps": [one["time"] - one["data_time"] for one in points],
        "losses": [round(one["loss"], 4) for one in points],
        "memory": points[-1].get("memory", 0),
    }


def text(number: int) -> str:
    """A made-up text of 4000 characters, of words that come again, another for each `number`."""
    chance = random.Random(number % 4)  # four authors
    letters = "海天山水人你我是谁请介绍一下自己"
    words = ["".join(chance.choices(letters, k=chance.randint(2, 6))) for _ in range(60)]
    own = random.Random(1000 + number)
    return "，".join(own.choices(words, k=1000))[:4000]


class Bench:
    """Trains one case after another."""

    def __init__(self, work: Path, toy: bool, until: float) -> None:
        self.work, self.toy, self.until = work, toy, until
        self.number = 0

    def train(self, case: Case) -> tuple[dict[str, Any], estimate.Estimate] | None:
        """What the training of `case` told, and the memory that was expected; None: it did not."""
        self.number += 1
        if time.monotonic() > self.until:
            print(f"(no time for {case.name})", flush=True)
            return None
        try:
            with contextlib.redirect_stdout(sys.stderr):
                config, expected = prepare(case, self.number, self.work, self.toy)
                return train(config, self.work / "runs" / str(self.number)), expected
        except Exception:
            print(f"| {case.name} | failed |", flush=True)
            traceback.print_exc()
            return None
        finally:
            torch._dynamo.reset()
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


def choices(bench: Bench) -> None:
    """Print what our configs become for a card, and whether they fit it."""
    print(f"| config | card | activations | must be free, MiB |\n|{' --- |' * 4}")
    for name in (QLORA, LORA):
        for card in CARDS:
            bench.number += 1
            with contextlib.redirect_stdout(sys.stderr):
                case = Case("", name, card)
                config, expected = prepare(case, bench.number, bench.work, bench.toy)
            again = ConfigSource.open(config).get("use_activation_checkpointing")
            kept = "computed again" if again else "kept"
            print(f"| {name} | {card} GB | {kept} | {expected.gpu_bytes >> 20} |", flush=True)
    print()


def speed(bench: Bench) -> None:
    """Print the table of seconds, tokens and memory."""
    columns = (
        "config | s/micro-batch | tokens/s | ratio | logged MiB | expected MiB | first step done, s"
    )
    print(f"| {columns} |\n|{' --- |' * 7}", flush=True)
    stock = 0.0
    for case in SPEED:
        if (told := bench.train(case)) is None:
            continue
        found, expected = told
        counted = found["steps"][ROUND:]
        mean = statistics.mean(counted)
        stock = stock or mean
        print(
            f"| {case.name} | {mean:.3f} ({min(counted):.2f}–{max(counted):.2f}) "
            f"| {TOKENS / mean:.0f} | {stock / mean:.2f} | {found['memory']} "
            f"| {expected.allocated_bytes >> 20} | {found['start_s']} |",
            flush=True,
        )


def curves(bench: Bench) -> None:
    """Print the losses, and how far they are from those of XTuner's own."""
    stock: list[float] = []
    print("\n| config | from XTuner's: mean, most | losses |\n| --- | --- | --- |", flush=True)
    for case in CURVES:
        if (told := bench.train(case)) is None:
            continue
        losses = told[0]["losses"]
        stock = stock or losses
        apart = [abs(one - other) for one, other in zip(losses, stock, strict=True)]
        shown = " ".join(f"{one:.3f}" for one in losses[::2])
        print(
            f"| {case.name} | {statistics.mean(apart):.3f}, {max(apart):.3f} | {shown} |",
            flush=True,
        )


def main() -> None:
    """Train each case and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("speed", "curves", "both"), nargs="?", default="both")
    parser.add_argument(
        "--rounds", type=int, default=2, help="of 16 micro-batches, after the first"
    )
    parser.add_argument("--seconds", type=float, default=600, help="begin no case after these")
    parser.add_argument("--toy", action="store_true")
    args = parser.parse_args()
    until = time.monotonic() + args.seconds
    work = Path(tempfile.mkdtemp(prefix="training-speed-"))
    sizes = random_model.INTERNLM_77B
    random_model.folder(random_model.toy(sizes) if args.toy else sizes, work / "model")
    tiny.tokenizer().save_pretrained(work / "model")
    count = ROUND * (args.rounds + 1)
    rows = [{"instruction": f"你是谁 {n}", "input": "", "output": text(n)} for n in range(count)]
    (work / "rows.json").write_text(json.dumps(rows), encoding="utf-8")

    from engine.train import imports

    with imports.lightly():
        from engine.train import base as own_base
        from engine.train import compiled, hooks, shims

        shims.apply()
    own_base.install()
    hooks.install()
    compiled.install()
    compiled.WORTH = 0
    name = "CPU" if args.toy else torch.cuda.get_device_name()
    print(f"{name}, torch {torch.__version__}, {count} micro-batches of {TOKENS} tokens")
    bench = Bench(work, args.toy, until)
    if args.what != "curves":
        choices(bench)
        speed(bench)
    if args.what != "speed":
        curves(bench)


if __name__ == "__main__":
    main()
