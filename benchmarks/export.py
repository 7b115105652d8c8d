"""Merging a real-sized model: ``tunedeck merge`` against ``cp``, peft and XTuner.

    python benchmarks/export.py [--sizes 0.1,0.5,1.3,3,8] [--pairs 3]
        [--with gpu,peft,xtuner,convert] [--seconds 420]

For each size a Llama of random bfloat16 weights is written in shards, with an
adapter of r=64 on all linear layers. In each pair, in turn: ``cp -r`` of the
base folder with every file synced (the physical limit), our merge as a whole
process, and what ``--with`` names. `convert` takes the same adapter as a
checkpoint; with `xtuner`, its pth_to_hf does the same. Ratios are of one pair; the
machine may be busy. Memory is the kernel's peak for the process: *anonymous*
is what it allocated, *mapped* are pages of files (libraries).

The weights are made with numpy. Exit status 1 when our merge differs from peft's by more
than its rounding to bfloat16 between the steps explains.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

RANK = 64
VOCABULARY = 49152
SHARD = 1 << 30
# hidden, intermediate, layers; the vocabulary is the same. Llamas of these sizes.
SIZES = {
    "0.1": (512, 1408, 12), "0.5": (1024, 4096, 24), "1.3": (2048, 5632, 24),
    "3": (3072, 8192, 26), "8": (4096, 14336, 36),
}  # fmt: skip

REFERENCES = ("cp + fsync", "tunedeck merge")
OURS = """
from tui.__main__ import main
main()
"""
PEFT = """
import sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
base, adapter, out = sys.argv[1:4]
model = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
PeftModel.from_pretrained(model, adapter).merge_and_unload().save_pretrained(out)
"""
# XTuner asks torch.cpu for something that is not there when there is no GPU.
XTUNER = """
import runpy, sys, torch
torch.cpu.is_bf16_supported = lambda *_: True
module, sys.argv = sys.argv[1], sys.argv[1:]
runpy.run_module("xtuner.tools.model_converters." + module, run_name="__main__", alter_sys=True)
"""
WATCHED = """
import atexit
def _tell():
    told = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
    print("PEAK", told["VmHWM"].split()[0], told["RssFile"].split()[0], flush=True)
atexit.register(_tell)
"""
COPY = 'cp -r "$0" "$1" && find "$1" -type f -exec sync {} +'


class Took(NamedTuple):
    """Seconds of a whole process, and its peak memory in MB: all, and what is files' pages."""

    seconds: float
    peak: float = 0
    mapped: float = 0


def command(arguments: list[str | Path]) -> Took:
    """Run a command and take its time; its words are shown if it fails."""
    os.sync()  # what is still to be written is not this command's
    started = time.perf_counter()
    done = subprocess.run(
        arguments, capture_output=True, text=True, env=os.environ | {"HF_HUB_OFFLINE": "1"}
    )
    seconds = time.perf_counter() - started
    if done.returncode:
        sys.exit(f"{done.stdout}{done.stderr}")
    told = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("PEAK ")]
    peak, mapped = told[-1] if told else ("0", "0")
    return Took(seconds, int(peak) * 1.024e-3, int(mapped) * 1.024e-3)


def python(code: str, *arguments: str | Path) -> Took:
    """A Python process that runs `code`."""
    return command([sys.executable, "-c", WATCHED + code, *arguments])


