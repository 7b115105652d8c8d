"""The many ways to break a good training: each fault and the code that must name it.

The tests seed every fault, and `benchmarks/preflight.py` gives the same ones to
XTuner itself. A fault breaks the copies of a `Bench`, so both see the same files.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.config.bench import Bench


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong."""

    name: str
    """In a few words, for the table."""
    code: str
    seed: Callable[[Bench], object]
    tokens: bool = False
    """Whether it takes the tokenizer to see it."""
    also: frozenset[str] = frozenset()
    """Other codes that are right to stand beside it."""


def _text(name: str, code: str, old: str, new: str, **more: Any) -> Fault:
    return Fault(name, code, lambda bench: bench.swap(old, new), **more)


def _line(name: str, code: str, line: str, **more: Any) -> Fault:
    return Fault(name, code, lambda bench: bench.add(line), **more)


def _remove(name: str) -> Callable[[Bench], object]:
    return lambda bench: [one.unlink() for one in bench.model.glob(name)]


def _shard(bench: Bench) -> None:
    """A model in two shards, the second of which did not arrive."""
    names = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    index = {"metadata": {"total_size": 1}, "weight_map": names}
    (bench.model / "model.safetensors.index.json").write_text(json.dumps(index))
    (bench.model / "model.safetensors").rename(bench.model / "model-00001-of-00002.safetensors")


def _torn(bench: Bench) -> None:
    file = bench.model / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])


def _own_code(bench: Bench) -> None:
    bench.json(
        "config.json",
        model_type="novalm",
        architectures=["NovaLMForCausalLM"],
        auto_map={"AutoConfig": "nova.NovaConfig", "AutoModelForCausalLM": "nova.NovaLM"},
    )


def _tokens_beyond(bench: Bench) -> None:
    """A tokenizer that was given two tokens more than the model has."""
    file = bench.model / "tokenizer.json"
    found = json.loads(file.read_text(encoding="utf-8"))
    size = json.loads((bench.model / "config.json").read_text())["vocab_size"]
    for number in range(2):
        found["added_tokens"].append(
            dict(found["added_tokens"][0], id=size + number, content=f"<|extra_{number}|>")
        )
    file.write_text(json.dumps(found), encoding="utf-8")


def _setting(**values: Any) -> Callable[[Bench], object]:
    """A DeepSpeed file with `values`."""

    def seed(bench: Bench) -> None:
        file = bench.root / "zero.json"
        file.write_text(json.dumps({"zero_optimization": {"stage": 2}, **values}))
        bench.options["deepspeed"] = str(file)
        # What a CPU needs beside.
        bench.swap('backend="nccl" if on_gpu else "gloo"', 'backend="gloo"')

    return seed


def _start(**options: Any) -> Callable[[Bench], object]:
    return lambda bench: bench.options.update(options)


def _used(bench: Bench) -> None:
    folder = bench.root / "work"
    folder.mkdir()
    (folder / "last_checkpoint").write_text("iter_20.pth")
    bench.options["work_dir"] = folder


def _not_a_folder(bench: Bench) -> None:
    (bench.root / "work").write_text("")
    bench.options["work_dir"] = bench.root / "work"


def _longest(bench: Bench) -> None:
    def lengthen(rows: list[Any]) -> None:
        rows[7]["conversation"][0]["output"] = "I am Super Nova. " * 60

    bench.data(lengthen)


def _wordy(bench: Bench) -> None:
    """A question so long that nothing of the answer is left within max_length."""

    def lengthen(rows: list[Any]) -> None:
        rows[7]["conversation"][0]["input"] = "Who are you? " * 90

    bench.data(lengthen)


def _no_output(rows: list[Any]) -> None:
    del rows[50]["conversation"][0]["output"]


def _small_adapter(bench: Bench) -> None:
    (bench.model / "config.json").rename(bench.model / "adapter_config.json")


def _cut_config(bench: Bench) -> None:
    path = bench.model / "config.json"
    path.write_bytes(path.read_bytes()[:20])


def _empty_weights(bench: Bench) -> None:
    (bench.model / "model.safetensors").unlink()
    (bench.model / "notes.bin").write_bytes(struct.pack("<Q", 0))


