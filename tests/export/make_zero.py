"""Checkpoints of several ranks, made by XTuner's DeepSpeed on a CPU: ``fixtures/zero-ranks``.

    python tests/export/make_zero.py tests/fixtures/zero-ranks [NAME …]

A case is a tiny Llama of uneven shapes under XTuner's SupervisedFinetune and
DeepSpeedStrategy, trained for `STEPS` steps by two or three processes under torchrun
that speak through gloo. Each ``NAME/checkpoint`` is what XTuner's trainer saves, and
``NAME/expected.safetensors`` what DeepSpeed's own zero_to_fp32 makes of it. Beside
some lies what was mixed up with it: rank 1's files of a later step (``later``) and of
another run (``other``).
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STEPS = 3
SIZES = {
    "vocab_size": 61, "hidden_size": 16, "intermediate_size": 23, "num_hidden_layers": 1,
    "num_attention_heads": 2, "num_key_value_heads": 1, "tie_word_embeddings": False,
}  # fmt: skip
FOUR_BITS = {**SIZES, "hidden_size": 64, "intermediate_size": 64}
"""NF4 comes in blocks of 64."""
CONFIG = """
model = dict(
    llm=dict(
        pretrained_model_name_or_path='/models/base',
        type='transformers.AutoModelForCausalLM.from_pretrained'),
    lora=dict(r=3, lora_alpha=6, lora_dropout=0.0, bias='none', task_type='CAUSAL_LM',
        modules_to_save=MODULES, type='peft.LoraConfig'),
    type='xtuner.model.SupervisedFinetune')
"""


@dataclass(frozen=True)
class Case:
    """How a checkpoint is made."""

    setting: str
    """XTuner's DeepSpeed setting."""
    ranks: int
    method: str = "lora"
    """lora, qlora, full, or saved: LoRA with a whole output head."""
    dtype: str = "bf16"
    mixed: bool = False
    """With files of a later step and of another run."""


CASES = {
    "zero1-lora-2": Case("deepspeed_zero1", 2),
    "zero1-full-3": Case("deepspeed_zero1", 3, "full"),
    "zero2-lora-2": Case("deepspeed_zero2", 2, mixed=True),
    "zero2-lora-3": Case("deepspeed_zero2", 3),
    "zero2-full-2": Case("deepspeed_zero2", 2, "full"),
    "zero2-full-3": Case("deepspeed_zero2", 3, "full"),
    "zero2-fp16-2": Case("deepspeed_zero2", 2, dtype="fp16"),
    "zero2-qlora-2": Case("deepspeed_zero2", 2, "qlora"),
    "zero2-saved-3": Case("deepspeed_zero2", 3, "saved"),
    "zero2-offload-2": Case("deepspeed_zero2_offload", 2),
    "zero3-lora-2": Case("deepspeed_zero3", 2, mixed=True),
    "zero3-lora-3": Case("deepspeed_zero3", 3),
    "zero3-full-3": Case("deepspeed_zero3", 3, "full"),
    "zero3-fp16-2": Case("deepspeed_zero3", 2, dtype="fp16"),
    "zero3-qlora-2": Case("deepspeed_zero3", 2, "qlora"),
    "zero3-offload-2": Case("deepspeed_zero3_offload", 2),
}


def start(out: Path, names: list[str]) -> None:
    """All cases of as many ranks in one torchrun; a fourth argument tells it that it is in one."""
    for ranks in (2, 3):
        mine = [name for name in names if CASES[name].ranks == ranks]
        if not mine:
            continue
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        torchrun += ["--nproc-per-node", str(ranks), __file__, str(out), *mine]
        subprocess.run(torchrun, check=True, env={**os.environ, "DS_ACCELERATOR": "cpu"})


def train(out: Path, names: list[str]) -> None:
    """What one of the ranks does."""
    import torch
    from deepspeed.accelerator import get_accelerator
    from mmengine.dist import init_dist
    from xtuner.parallel.sequence import init_sequence_parallel

    from engine.train import shims

    shims.apply()  # what mmengine and XTuner ask a GPU for
    # A CPU without arithmetic for it adds float16 up slowly, but rightly.
    type(get_accelerator()).is_fp16_supported = lambda _self: True
    init_dist("pytorch", "gloo", init_backend="deepspeed")
    init_sequence_parallel(1)
    rank = torch.distributed.get_rank()
    with tempfile.TemporaryDirectory() as scratch:
        # Before there is a DeepSpeed: under its stage 3 they would be made in pieces.
        blank(Path(scratch) / "model", SIZES)
        blank(Path(scratch) / "four-bits", FOUR_BITS)
        for name in names:
            case = CASES[name]
            made = out / name
            if rank == 0:
                shutil.rmtree(made, ignore_errors=True)
                made.mkdir(parents=True)
                print("==", name, flush=True)
            torch.distributed.barrier()
            run(case, made / "checkpoint", 0, Path(scratch), made if case.mixed else None)
            if case.mixed:
                run(case, made / "other", 1, Path(scratch))
            torch.distributed.barrier()
            if rank == 0:
                expect(made)
                for copied in made.glob("zero_to_*.py"):  # DeepSpeed's own tools
                    copied.unlink()
                for mixed in ("later", "other") if case.mixed else ():
                    for file in (made / mixed).iterdir():
                        if "_rank_1_" not in file.name:
                            file.unlink()
            torch.distributed.barrier()


