"""Runs of two ranks on one machine: the ways to train on several GPUs, and how they start.

Each rank has a GPU of its own, or both the only one. With TUNEDECK_RANKS_ON_CPU set they are
two processes on the CPU, which speak through gloo.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import msgspec
import psutil

from engine.joined import before_start
from engine.machine import gpu
from engine.run import launch, planning
from engine.run.folder import RunFolder
from engine.settings import Settings
from engine.workspace import Workspace
from tests.support import gpu_runs, rank_faults, tiny_config

ON_CPU = bool(os.environ.get("TUNEDECK_RANKS_ON_CPU"))
CARDS = [] if ON_CPU else gpu.read().gpus
SHARED = len(CARDS) == 1
"""Both ranks sit on the one card."""
SAVE = 5
EPOCHS = 4
STEPS = EPOCHS * tiny_config.ROWS // 4
"""Two ranks with two rows each."""
ON_GPU = {
    **gpu_runs.ON_GPU,
    "type=OptimWrapper,": 'type=AmpOptimWrapper, dtype="bfloat16",',
    "lr = 5e-3": "lr = 2e-4",
}
QLORA = {
    "import AutoModelForCausalLM, AutoTokenizer": (
        "import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig"
    ),
    "torch_dtype=torch.float32,": (
        "torch_dtype=torch.bfloat16, quantization_config=dict(type=BitsAndBytesConfig,"
        ' load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,'
        " bnb_4bit_compute_dtype=torch.bfloat16),"
    ),
}
FULL = {
    """    lora=dict(
        type=LoraConfig,
        r=8,
        lora_alpha=16,
        lora_dropout=0.0,
        bias="none",
        task_type="CAUSAL_LM",
    ),
""": "",
}
SEQUENCE = {
    "use_varlen_attn = False": "use_varlen_attn = False\nsequence_parallel_size = 2",
    "from xtuner.model import SupervisedFinetune": (
        "from xtuner.model import SupervisedFinetune\n"
        "from xtuner.parallel.sequence import SequenceParallelSampler"
    ),
    "DefaultSampler, shuffle": "SequenceParallelSampler, shuffle",
    "torch_dtype=torch.float32,": (
        'torch_dtype=torch.bfloat16, attn_implementation="flash_attention_2",'
    ),
}
DROPOUT = {"lora_dropout=0.0": "lora_dropout=0.1"}
SILENT = {'evaluation_inputs = ["你是谁", "Who are you?"]': "evaluation_inputs = []"}
"""No answers in between: under ZeRO-3 each of their tokens gathers the whole model."""


class Way(NamedTuple):
    """A way to train on several GPUs."""

    what: str
    stage: str
    changes: Mapping[str, str] = {}
    on_gpus: bool = False
    """Whether it means nothing on a CPU."""
    order: tuple[int, ...] = (0, 1)
    """Which of the GPUs, in which order."""


WAYS = {
    "lora": Way("LoRA, no ZeRO (DDP)", "", DROPOUT),
    "lora-zero2": Way("LoRA, ZeRO-2", "2", DROPOUT),
    "lora-zero2-turned": Way("LoRA, ZeRO-2, GPUs 1,0", "2", DROPOUT, True, (1, 0)),
    "qlora-zero2": Way("QLoRA, ZeRO-2", "2", {**DROPOUT, **QLORA}, True),
    "full-zero3": Way("full, ZeRO-3", "3", FULL),
    "full-zero3-offload": Way("full, ZeRO-3, offload", "3_offload", FULL, True),
    "sequence": Way("LoRA, ZeRO-2, sequence parallel 2", "2", SEQUENCE, True),
}


def why_not(name: str, way: Way) -> str:
    """Why a way cannot be tried here; "" if it can."""
    if way.on_gpus and ON_CPU:
        return "only on GPUs"
    if SHARED and way.order != (0, 1):
        return "only with two GPUs"
    if name == "sequence" and importlib.util.find_spec("flash_attn") is None:
        return "flash-attn is not installed, which XTuner asks for"
    return ""


def begin(
    workspace: Workspace,
    model: Path,
    name: str,
    way: Way,
    fault: str = "",
    epochs: int = EPOCHS,
    timeout: int = 0,
) -> RunFolder:
    """Start two ranks; `timeout` seconds they wait for each other, if not as usual."""
    folder = workspace.root / name
    folder.mkdir()
    # A checkpoint of all parameters takes 5 GB on a GPU: only the last, and one at a stop.
    save = SAVE if ON_CPU or "LoRA" in way.what else 100_000
    config = tiny_config.write(folder, model, epochs=epochs, save=save, ranks=2)
    text = config.read_text()
    backend = "gloo" if ON_CPU else "nccl"
    changes = {**({} if ON_CPU else ON_GPU), **way.changes, **SILENT}
    if timeout:
        changes = {**changes, 'backend="gloo"': f'backend="{backend}", timeout={timeout}'}
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    config.write_text(text)
    rank_faults.hook(fault)(config)
    gpus = [] if ON_CPU else [CARDS[0].id] if SHARED else [CARDS[at].id for at in way.order]
    plan = planning.plan(
        config,
        workspace=workspace,
        settings=Settings(),
        name=f"{name}-run",
        gpus=gpus,
        processes=2,
        deepspeed=way.stage,
    )
    if CARDS and fault in ("", "waits"):
        # (Preflight refuses two processes on one card.)
        each = msgspec.structs.replace(plan, gpus=plan.gpus * (2 if SHARED else 1))
        plan = before_start.expecting(plan, before_start.look(each, Settings()))
    return launch.start(plan, Settings())


class InTurn:
    """Runs in an order: each starts when it is asked for, on GPUs with the next one beside it.

    (Not more: ranks that wait for each other in NCCL take their cards' time, and all get slow.)
    """

    def __init__(
        self, order: Sequence[str], start: Callable[[str], RunFolder], threads: int = 1
    ) -> None:
        """`start` takes a name of `order`; so many threads call it at once."""
        self._order, self._start, self._threads = order, start, threads
        self._runs: dict[str, RunFolder] = {}

    def _begin(self, name: str) -> None:
        self._runs[name] = self._start(name)

    def __call__(self, name: str) -> RunFolder:
        """The run of that name."""
        at = self._order.index(name)
        wanted = self._order[at : at + (1 if ON_CPU else 2)]
        with ThreadPoolExecutor(self._threads) as threads:
            list(threads.map(self._begin, [one for one in wanted if one not in self._runs]))
        return self._runs[name]


def ranks(run: RunFolder) -> dict[int, int]:
    """The process id of each rank: torchrun's own workers, not what these have started."""
    assert run.state.pid is not None
    workers = psutil.Process(run.state.pid).children()
    return {int(one.environ()["RANK"]): one.pid for one in workers if "RANK" in one.environ()}
