"""Measure what real XTuner training steps take on a GPU.

    python benchmarks/estimate.py --seconds 170 --json measured.jsonl
    python benchmarks/estimate.py --plans shared --seconds 85 --json shared.jsonl
    python benchmarks/estimate.py --plans shared --ranks 4 --json shared4.jsonl
    python benchmarks/estimate.py --plans counted --ranks 2 --json counted2.jsonl

Random weights of 0.5 to 7.7 billion parameters; a result is written as soon as
it is there; the same command again goes on with the plans that were not begun.
``--only WORD`` picks plans by name. ``shared`` are DeepSpeed's other stages and
offload; with ``--ranks`` that many processes train under torchrun, each on its own
GPU or, where there are fewer, all on one (``one_card.py``), and the peak is that of
the rank that held most. ``counted`` needs no GPU: processes that speak
through gloo train a small model in bfloat16, and what the allocator gave out is
counted. Otherwise, without a GPU (or with ``--toy``), toy models run through the
same code and no memory is told.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

STARTED = float(os.environ.setdefault("ESTIMATE_STARTED", str(time.monotonic())))
"""The processes under torchrun count from the moment that the command was given, too."""
sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
MAPPED = {"MALLOC_MMAP_THRESHOLD_": "16384", "MALLOC_MMAP_MAX_": "1000000"}
"""glibc maps what is larger by itself, and gives it back when it is freed."""
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


def plans() -> list[Any]:
    """What is measured, most telling first."""
    from training_plan import Plan, Shape

    one = Shape(1, 2048)
    return [
        Plan("1.2B", "lora", (Shape(1, 2048, True, 6838), Shape(8, 1024, False), Shape(1, 8192))),
        Plan("7.7B", "qlora", (Shape(1, 2048, True, 12223), Shape(1, 4096)), "eager"),
        Plan(
            "7.7B",
            "qlora",
            (
                Shape(1, 2048, True, 12209),
                Shape(4, 2048, True, 22366),
                Shape(8, 512, False),
                Shape(1, 8192),
            ),
        ),
        Plan("0.5B", "full", (Shape(4, 2048), Shape(8, 512, False))),
        Plan("1.2B", "full", (Shape(1, 4096), Shape(1, 512))),
        Plan(
            "7.7B",
            "qlora",
            (Shape(1, 2048, True, 32194), Shape(2, 1024, False)),
            checkpointing=False,
        ),
        Plan("1.2B", "qlora", (Shape(1, 2048, True, 3613), Shape(4, 4096))),
        Plan("7.7B", "lora", (one, Shape(2, 4096))),
        Plan("1.2B", "lora", (Shape(1, 2048, True, 5339), Shape(4, 2048)), zero=2),
        Plan("0.5B", "full", (Shape(2, 2048), Shape(1, 512)), zero=2),
        Plan("7.7B", "qlora", (Shape(1, 2048, True, 11672),), "eager", zero=2),
        Plan("1.2B", "lora", (Shape(2, 2048), Shape(1, 4096)), checkpointing=False),
        Plan("0.5B", "qlora", (Shape(4, 1024), Shape(1, 4096)), "eager", checkpointing=False),
        Plan("0.5B", "full", (one, Shape(4, 1024, False)), checkpointing=False),
        Plan("1.2B", "full", (one,), zero=2),
        Plan("1.2B", "full", (one,), weights="bfloat16"),
        Plan("0.5B", "full", (one,), optimizer="AdamW8bit"),
        Plan("1.2B", "lora", (one,), "eager"),
        Plan("7.7B", "lora", (one,), zero=2),
        Plan("7.7B", "qlora", (Shape(1, 2048, True, 12219),), "eager", dtype="float16"),
    ]


def shared() -> list[Any]:
    """What several GPUs share, and gradients that wait: the same points on one GPU and on more.

    Offload comes last: to pin its memory takes the better part of a minute.
    """
    from training_plan import Plan, Shape

    one = Shape(1, 2048)
    return [
        Plan("1.2B", "lora", (one, Shape(4, 2048)), zero=3),
        Plan("1.2B", "full", (one,), zero=1),
        Plan("1.2B", "full", (one,), zero=2, accumulation=2),
        Plan("1.2B", "full", (one,), zero=1, accumulation=2),
        Plan("0.5B", "full", (one, Shape(4, 2048)), accumulation=2),
        Plan("1.2B", "lora", (one,), zero=1),
        Plan("1.2B", "full", (one,), zero=2),
        Plan("1.2B", "lora", (one,), zero=2),
        Plan("1.2B", "lora", (one,)),
        Plan("0.5B", "full", (one,)),
        Plan("1.2B", "full", (one,), zero=3),
        Plan("7.7B", "qlora", (one,), zero=3),
        Plan("7.7B", "qlora", (one,), accumulation=2),
        Plan("1.2B", "lora", (one,), zero=2, offload=True),
        Plan("1.2B", "lora", (one,), zero=3, offload=True),
        Plan("0.5B", "full", (one,), zero=2, offload=True),
        Plan("0.5B", "full", (one,), zero=3, offload=True),
    ]


def counted() -> list[Any]:
    """A small model by all stages."""
    from training_plan import Plan, Shape

    few = (Shape(1, 16),)
    found = [Plan("8M", "full", few, zero=zero) for zero in (0, 1, 2, 3)]
    found += [Plan("8M", "full", few, zero=zero, accumulation=2) for zero in (0, 1, 2)]
    return found + [Plan("8M", "lora", few, zero=zero) for zero in (1, 2, 3)]


PLANS = {"one": plans, "shared": shared, "counted": counted}


def measure(options: argparse.Namespace) -> None:
    """Train with every plan until the time is over; a JSON line each."""
    from engine.train import imports, shims

    def left() -> float:
        return float(options.seconds - (time.monotonic() - STARTED))

    results = Path(options.json)
    with results.open("a", encoding="utf-8") as out, tempfile.TemporaryDirectory() as scratch:

        def tell(found: dict[str, Any], alone: bool = False) -> None:
            if ranks.own() and not alone:
                return
            found["at_s"] = round(time.monotonic() - STARTED, 1)
            out.write(json.dumps(found) + "\n")
            out.flush()
            os.fsync(out.fileno())
            print(line(found), flush=True)

        os.environ["HF_MODULES_CACHE"] = f"{scratch}/modules"
        with imports.lightly():
            shims.apply()
            import torch

            import device_memory
            import ranks
            import training_memory
            import training_plan

        counting = options.plans == "counted"
        cuda = torch.cuda.is_available() and not options.toy and not counting
        if not cuda:
            os.environ["DS_ACCELERATOR"] = "cpu"
            torch.cuda.is_available = lambda: False
        if counting:
            device_memory.count()
        begun = _begun(results)
        ranks.begin("cuda" if cuda else "cpu")
        tell(machine(torch, cuda))
        if counting:  # what is there from the first DeepSpeed on is no tensor
            first = training_plan.Plan("8M", "lora", (training_plan.Shape(1, 16),), zero=1)
            for _found in training_memory.measure(first, False, Path(scratch), left):
                pass
        for plan in PLANS[options.plans]():
            enough = ranks.agreed(left() > options.reserve)
            if options.only not in plan.name or plan.name in begun or not enough:
                continue
            tell({"begun": plan.name})
            try:
                for found in training_memory.measure(
                    plan, not (cuda or counting), Path(scratch), left
                ):
                    tell(found)
                    _end_if_broken(found.get("error", ""))
            except ranks.GivenUp as error:
                traceback.print_exc()
                tell({"plan": plan.name, "error": str(error)})
                _end_if_broken(str(error))
            except Exception as error:
                traceback.print_exc()
                words = ranks.words(error)
                if ranks.count() > 1:  # the others know nothing of it
                    tell({"plan": plan.name, "error": f"rank {ranks.own()}: {words}"}, alone=True)
                    os._exit(ranks.ENDED)  # no farewell: that would be waiting for them
                tell({"plan": plan.name, "error": words})
                _end_if_broken(words)


def _begun(path: Path) -> set[str]:
    """Plans that an earlier process began: one that killed it is not tried again."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return {found["begun"] for found in map(json.loads, lines) if "begun" in found}


