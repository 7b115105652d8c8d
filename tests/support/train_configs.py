"""Copies configs onto tiny models and data and trains each a few steps, all in this one process.

    python tests/support/train_configs.py WORK_DIR

prints one JSON line a config: ``case``, ``error`` (null when it trained),
``losses``, ``rates`` (learning rates), ``checkpoint``, ``moved`` (how far the
adapter's B matrices are from the zeros that they start as) and ``base`` (the number
formats of the weights below the adapter).
"""

from __future__ import annotations

import contextlib
import csv
import json
import sys
import traceback
from pathlib import Path
from typing import Any, NamedTuple

from engine.config.text.source import ConfigSource
from engine.config.text.values import Code
from tests.support import tiny

ROWS = 16
PAIRS = [("你是谁？", "我是Super Nova。"), ("Who are you?", "I am Super Nova, an assistant.")]


class Case(NamedTuple):
    """A config of the catalogue, the kind of model and the data that it is copied onto."""

    config: str
    kind: str
    data: str


CASES = (
    Case("internlm2_5_chat_7b_qlora_custom_sft_e3", "internlm2", "xtuner.json"),
    Case("internlm2_5_chat_7b_lora_custom_sft_e3", "internlm2", "alpaca.jsonl"),
    Case("llama3_8b_instruct_qlora_custom_sft_e3", "llama", "openai.jsonl"),
    Case("llama3_8b_instruct_lora_custom_sft_e3", "llama", "columns.csv"),
    Case("qwen2_5_7b_instruct_qlora_custom_sft_e3", "qwen2", "sharegpt.jsonl"),
    Case("qwen2_5_7b_instruct_lora_custom_sft_e3", "qwen2", "several"),
    Case("qwen2_5_7b_instruct_full_custom_sft_e3", "qwen2", "saved"),
    Case("qwen2_5_1_5b_instruct_lora_custom_sft_e3", "qwen2", "table.parquet"),
    # XTuner's own: an old one with its own dataset, plain text, pairs of answers.
    Case("qwen1_5_0_5b_chat_qlora_alpaca_e3", "qwen2", "xtuner.json"),
    Case("qwen1_5_0_5b_full_custom_pretrain_e1", "qwen2", "text.jsonl"),
    Case("internlm2_chat_1_8b_dpo_full", "internlm2", "pairs.jsonl"),
)

# What a CPU cannot do of what the configs say.
ON_CPU = {"optim_wrapper.type": "OptimWrapper", "env_cfg.dist_cfg.backend": "gloo"}
NOT_ON_CPU = ("optim_wrapper.loss_scale", "optim_wrapper.dtype")
FLOAT32 = (
    "model.llm.torch_dtype",
    "model.llm.quantization_config.bnb_4bit_compute_dtype",
    "model.ref_llm.torch_dtype",
)
# What keeps it short: a few steps, no processes for a few rows, and talk in one case only.
SHORT = {
    "max_length": 128,
    "max_epochs": 1,
    "accumulative_counts": 1,
    "default_hooks.logger.interval": 1,
    "train_dataset.map_num_proc": None,
    "alpaca_en.map_num_proc": None,
    "evaluation_tokens": 2,
}
TALKS = CASES[0]
IN_BF16 = CASES[3]
"""Whose base is loaded in bfloat16 all the same, to see that it stays so."""


