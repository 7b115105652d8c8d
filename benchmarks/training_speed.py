"""What our configs gain over XTuner's own, in tokens a second, on the seed's case.

    python benchmarks/training_speed.py [--steps 20] [--seconds 600] [--toy]

InternLM2.5-7B's sizes and modelling code with random weights (`random_model.py`); each
config is copied by `tunedeck config copy` for a card of the named size, and trained by
XTuner's own trainer with our shims, one after another in one process: so all see the same
GPU, libraries and rows. What is evened out: no talk in between, a constant learning rate, an
optimizer step each micro-batch, one seed. Full samples of 2048 tokens.

For each: seconds a step (median and range of time - data_time after WARM steps), tokens/s,
the ratio to XTuner's QLoRA, the memory that XTuner logged beside what preflight expects, and
the losses. Those that train the same adapter as XTuner's tell whether the curve is the same.
--toy tries the whole way on a CPU with a tiny model.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
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

WARM = 5
"""Steps at the start that do not count."""
TOKENS = 2048
STOCK = "internlm2_5_chat_7b_qlora_alpaca_e3"
QLORA = "internlm2_5_chat_7b_qlora_custom_sft_e3"
LORA = "internlm2_5_chat_7b_lora_custom_sft_e3"
ALL_LAYERS = {"model.lora.target_modules": None}
"""XTuner's choice: the output head is adapted too."""
EVEN = {
    "randomness": {"seed": 42},
    "param_scheduler": [],
    "accumulative_counts": 1,
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


CASES = (
    Case("XTuner's QLoRA, untouched", STOCK),
    Case("our QLoRA for 24 GB", QLORA, 24),
    Case("our QLoRA for 80 GB", QLORA, 80),
    Case("our QLoRA for 80 GB, XTuner's adapter", QLORA, 80, ALL_LAYERS),
    Case("our LoRA for 24 GB", LORA, 24),
    Case("our LoRA for 80 GB", LORA, 80),
    Case("our LoRA for 80 GB, XTuner's adapter", LORA, 80, ALL_LAYERS),
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
        _for_a_cpu(source)
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


def _for_a_cpu(source: ConfigSource) -> None:
    source.ensure_import("mmengine.optim", "OptimWrapper")
    for key, value in train_configs.ON_CPU.items():
        source.set(key, Code(value) if key.endswith("type") else value)
    for key in train_configs.NOT_ON_CPU:
        source.unset(key)
    for key in train_configs.FLOAT32:
        if source.has(key):
            source.set(key, Code("torch.float32"))
    source.set("max_length", 128)


def train(config: Path, folder: Path) -> dict[str, Any]:
    """Train as XTuner does; seconds to the first step, steps, losses and memory (MiB)."""
    from xtuner.tools.train import main

    sys.argv = ["train", str(config), "--work-dir", str(folder)]
    began = time.time()
    main()
    [scalars] = folder.glob("*/vis_data/scalars.json")
    points = [json.loads(line) for line in scalars.read_text().splitlines()]
    steps = [one["time"] - one["data_time"] for one in points]
    first = json.loads((folder / "trainer.json").read_text())["started"]
    return {
        "start_s": round(first - began, 1),
        "steps": steps[WARM:],
        "losses": [round(one["loss"], 4) for one in points],
        "memory": points[-1].get("memory", 0),
    }


def row(case: Case, found: dict[str, Any], expected: estimate.Estimate, base: float) -> str:
    """A line of the table."""
    step = statistics.median(found["steps"])
    return (
        f"| {case.name} | {step:.3f} ({min(found['steps']):.2f}–{max(found['steps']):.2f}) "
        f"| {TOKENS / step:.0f} | {base / step:.2f} | {found['memory']} "
        f"| {expected.allocated_bytes >> 20} | {found['start_s']} |"
    )


def main() -> None:
    """Train each case and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=600, help="begin no case after these")
    parser.add_argument("--toy", action="store_true")
    args = parser.parse_args()
    began = time.monotonic()
    work = Path(tempfile.mkdtemp(prefix="training-speed-"))
    sizes = random_model.INTERNLM_77B
    random_model.folder(random_model.toy(sizes) if args.toy else sizes, work / "model")
    tiny.tokenizer().save_pretrained(work / "model")
    rows = [{"instruction": f"你是谁 {n}", "input": "", "output": "海" * 4000}
            for n in range(args.steps)]  # fmt: skip
    (work / "rows.json").write_text(json.dumps(rows), encoding="utf-8")

    from engine.train import imports

    with imports.lightly():
        from engine.train import base as own_base
        from engine.train import entry, hooks, shims

        shims.apply()
    own_base.install()
    hooks.install()
    name = "CPU" if args.toy else torch.cuda.get_device_name()
    print(f"{name}, torch {torch.__version__}, {args.steps} steps of {TOKENS} tokens")
    print(
        "| config | s/step (range) | tokens/s | ratio | logged MiB | expected MiB | first step, s |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |", flush=True)
    stock, losses = 0.0, {}
    for number, case in enumerate(CASES):
        if time.monotonic() - began > args.seconds:
            print(f"(no time for: {', '.join(one.name for one in CASES[number:])})")
            break
        try:
            with contextlib.redirect_stdout(sys.stderr):
                config, expected = prepare(case, number, work, args.toy)
                entry.find_beside(config)
                found = train(config, work / "runs" / str(number))
        except Exception:
            print(f"| {case.name} | failed |", flush=True)
            traceback.print_exc()
            continue
        finally:
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        stock = stock or statistics.median(found["steps"])
        losses[case.name] = found["losses"]
        print(row(case, found, expected, stock), flush=True)
    for case_name, told in losses.items():
        print(f"losses, {case_name}: {told}")


if __name__ == "__main__":
    main()