def shapes(size: str) -> dict[str, tuple[int, ...]]:
    """The tensors of a Llama with grouped attention (a quarter of the heads)."""
    hidden, middle, layers = SIZES[size]
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCABULARY, hidden)}
    for number in range(layers):
        layer = f"model.layers.{number}"
        found |= {
            f"{layer}.self_attn.q_proj.weight": (hidden, hidden),
            f"{layer}.self_attn.k_proj.weight": (hidden // 4, hidden),
            f"{layer}.self_attn.v_proj.weight": (hidden // 4, hidden),
            f"{layer}.self_attn.o_proj.weight": (hidden, hidden),
            f"{layer}.mlp.gate_proj.weight": (middle, hidden),
            f"{layer}.mlp.up_proj.weight": (middle, hidden),
            f"{layer}.mlp.down_proj.weight": (hidden, middle),
            f"{layer}.input_layernorm.weight": (hidden,),
            f"{layer}.post_attention_layernorm.weight": (hidden,),
        }
    return found | {"model.norm.weight": (hidden,), "lm_head.weight": (VOCABULARY, hidden)}


def save(path: Path, tensors: Mapping[str, tuple[int, ...]], dtype: str, seed: int) -> None:
    """A safetensors file of random weights, made piece by piece."""
    import ml_dtypes
    import numpy

    from engine.export import safetensors_file
    from engine.export.weights import Entry

    # One random stretch again and again: what the numbers are costs nobody time.
    random = numpy.random.default_rng(seed)
    kind = {"BF16": ml_dtypes.bfloat16, "F32": numpy.float32}[dtype]
    block = (random.standard_normal(1 << 23, numpy.float32) * numpy.float32(0.02)).astype(kind)
    with path.open("wb") as file:
        file.write(
            safetensors_file.header([Entry(name, dtype, one) for name, one in tensors.items()])
        )
        for shape in tensors.values():
            left = math.prod(shape)
            if len(shape) == 1:
                file.write(numpy.ones(left, kind).tobytes())
                continue
            while left:
                start = int(random.integers(len(block) // 2))
                piece = block[start : start + left]
                file.write(piece.tobytes())
                left -= len(piece)


def make_base(folder: Path, size: str) -> int:
    """Write the base model; returns its bytes."""
    folder.mkdir()
    hidden, middle, layers = SIZES[size]
    config = {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": hidden,
        "intermediate_size": middle, "num_hidden_layers": layers, "vocab_size": VOCABULARY,
        "num_attention_heads": hidden // 64, "num_key_value_heads": hidden // 256,
        "tie_word_embeddings": False, "torch_dtype": "bfloat16", "bos_token_id": 0,
        "eos_token_id": 1,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    words = {"<s>": 0, "</s>": 1, "a": 2}
    tokenizer = {
        "version": "1.0",
        "added_tokens": [],
        "model": {"type": "WordLevel", "vocab": words, "unk_token": "a"},
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>"})
    )
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    for name, shape in shapes(size).items():
        if 2 * sum(map(math.prod, (*shards[-1].values(), shape))) > SHARD and shards[-1]:
            shards.append({})
        shards[-1][name] = shape
    where: dict[str, str] = {}
    for number, some in enumerate(shards):
        file = f"model-{number + 1:05}-of-{len(shards):05}.safetensors"
        save(folder / file, some, "BF16", number)
        where |= dict.fromkeys(some, file)
    index = {"metadata": {}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return sum(file.stat().st_size for file in folder.iterdir())


def make_adapter(folder: Path, base: Path, size: str) -> None:
    """Write an adapter of r=64 on all linear layers."""
    folder.mkdir()
    tensors = {}
    for name, shape in shapes(size).items():
        if "_proj" in name:
            module = f"base_model.model.{name.removesuffix('.weight')}"
            tensors[f"{module}.lora_A.weight"] = (RANK, shape[1])
            tensors[f"{module}.lora_B.weight"] = (shape[0], RANK)
    save(folder / "adapter_model.safetensors", tensors, "F32", 9)
    targets = sorted({name.split(".")[-3] for name in tensors})
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": 16, "target_modules": targets,
              "task_type": "CAUSAL_LM", "base_model_name_or_path": str(base)}  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(config))


MAKE_CHECKPOINT = """
import sys, torch
from safetensors.torch import load_file
found = load_file(sys.argv[1] + "/adapter_model.safetensors")
state = {"llm." + name.replace(".weight", ".default.weight"): one for name, one in found.items()}
torch.save({"meta": {"cfg": open(sys.argv[2]).read(), "iter": 9}, "state_dict": state}, sys.argv[3])
"""
CONFIG = """
from peft import LoraConfig
from transformers import AutoModelForCausalLM
from xtuner.model import SupervisedFinetune
model = dict(
    type=SupervisedFinetune,
    llm=dict(type=AutoModelForCausalLM.from_pretrained, pretrained_model_name_or_path={base!r}),
    lora=dict(type=LoraConfig, r=64, lora_alpha=16, lora_dropout=0.1, bias='none',
              task_type='CAUSAL_LM'))
"""


def commands(folder: Path, wanted: list[str]) -> dict[str, Any]:
    """What is measured: name -> a function that makes the folder it is given."""
    base, adapter = folder / "base", folder / "adapter"
    found: dict[str, Any] = {
        "cp + fsync": lambda out: command(["sh", "-c", COPY, base, out]),
        "tunedeck merge": lambda out: python(OURS, "merge", base, adapter, out),
        "… its start alone": lambda _out: python(OURS, "merge", "--help"),
    }
    if "gpu" in wanted:
        found["tunedeck merge, GPU"] = lambda out: python(
            OURS, "merge", base, adapter, out, "--device", "cuda:0"
        )
    if "peft" in wanted:
        found["peft merge_and_unload"] = lambda out: python(PEFT, base, adapter, out)
    if "xtuner" in wanted:
        found["XTuner merge"] = lambda out: python(
            XTUNER, "merge", base, adapter, out, "--device", "cpu"
        )
    if "convert" in wanted:
        config, checkpoint = folder / "config.py", folder / "iter_9.pth"
        config.write_text(CONFIG.format(base=str(base)))
        python(MAKE_CHECKPOINT, adapter, config, checkpoint)
        if "xtuner" in wanted:
            found["XTuner pth_to_hf"] = lambda out: python(
                XTUNER, "pth_to_hf", config, checkpoint, out, "--safe-serialization"
            )
        found["tunedeck convert"] = lambda out: python(OURS, "convert", checkpoint, out)
    return found


def largest_difference(ours: Path, theirs: Path) -> int:
    """The largest distance of two weights, in units of the last place of bfloat16.

    Both compute the change in float32; peft rounds it before it adds it, and a
    sum near nothing then has few right digits: weights below 2**-9 are left out.
    """
    import numpy

    from engine.export.base_model import BaseModel

    worst = 0
    with BaseModel(ours) as one, BaseModel(theirs) as other:
        there = {w.entry.name: w for some in other.shards.values() for w in some}
        for weight in (w for some in one.shards.values() for w in some):
            for begin in range(0, weight.entry.size, 16 << 20):  # (of a large tensor, parts)
                end = min(begin + (2 << 20), weight.entry.size)
                pair = [
                    numpy.frombuffer(w.read(begin, end), numpy.int16).astype(numpy.int32)
                    for w in (weight, there[weight.entry.name])
                ]
                # The numbers as integers in their order: neighbours differ by one.
                ordered = [numpy.where(n < 0, -(n & 0x7FFF), n) for n in pair]
                large = (pair[0] & 0x7FFF) >= (127 - 9) << 7
                if large.any():
                    worst = max(worst, int(numpy.abs(ordered[0] - ordered[1])[large].max()))
    return worst


def measure(
    folder: Path, wanted: list[str], pairs: int, end: float
) -> tuple[dict[str, list[Took]], int]:
    """All commands, `pairs` times in turn; none is begun after the moment `end`."""
    todo = commands(folder, wanted)
    found: dict[str, list[Took]] = {name: [] for name in todo}
    worst = 0
    for number in range(pairs):
        for name, run in todo.items():
            if time.monotonic() > end and (number or name not in REFERENCES):
                continue
            out = folder / "out"
            shutil.rmtree(out, ignore_errors=True)
            found[name].append(run(out))
            if "peft" in wanted and name == "tunedeck merge":
                shutil.rmtree(folder / "ours", ignore_errors=True)
                out.rename(folder / "ours")
            if name == "peft merge_and_unload":
                worst = max(worst, largest_difference(folder / "ours", out))
            shutil.rmtree(out, ignore_errors=True)
            if name == list(todo)[-1] or name == "peft merge_and_unload":
                shutil.rmtree(folder / "ours", ignore_errors=True)  # disks are small
    if "peft" in wanted:
        print(f"  largest difference to peft's bfloat16 merge: {worst} units")
    return found, worst


def rows(found: dict[str, list[Took]]) -> Iterator[str]:
    """The table: medians, ratios to the two references."""
    for name, took in found.items():
        against = "XTuner pth_to_hf" if name == "tunedeck convert" else "cp + fsync"
        against = against if against in found else "cp + fsync"
        ratios = [
            one.seconds / other.seconds for one, other in zip(took, found[against], strict=False)
        ]
        if not ratios:
            yield f"  {name:22} not measured: out of time"
            continue
        middle = sorted(took)[len(took) // 2]
        memory = (
            f"{middle.peak - middle.mapped:7.0f} + {middle.mapped:3.0f} MB" if middle.peak else ""
        )
        yield (
            f"  {name:22} {statistics.median(one.seconds for one in took):7.2f} s   "
            f"{statistics.median(ratios):6.3f} ({min(ratios):.3f} to {max(ratios):.3f})  {memory}"
        )


def main() -> None:
    """Make the models, measure, print a table for each size."""
    parser = argparse.ArgumentParser(description="tunedeck merge against cp, peft and XTuner.")
    parser.add_argument("--sizes", default="1.3", help="of 0.1, 0.5, 1.3, 3, 8; with commas")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--with", dest="wanted", default="", help="of gpu, peft, xtuner, convert")
    parser.add_argument("--seconds", type=float, default=1e9, help="begin nothing after these")
    parser.add_argument("--folder", type=Path, help="where to work; needs four times the model")
    args = parser.parse_args()
    end = time.monotonic() + args.seconds
    differs = False
    for size in args.sizes.split(","):
        with tempfile.TemporaryDirectory(dir=args.folder) as name:
            folder = Path(name)
            total = make_base(folder / "base", size)
            make_adapter(folder / "adapter", folder / "base", size)
            count = sum(math.prod(shape) for shape in shapes(size).values())
            print(f"{count / 1e9:.2f}e9 parameters, {total / 1e9:.2f} GB, {args.pairs} pairs")
            print("  (seconds, ratio to cp + fsync or pth_to_hf, peak memory: own + files' pages)")
            found, worst = measure(folder, args.wanted.split(","), args.pairs, end)
            print("\n".join(rows(found)), flush=True)
            differs |= worst > 1
    sys.exit(differs)


if __name__ == "__main__":
    main()