def make_data(folder: Path) -> None:
    """The same talk in every form, and what is no talk."""
    import datasets

    talk = [PAIRS[number % 2] for number in range(ROWS)]
    lines: dict[str, list[dict[str, Any]]] = {
        "alpaca.jsonl": [dict(instruction=q, input="", output=a) for q, a in talk],
        "openai.jsonl": [
            dict(messages=[dict(role="user", content=q), dict(role="assistant", content=a)])
            for q, a in talk
        ],
        "sharegpt.jsonl": [
            dict(conversations=[{"from": "human", "value": q}, {"from": "gpt", "value": a}])
            for q, a in talk
        ],
        "text.jsonl": [dict(text=f"{q} {a}") for q, a in talk],
        "pairs.jsonl": [dict(prompt=q, chosen=a, rejected="No.") for q, a in talk[:3]],
    }
    own = [dict(conversation=[dict(system="Be kind.", input=q, output=a)]) for q, a in talk]
    (folder / "xtuner.json").write_text(json.dumps(own, ensure_ascii=False))
    (folder / "several").mkdir()
    for number, half in enumerate((talk[:8], talk[8:])):
        lines[f"several/{number}.jsonl"] = [
            dict(instruction=q, input="", output=a) for q, a in half
        ]
    for name, rows in lines.items():
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / name).write_text(text)
    with (folder / "columns.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("question", "answer"), *talk])
    table = datasets.Dataset.from_list(lines["alpaca.jsonl"])
    table.to_parquet(folder / "table.parquet")
    table.save_to_disk(folder / "saved")


def copy(case: Case, work: Path) -> Path:
    """The case's config as a user would copy it, then brought down to this machine's size."""
    from engine.joined.copying import copy_config
    from engine.settings import Settings

    data, model = work / "data" / case.data, work / "models" / case.kind
    target = work / "configs" / f"{case.config}.py"
    copy_config(case.config, target, settings=Settings(), data=data, model=str(model))
    source = ConfigSource.open(target)
    for_a_cpu(source, in_float32=case is not IN_BF16)
    for key, value in SHORT.items():
        if source.has(key):
            source.set(key, value)
    if not source.has("warmup_steps"):  # a share of three steps rounds to nothing
        source.set("param_scheduler", [])
    if case is not TALKS and source.has("evaluation_inputs"):
        source.set("evaluation_inputs", [])
    return source.save()


def for_a_cpu(source: ConfigSource, in_float32: bool = True) -> None:
    """Take out of a config what a CPU cannot do."""
    source.ensure_import("mmengine.optim", "OptimWrapper")
    for key, value in ON_CPU.items():
        source.set(key, Code(value) if key.endswith("type") else value)
    for key in NOT_ON_CPU:
        if source.has(key):
            source.unset(key)
    for key in FLOAT32:
        if source.has(key) and in_float32:
            source.set(key, Code("torch.float32"))


def train(config: Path, folder: Path) -> str | None:
    """Train as XTuner does; the traceback of what went wrong."""
    from xtuner.tools.train import main

    sys.argv = ["train", str(config), "--work-dir", str(folder)]
    try:
        main()
    except Exception:
        return traceback.format_exc()
    return None


def results(folder: Path) -> dict[str, Any]:
    """What the run in `folder` has left."""
    import torch

    logs = sorted(folder.glob("*/vis_data/scalars.json"))
    lines = [json.loads(line) for line in logs[-1].read_text().splitlines()] if logs else []
    steps = [one for one in lines if "loss" in one]
    saved = sorted(folder.glob("iter_*.pth"))
    moved = None
    if saved:
        state = torch.load(saved[-1], map_location="cpu", weights_only=False)["state_dict"]
        new = [tensor for name, tensor in state.items() if "lora_B" in name]
        moved = max((float(one.abs().max()) for one in new), default=None)
    return {
        "losses": [one["loss"] for one in steps],
        "rates": [one["lr"] for one in steps],
        "checkpoint": saved[-1].name if saved else None,
        "moved": moved,
    }


def note_bases() -> list[str]:
    """A list that holds the number formats of the base that got an adapter last."""
    import xtuner.model.sft as sft

    formats: list[str] = []
    adapt = sft.get_peft_model

    def noted(model: Any, *args: Any) -> Any:
        formats[:] = sorted({str(one.dtype) for one in model.parameters()})
        return adapt(model, *args)

    sft.get_peft_model = noted
    return formats


def main(work: Path) -> None:
    """Make models and data, then copy and train each case."""
    from mmengine.config import config as mmengine_config

    from engine.train import imports

    with imports.lightly():
        from engine.train import base, entry, shims

        shims.apply()
    base.install()
    formats = note_bases()
    # mmengine lays the config out five times a run: a third of the time of these.
    mmengine_config.FormatCode = lambda text, **_options: (text, True)
    for kind in tiny.KINDS:
        tiny.build(work / "models" / kind, kind)
    (work / "data").mkdir()
    make_data(work / "data")
    for case in CASES:
        folder = work / "runs" / case.config
        with contextlib.redirect_stdout(sys.stderr):
            config = copy(case, work)
            entry.find_beside(config)
            error = train(config, folder)
        found = {"case": case.config, "error": error, "base": formats, **results(folder)}
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