def run(case: Case, out: Path, seed: int, scratch: Path, later: Path | None = None) -> None:
    """Train and save to `out`; one step more goes to ``later/later``."""
    import torch
    from xtuner.engine import DeepSpeedStrategy

    strategy = DeepSpeedStrategy(
        config=setting(case),
        gradient_accumulation_steps=1,
        train_micro_batch_size_per_gpu=1,
        gradient_clipping=1,
        exclude_frozen_parameters=True,
        sequence_parallel_size=1,
        work_dir=str(scratch),
    )
    torch.manual_seed(seed)
    optimizer = dict(type=torch.optim.AdamW, lr=1e-2)
    strategy.prepare(
        model(case, scratch),
        optim_wrapper=dict(type="DeepSpeedOptimWrapper", optimizer=optimizer),
        dispatch_kwargs={},
    )
    chance = random.Random(10 * seed + torch.distributed.get_rank())
    strategy.model.train()
    for _step in range(STEPS):
        step(strategy, chance)
    save(strategy, out, case, seed, STEPS)
    if later is not None:
        step(strategy, chance)
        save(strategy, later / "later", case, seed, STEPS + 1)
    strategy.model.destroy()


def setting(case: Case) -> dict[str, Any]:
    """XTuner's, in the number format of the case, with a scale that does not overflow."""
    import xtuner

    path = Path(xtuner.__file__).parent / "configs/deepspeed" / f"{case.setting}.json"
    told: dict[str, Any] = json.loads(path.read_text())
    told["bf16"] = {"enabled": case.dtype == "bf16"}
    told["fp16"] = {"enabled": case.dtype == "fp16", "initial_scale_power": 6}
    # The buckets of real models would take gigabytes here.
    told["zero_optimization"] |= {
        "reduce_bucket_size": 2000,
        "stage3_param_persistence_threshold": 100,
    }
    for part in ("offload_optimizer", "offload_param"):
        if part in told["zero_optimization"]:
            told["zero_optimization"][part]["pin_memory"] = False  # that takes a GPU's driver
    return told


def model(case: Case, scratch: Path) -> Any:
    """XTuner's SupervisedFinetune around a tiny Llama, read from a folder as a real one is."""
    import torch
    from mmengine.config import ConfigDict
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig
    from xtuner.model import SupervisedFinetune

    half = torch.bfloat16 if case.dtype == "bf16" else torch.float16
    llm: dict[str, Any] = {
        "type": AutoModelForCausalLM.from_pretrained,
        "pretrained_model_name_or_path": str(
            scratch / ("four-bits" if case.method == "qlora" else "model")
        ),
        "torch_dtype": half if case.method == "qlora" else torch.float32,
    }
    if case.method == "qlora":
        llm["quantization_config"] = {
            "type": BitsAndBytesConfig,
            "load_in_4bit": True,
            "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_compute_dtype": half,
        }
    lora: dict[str, Any] = {"type": LoraConfig, "r": 3, "lora_alpha": 6, "task_type": "CAUSAL_LM"}
    if case.method == "saved":
        lora["modules_to_save"] = ["lm_head"]
    return SupervisedFinetune(
        ConfigDict(llm),
        lora=None if case.method == "full" else ConfigDict(lora),
        use_activation_checkpointing=False,
    )


def blank(folder: Path, sizes: dict[str, Any]) -> None:
    """A folder with a random Llama."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(7)
    LlamaForCausalLM(LlamaConfig(**sizes)).save_pretrained(folder)


def step(strategy: Any, chance: random.Random) -> None:
    """One on random tokens, another text on each rank."""
    import torch

    tokens = torch.tensor([[chance.randrange(SIZES["vocab_size"]) for _ in range(12)]])
    data = {"input_ids": tokens, "labels": tokens, "attention_mask": torch.ones_like(tokens)}
    batch = {"data": data, "data_samples": None}
    strategy.model.train_step(batch, optim_wrapper=strategy.optim_wrapper)


def save(strategy: Any, out: Path, case: Case, seed: int, steps: int) -> None:
    """As mmengine's runner does: its name, the step and the config go with the checkpoint."""
    modules = "['lm_head']" if case.method == "saved" else "None"
    meta = {
        "cfg": CONFIG.replace("MODULES", modules) if case.method != "full" else "model = dict()",
        "iter": steps,
        "experiment_name": f"run_{seed}",
    }
    strategy.save_checkpoint(str(out), extra_ckpt={"meta": meta}, save_param_scheduler=False)


def expect(made: Path) -> None:
    """What zero_to_fp32 makes of ``checkpoint``."""
    from deepspeed.utils.zero_to_fp32 import _get_fp32_state_dict_from_zero_checkpoint as whole
    from safetensors.torch import save_file

    found = whole(str(made / "checkpoint"), True)
    tensors = {name: value.contiguous().clone() for name, value in found.items()}
    save_file(tensors, made / "expected.safetensors")


if __name__ == "__main__":
    given = sys.argv[2:] or list(CASES)
    (train if "RANK" in os.environ else start)(Path(sys.argv[1]).absolute(), given)