def _end_if_broken(error: str) -> None:
    """After some errors a CUDA context is of no more use; the command may be given again."""
    if "CUDA error" in error or "CUBLAS" in error:
        sys.exit(3)


def machine(torch: Any, cuda: bool) -> dict[str, Any]:
    """The card and the libraries, and what a context alone takes."""
    from importlib.metadata import version

    names = ("torch", "transformers", "bitsandbytes", "deepspeed", "peft", "mmengine", "xtuner")
    found: dict[str, Any] = {"machine": {name: version(name) for name in names}}
    if cuda:
        free, total = torch.cuda.mem_get_info()
        before = total - free
        torch.ones(1, device="cuda")
        free, total = torch.cuda.mem_get_info()
        found |= {
            "card": torch.cuda.get_device_name(),
            "total": total,
            "context": total - free,
            "context_without_tensors": before,
        }
    return found


def line(found: dict[str, Any]) -> str:
    """One result for a person."""
    if "machine" in found or "begun" in found:
        return str(found)
    words = [f"{found['at_s']:6.1f} s  {found['plan']}"]
    if "batch" in found:
        words.append(f"{found['batch']} x {found['length']}{'' if found['packed'] else ' padded'}")
    if "error" in found:
        return "  ".join([*words, found["error"]])
    mib = {name: found[name] >> 20 for name in ("peak", "reserved", "used", "static")}
    words.append(" ".join(f"{name} {value}" for name, value in mib.items()))
    words.append(f"ranks {[one >> 20 for one in found['peaks']]}" if found["ranks"] > 1 else "")
    if found["expected"]:
        words.append(f"(a real run: {found['expected'] >> 20})")
    words.append(f"cap {found.get('cap')} {found['step_s']} s/step")
    return "  ".join(words)


def together(options: argparse.Namespace) -> int:
    """Start the processes under torchrun; their exit status.

    When an error of one has ended them all they go on, in new ones, with the next plan.
    """
    import one_card

    env = one_card.env(options.ranks)
    if options.plans == "counted":
        env |= MAPPED
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    each = ["--nproc-per-node", str(options.ranks), __file__, *sys.argv[1:]]
    results = Path(options.json)
    results.touch()
    with tempfile.TemporaryDirectory() as scratch:  # of ranks that are ended, too
        while True:
            before = _begun(results)
            command = [*torchrun, *each]
            status = subprocess.run(command, env=env | {"TMPDIR": scratch}).returncode
            over = time.monotonic() - STARTED > options.seconds - options.reserve
            if not status or over or _begun(results) == before:
                return status


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=170)
    parser.add_argument("--reserve", type=float, default=8, help="seconds a plan must have left")
    parser.add_argument("--json", default="measured.jsonl")
    parser.add_argument("--only", default="")
    parser.add_argument("--plans", choices=PLANS, default="one")
    parser.add_argument("--ranks", type=int, default=1, help="processes that train together")
    parser.add_argument("--toy", action="store_true")
    options = parser.parse_args()
    if options.seconds <= options.reserve:
        sys.exit("no time left")
    if "RANK" not in os.environ and (options.ranks > 1 or options.plans == "counted"):
        sys.exit(together(options))
    measure(options)


if __name__ == "__main__":
    main()