def _shared(
    name: str,
    code: str,
    seed: Callable[[Bench], object] = lambda _bench: None,
    also: frozenset[str] = frozenset({"sequence-flash"}),
) -> Fault:
    """A fault where two processes share a sample, all else as it has to be but flash-attn."""

    def sow(bench: Bench) -> None:
        _setting()(bench)
        bench.options["processes"] = 2
        bench.add("sequence_parallel_size = 2")
        bench.swap("type=DefaultSampler", "type=SequenceParallelSampler")
        bench.swap(
            "from xtuner.utils import PROMPT_TEMPLATE",
            "from xtuner.parallel.sequence import SequenceParallelSampler\n"
            "from xtuner.utils import PROMPT_TEMPLATE",
        )
        seed(bench)

    return Fault(name, code, sow, also=also)


_LLM = "type=AutoModelForCausalLM.from_pretrained,"
_PACK = "pack_to_max_length = False"
_LORA = 'task_type="CAUSAL_LM",'

FAULTS = (
    # The file
    _text("a bracket that is never closed", "config-syntax", "lr = 1e-3", "lr = ("),
    _text(
        "a variable misspelt (max_lenght)", "config-load", "max_length = 128", "max_lenght = 128"
    ),
    _text("division by zero", "config-load", "lr = 1e-3", "lr = 1 / 0"),
    _text("a nested key misspelt (lora_alhpa)", "unknown-key", "lora_alpha=", "lora_alhpa="),
    _text("a hook's key misspelt", "unknown-key", "max_keep_ckpts=", "max_keep_ckpt="),
    _text(
        "a top-level name misspelt (optim_wraper)",
        "unknown-name",
        "optim_wrapper",
        "optim_wraper",
        also=frozenset({"part-missing"}),
    ),
    _text("an optional name misspelt (resme)", "unknown-name", "resume = False", "resme = True"),
    _text(
        "no such prompt template",
        "name-missing",
        "TEMPLATE.qwen_chat",
        "TEMPLATE.qwen_chatt",
    ),
    _text("no such function", "name-missing", "process_hf_dataset", "process_hf_datasets"),
    _text("a package that is not installed", "module-missing", "from peft", "from peftt"),
    _text(
        "a package imported in earnest",
        "module-missing",
        "lr = 1e-3",
        "lr = __import__('swanlabb').rate",
        also=frozenset({"config-code"}),
    ),
    _text(
        "no train_cfg",
        "part-missing",
        "train_cfg = dict(type=TrainLoop, max_epochs=max_epochs)",
        "pass",
    ),
    # Values
    _text("a number in quotes", "wrong-type", "lr = 1e-3", 'lr = "1e-3"'),
    _text("a switch in quotes", "wrong-type", _PACK, 'pack_to_max_length = "False"'),
    _text("a path in resume", "wrong-type", "resume = False", 'resume = "runs/a/iter_20.pth"'),
    _text("batch size 0", "wrong-value", "batch_size = 4", "batch_size = 0"),
    _text("one beta", "wrong-type", "betas = (0.9, 0.999)", "betas = 0.9"),
    # XTuner's own rules
    _text(
        "epochs and iterations both",
        "two-lengths",
        "max_epochs=max_epochs)",
        "max_epochs=max_epochs, max_iters=9)",
    ),
    _text(
        "braces in the system prompt",
        "system-braces",
        'SYSTEM = "You are',
        'SYSTEM = "Answer as {json}. You are',
    ),
    _text(
        "a checkpoint that is not there",
        "checkpoint-missing",
        "load_from = None",
        'load_from = "iter_500.pth"',
    ),
    _text("resume without a checkpoint", "resume-nothing", "resume = False", "resume = True"),
    Fault(
        "variable-length attention without flash-attn",
        "varlen-flash",
        lambda bench: (
            bench.swap("use_varlen_attn = False", "use_varlen_attn = True"),
            bench.swap("batch_size = 4", "batch_size = 1"),
            bench.swap(_PACK, "pack_to_max_length = True"),
        ),
    ),
    Fault(
        "variable-length attention in batches",
        "varlen-batch",
        lambda bench: (
            bench.swap("use_varlen_attn = False", "use_varlen_attn = True"),
            bench.swap(_PACK, "pack_to_max_length = True"),
        ),
        also=frozenset({"varlen-flash"}),
    ),
    Fault(
        "variable-length attention with another attention",
        "varlen-attention",
        lambda bench: (
            bench.swap("use_varlen_attn = False", "use_varlen_attn = True"),
            bench.swap("batch_size = 4", "batch_size = 1"),
            bench.swap(_PACK, "pack_to_max_length = True"),
            bench.swap(_LLM, _LLM + ' attn_implementation="sdpa",'),
        ),
        also=frozenset({"varlen-flash"}),
    ),
    _shared("sequence parallel without flash-attn", "sequence-flash"),
    _shared(
        "sequence parallel without DeepSpeed",
        "sequence-deepspeed",
        lambda bench: bench.options.update(deepspeed=None),
    ),
    _shared(
        "three GPUs, and two share a sample",
        "sequence-gpus",
        lambda bench: bench.options.update(processes=3),
    ),
    _shared(
        "sequence parallel with another attention",
        "sequence-attention",
        lambda bench: bench.swap(_LLM, _LLM + ' attn_implementation="sdpa",'),
    ),
    _shared(
        "a sampler that gives each GPU its own sample",
        "sequence-sampler",
        lambda bench: bench.swap("type=SequenceParallelSampler", "type=DefaultSampler"),
    ),
    _shared(
        "a model whose samples XTuner cannot share",
        "sequence-model",
        lambda bench: bench.json(
            "config.json", model_type="gemma", architectures=["GemmaForCausalLM"]
        ),
    ),
    _shared(
        "heads that cannot be shared by three",
        "sequence-heads",
        lambda bench: (
            bench.swap("sequence_parallel_size = 2", "sequence_parallel_size = 3"),
            bench.options.update(processes=3),
        ),
    ),
    _shared(
        "a length that cannot be shared by two",
        "sequence-length",
        lambda bench: (
            bench.swap("max_length = 128", "max_length = 127"),
            bench.swap("use_varlen_attn = False", "use_varlen_attn = True"),
            bench.swap("batch_size = 4", "batch_size = 1"),
            bench.swap(_PACK, "pack_to_max_length = True"),
        ),
        also=frozenset({"sequence-flash", "varlen-flash"}),
    ),
    # The data
    _text("no such data file", "data-missing", "rows.json", "nowhere.json"),
    Fault(
        "the file given as a hub name",
        "data-missing",
        lambda bench: bench.swap('path="json", data_files=dict(train=data_path)', "path=data_path"),
    ),
    Fault(
        "the column has another name in all rows",
        "map-fn",
        lambda bench: bench.data(lambda rows: [{"talk": row["conversation"]} for row in rows]),
    ),
    _text(
        "a map function for another shape",
        "map-fn",
        "dataset_map_fn=None",
        "dataset_map_fn=alpaca_map_fn",
    ),
    Fault("'output' missing in row 50", "data-row", lambda bench: bench.data(_no_output)),
    Fault(
        "broken JSON",
        "data-broken",
        lambda bench: bench.rows.write_text('[{"conversation": []},\n {"conversation" 1}]'),
    ),
    Fault("no rows", "data-empty", lambda bench: bench.rows.write_text("[]")),
    Fault(
        "not UTF-8",
        "data-broken",
        lambda bench: bench.rows.write_bytes('[{"conversation": "尖米"}]'.encode("gbk")),
    ),
    # The model
    _text("no such model", "model-missing", "/model'", "/no-model'"),
    Fault("a folder without config.json", "model-not-a-model", _remove("config.json")),
    Fault("a config.json cut short", "model-not-a-model", _cut_config),
    Fault("a model without weights", "model-not-a-model", _empty_weights),
    Fault("an adapter instead of a model", "model-adapter", _small_adapter),
    Fault("a shard is missing", "model-incomplete", _shard),
    Fault("a download broken off", "model-incomplete", _torn),
    Fault("no tokenizer", "tokenizer-missing", _remove("tokenizer*")),
    Fault(
        "no beginning-of-text token",
        "tokenizer-bos",
        lambda bench: (
            bench.json("tokenizer_config.json", bos_token=None),
            bench.json("special_tokens_map.json", bos_token=None),
        ),
    ),
    Fault(
        "no end-of-text token",
        "tokenizer-eos",
        lambda bench: (
            bench.swap("TEMPLATE.qwen_chat", "TEMPLATE.default"),
            bench.json("tokenizer_config.json", eos_token=None),
            bench.json("special_tokens_map.json", eos_token=None),
        ),
        also=frozenset({"template"}),
    ),
    Fault("tokens that the model lacks", "tokenizer-vocabulary", _tokens_beyond),
    _text("padding on the left", "padding-side", 'side="right"', 'side="left"'),
    _text("another model's template", "template", "TEMPLATE.qwen_chat", "TEMPLATE.llama3_chat"),
    Fault("code of its own, not allowed", "remote-code", _own_code),
    _text(
        "samples beyond the model's context",
        "beyond-context",
        "max_length = 128",
        "max_length = 4096",
    ),
    _text(
        "an adapter for layers that are not there",
        "lora-targets",
        _LORA,
        _LORA + ' target_modules=["c_attn", "c_proj"],',
    ),
    # Devices and DeepSpeed
    _text("mixed precision on a CPU", "amp-cpu", "on_gpu = False", "on_gpu = True"),
    _text(
        "flash-attn that is not installed",
        "flash-missing",
        "torch_dtype=torch.bfloat16",
        'attn_implementation="flash_attention_2", torch_dtype=torch.bfloat16',
    ),
    Fault("a GPU that is not there", "gpu-missing", _start(gpus=[97])),
    Fault("no such DeepSpeed setting", "deepspeed", _start(deepspeed="deepspeed_zero9")),
    Fault(
        "a DeepSpeed file with a batch of its own",
        "deepspeed-batch",
        _setting(train_micro_batch_size_per_gpu=16),
    ),
    Fault(
        "a whole layer beside the adapter, in ZeRO-3 on two GPUs",
        "deepspeed-saved",
        lambda bench: (
            _setting(zero_optimization={"stage": 3})(bench),
            bench.options.update(processes=2),
            bench.swap(_LORA, _LORA + ' modules_to_save=["lm_head"],'),
        ),
    ),
    Fault(
        "a DeepSpeed file whose total does not fit",
        "deepspeed-total",
        _setting(train_batch_size=64),
    ),
    _line(
        "DeepSpeed with a plain optimizer wrapper",
        "deepspeed-wrapper",
        'strategy = dict(type="DeepSpeedStrategy", zero_optimization=dict(stage=2))\n'
        'runner_type = "FlexibleRunner"',
        also=frozenset({"deepspeed-launcher"}),
    ),
    _line("compiled layers, samples not packed", "compile-unfit", "compile_layers = True"),
    Fault(
        "compiled layers with ZeRO-3",
        "compile-unfit",
        lambda bench: (
            _setting(zero_optimization={"stage": 3})(bench),
            bench.add("compile_layers = True"),
            bench.swap(_PACK, "pack_to_max_length = True"),
        ),
    ),
    Fault("the folder of another run", "work-dir-used", _used),
    Fault("a folder that cannot be written to", "work-dir-write", _not_a_folder),
    # What takes the tokenizer
    _text(
        "max_length = 2",
        "no-samples",
        "max_length = 128",
        "max_length = 2",
        tokens=True,
        also=frozenset({"rows-dropped"}),
    ),
    _text(
        "a warm-up of 0 steps",
        "warmup-zero",
        "warmup_ratio = 0.1",
        "warmup_ratio = 0.01",
        tokens=True,
    ),
    _text(
        "a warm-up of 1 step",
        "warmup-one-step",
        "warmup_ratio = 0.1",
        "warmup_ratio = 0.02",
        tokens=True,
    ),
    Fault(
        "packing in 32 pieces",
        "pack-pieces",
        lambda bench: (
            bench.swap(_PACK, "pack_to_max_length = True"),
            bench.swap("map_num_proc=1", "map_num_proc=32"),
            bench.swap("max_length = 128", "max_length = 512"),
        ),
        tokens=True,
    ),
    Fault("an answer longer than max_length", "rows-cut", _longest, tokens=True),
    Fault("a question that leaves no room", "rows-dropped", _wordy, tokens=True),
    _text(
        "one checkpoint kept",
        "keep-one",
        "save_total_limit = 2",
        "save_total_limit = 1",
        tokens=True,
    ),
    _text(
        "no checkpoint at all",
        "never-saved",
        "by_epoch=False,\n        interval=save_steps,",
        "by_epoch=False,\n        save_last=False,\n        interval=1000,",
        tokens=True,
    ),
    _text(
        "an epoch and a third",
        "epochs-fraction",
        "max_epochs = 3",
        "max_epochs = 1.33",
        tokens=True,
    ),
    _text(
        "a batch beyond the data",
        "batch-beyond-data",
        "batch_size = 4",
        "batch_size = 96",
        tokens=True,
        also=frozenset({"warmup-zero"}),
    ),
    Fault(
        "no full batch, and the rest dropped",
        "no-steps",
        lambda bench: (
            bench.swap("batch_size = 4", "batch_size = 96"),
            bench.swap("batch_size=batch_size,", "batch_size=batch_size, drop_last=True,"),
        ),
        tokens=True,
        also=frozenset({"batch-beyond-data"}),
    ),
    _text(
        "one update in the whole training",
        "few-updates",
        "accumulative_counts = 1",
        "accumulative_counts = 64",
        tokens=True,
    ),
)
