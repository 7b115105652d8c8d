"""Memory of real XTuner training steps, one plan after another in one process.

XTuner's own SupervisedFinetune (built from a config's ``llm`` and ``lora``),
mmengine's optimizer wrapper or XTuner's DeepSpeed strategy, XTuner's collate
function; random tokens. What a Runner adds to these holds no device memory.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import random
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.optim import AdamW
from torch.utils._python_dispatch import TorchDispatchMode

import random_model

NONE = 0
COUNTING: Meter | None = None
"""Set where what tensors take is counted on a CPU."""
SMALL = {
    "reduce_bucket_size": 2_000_000,
    "stage3_prefetch_bucket_size": 200_000,
    "stage3_max_live_parameters": 3_000_000,
    "stage3_max_reuse_distance": 3_000_000,
    "stage3_param_persistence_threshold": 1_000,
    "sub_group_size": 1_500_000,
}
"""DeepSpeed's sizes for a model that is a hundred times smaller than a real one."""


class _Mallinfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
        "fordblks", "keepcost",
    )]  # fmt: skip


class Meter(TorchDispatchMode):
    """What tensors take on a CPU, from glibc: bytes that it mapped, seen after every operation.

    The process has to be started so that every tensor of some size has a mapping of its
    own (`estimate.MAPPED`). torch's profiler does not see what other threads free, as gloo's do.
    """

    def __init__(self) -> None:
        super().__init__()
        self._ask = ctypes.CDLL(None).mallinfo2
        self._ask.restype = _Mallinfo
        self._peak = 0
        self.__enter__()

    @property
    def live(self) -> int:
        """Now."""
        return int(self._ask().hblkhd)

    def peak_since(self) -> int:
        """The most that was held since this was last asked for."""
        found, self._peak = max(self._peak, self.live), self.live
        return found

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self._peak = max(self._peak, self.live)
        return result


@dataclass(frozen=True)
class Shape:
    """One micro-batch."""

    batch: int
    length: int
    packed: bool = True
    """False: rows of different lengths, the longest of `length` tokens, padded."""
    expected: int = 0
    """MiB that a real run of XTuner logged as ``memory``, 0 where none was made."""

    def lengths(self) -> list[int]:
        """Tokens of each row."""
        if self.packed:
            return [self.length] * self.batch
        return [self.length - self.length * row // (2 * self.batch) for row in range(self.batch)]


@dataclass(frozen=True)
class Plan:
    """One model, made once, and the micro-batches it is trained with."""

    size: str
    method: str
    """qlora, lora or full."""
    shapes: tuple[Shape, ...]
    attention: str = "sdpa"
    checkpointing: bool = True
    zero: int = 0
    offload: bool = False
    """XTuner's ``deepspeed_zeroN_offload``: the optimizer's part on the host, in ZeRO-3 all."""
    accumulation: int = 1
    """Micro-batches for one step of the optimizer."""
    dtype: str = "bfloat16"
    """Of the autocast, and of an adapter's base as the config asks for it."""
    weights: str = ""
    """Of the weights of full fine-tuning; "" is float32, as XTuner's configs have it."""
    optimizer: str = "AdamW"

    @property
    def name(self) -> str:
        """One line that tells it from the others."""
        parts = [self.size, self.method, self.attention, self.dtype]
        parts += ["checkpointing" if self.checkpointing else "no checkpointing"]
        parts += [f"ZeRO-{self.zero}{' offload' if self.offload else ''}"] if self.zero else []
        parts += [f"accumulation {self.accumulation}"] if self.accumulation > 1 else []
        parts += [self.weights] if self.weights else []
        parts += [self.optimizer] if self.optimizer != "AdamW" else []
        return ", ".join(parts)

    def config(self, path: str) -> dict[str, Any]:
        """The part of a config that decides memory, as `engine.config.checks.loaded` gives it."""
        llm: dict[str, Any] = {"pretrained_model_name_or_path": path, "trust_remote_code": True}
        llm["attn_implementation"] = self.attention
        if self.method != "full":
            llm["torch_dtype"] = {"$ref": f"torch:{self.dtype}"}
        elif self.weights:
            llm["torch_dtype"] = {"$ref": f"torch:{self.weights}"}
        if self.method == "qlora":
            llm["quantization_config"] = {
                "load_in_4bit": True,
                "bnb_4bit_compute_dtype": {"$ref": f"torch:{self.dtype}"},
                "bnb_4bit_use_double_quant": True,
                "bnb_4bit_quant_type": "nf4",
            }
            if self.zero == 3:  # as XTuner sets it: DeepSpeed cuts no whole numbers
                storage = {"$ref": f"torch:{self.dtype}"}
                llm["quantization_config"]["bnb_4bit_quant_storage"] = storage
        model: dict[str, Any] = {"llm": llm, "use_activation_checkpointing": self.checkpointing}
        if self.method != "full":
            model["lora"] = {
                "r": 64,
                "lora_alpha": 16,
                "lora_dropout": 0.1,
                "bias": "none",
                "task_type": "CAUSAL_LM",
            }
        optimizer = {"type": {"$ref": f"torch.optim:{self.optimizer}"}, "lr": 2e-4}
        wrapper = {"dtype": self.dtype, "optimizer": optimizer}
        wrapper["accumulative_counts"] = self.accumulation
        return {"model": model, "optim_wrapper": wrapper}

    def deepspeed(self) -> dict[str, Any] | None:
        """XTuner's own setting of that stage; None without."""
        if not self.zero:
            return None
        import xtuner

        name = f"deepspeed_zero{self.zero}{'_offload' if self.offload else ''}.json"
        path = Path(xtuner.__file__).parent / "configs/deepspeed" / name
        told = dict(json.loads(path.read_text(encoding="utf-8")))
        told["zero_optimization"] |= SMALL if COUNTING else {}
        return told


def measure(
    plan: Plan, toy: bool, scratch: Path, left: Callable[[], float]
) -> Iterator[dict[str, Any]]:
    """Train with each shape of `plan`; a result each, in bytes. Stops when no seconds are `left`.

    An error of one shape is its result's ``error``; one of the model is raised.
    """
    cuda = torch.cuda.is_available()
    device = "cuda" if cuda else "cpu"
    sizes = random_model.SIZES[plan.size]
    if toy:
        sizes = random_model.toy(sizes)
    where = random_model.folder(sizes, scratch / plan.size)
    _clean()
    idle = _used() - _reserved()
    before = _allocated()
    started = time.monotonic()
    model, wrapper, close = _prepare(plan, where, device)
    prepared = _peak_since()
    built = time.monotonic() - started
    facts = {
        "plan": plan.name,
        "sizes": sizes,
        "config": plan.config(str(where)),
        "zero": plan.zero,
        "deepspeed": plan.deepspeed(),
        "ranks": ranks(),
        "idle": idle,
        "before": before,
        "prepared_peak": prepared,
        "build_s": round(built, 2),
        "parameters": _count(model),
    }
    try:
        for shape in plan.shapes:
            if not agreed(left() > 0):
                return
            yield _of_all({**facts, **_shape(plan, shape, model, wrapper, sizes, toy)})
    finally:
        close()
        del model, wrapper, close
        _clean()


def _shape(
    plan: Plan, shape: Shape, model: Any, wrapper: Any, sizes: Any, toy: bool
) -> dict[str, Any]:
    lengths = [max(8, one // 64) if toy else one for one in shape.lengths()]
    facts: dict[str, Any] = {
        "batch": shape.batch,
        "length": max(lengths),
        "packed": shape.packed,
        "expected": shape.expected << 20,
    }
    _clean()
    started = time.monotonic()
    try:
        batch = _batch(lengths, sizes["vocab_size"])
        phases = _Phases(wrapper)
        least = plan.accumulation * (2 if plan.zero == 3 else 1)
        steps = [_step(model, wrapper, batch, phases) for _one in range(least)]
        while not _stepped(wrapper, plan) and len(steps) < 5 * least:
            steps.append(_step(model, wrapper, batch, phases))  # the loss scale was too large
        # Now beside the optimizer's state; ZeRO-3 gathers ahead when it has seen two.
        steps += [_step(model, wrapper, batch, phases) for _one in range(plan.accumulation)]
        facts |= {
            "first": steps[0],
            "later": steps[-1],
            "peak": max((one["peak"] for one in steps), default=0),
            "static": _allocated(),
            "reserved": _reserved(),
            "used": _used(),
            "process": _process(),
            "losses": [one["loss"] for one in steps],
            "stepped": _stepped(wrapper, plan),
        }
        facts["step_s"] = steps[-1]["seconds"]
        if torch.cuda.is_available() and not plan.zero and plan.accumulation == 1 and ranks() == 1:
            facts["cap"] = _cap(model, wrapper, batch, phases, int(facts["peak"]))
    except Exception as error:
        facts["error"] = f"{type(error).__name__}: {error}"[:600]
        _forget(wrapper)
    phases.close()
    facts["seconds"] = round(time.monotonic() - started, 2)
    return facts


class _Phases:
    """Notes the peak of each part of a step: forward with the loss, backward, optimizer."""

    def __init__(self, wrapper: Any) -> None:
        self.peaks: dict[str, int] = {}
        self.wrapper = wrapper
        backward, step = wrapper.backward, wrapper.step

        def timed_backward(*args: Any, **options: Any) -> None:
            self.peaks["forward"] = _peak_since()
            backward(*args, **options)
            self.peaks["backward"] = _peak_since()

        def timed_step(*args: Any, **options: Any) -> None:
            step(*args, **options)
            self.peaks["step"] = _peak_since()

        wrapper.backward, wrapper.step = timed_backward, timed_step

    def close(self) -> None:
        """The wrapper as it was."""
        del self.wrapper.backward, self.wrapper.step


def _step(model: Any, wrapper: Any, batch: Any, phases: _Phases) -> dict[str, Any]:
    phases.peaks = {}
    _peak_since()
    started = time.monotonic()
    data = {"data": dict(batch["data"]), "data_samples": None}
    loss = model.train_step(data, optim_wrapper=wrapper)["loss"]
    told = float(loss)
    seconds = time.monotonic() - started
    after = _peak_since()
    peaks = dict(phases.peaks)
    return {
        **peaks,
        "peak": max(after, *peaks.values()),
        "loss": told,
        "seconds": round(seconds, 3),
    }


def _cap(model: Any, wrapper: Any, batch: Any, phases: _Phases, peak: int) -> dict[str, Any]:
    """How little memory the allocator can do with: the least multiple of `peak` that trains."""
    total = torch.cuda.mem_get_info()[1]
    tried: dict[str, Any] = {}
    for factor in (1.02, 1.06, 1.15):
        _clean()
        torch.cuda.set_per_process_memory_fraction(min(1.0, peak * factor / total))
        try:
            _step(model, wrapper, batch, phases)
            tried[str(factor)] = "trains"
            break
        except torch.OutOfMemoryError:
            tried[str(factor)] = "out of memory"
            _forget(wrapper)
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
    return tried


def _forget(wrapper: Any) -> None:
    """Drop what a broken step has left behind."""
    with contextlib.suppress(NotImplementedError):  # DeepSpeed drops its own
        wrapper.zero_grad()
    _clean()


def _prepare(plan: Plan, where: Path, device: str) -> tuple[Any, Any, Callable[[], None]]:
    """The model, its optimizer wrapper and how to close them."""
    from mmengine.optim import build_optim_wrapper
    from xtuner.model import SupervisedFinetune

    settings = _objects(plan, where, device)
    model = SupervisedFinetune(**settings["model"])
    if plan.zero:
        return _deepspeed(plan, model, settings["optimizer"], device)
    model = model.to(device)
    wrapper = dict(
        optimizer=settings["optimizer"],
        clip_grad=dict(max_norm=1, error_if_nonfinite=False),
        accumulative_counts=plan.accumulation,
    )
    # The gradient scaler of mixed precision refuses gradients in 16 bits: such weights
    # are trained without it.
    if device == "cuda" and not plan.weights:
        wrapper |= dict(type="AmpOptimWrapper", loss_scale="dynamic", dtype=plan.dtype)
    else:
        wrapper |= dict(type="OptimWrapper")
    if ranks() > 1:
        model = _side_by_side(model, device)
    return model.train(), build_optim_wrapper(model, wrapper), lambda: None


def _side_by_side(model: Any, device: str) -> Any:
    """As mmengine's runner wraps a model that several processes train."""
    from mmengine.model import MMDistributedDataParallel

    _join(device)
    where = [torch.cuda.current_device()] if device == "cuda" else None
    return MMDistributedDataParallel(model, device_ids=where, broadcast_buffers=False)


def _objects(plan: Plan, where: Path, device: str) -> dict[str, Any]:
    """The config's values as the objects that it names."""
    from mmengine.config import ConfigDict
    from peft import LoraConfig
    from transformers import BitsAndBytesConfig

    def resolve(value: Any) -> Any:
        if isinstance(value, dict):
            if "$ref" in value:
                return getattr(torch, value["$ref"].rpartition(":")[2])
            return {key: resolve(one) for key, one in value.items()}
        return value

    found = plan.config(str(where))
    model = resolve(found["model"])
    model["llm"] |= {"type": random_model.build, "device": device}
    if device == "cpu" and "torch_dtype" in model["llm"]:
        model["llm"]["torch_dtype"] = torch.float32  # there is no autocast in a run on a CPU
    if quantization := model["llm"].get("quantization_config"):
        quantization["type"] = BitsAndBytesConfig
    if "lora" in model:
        model["lora"]["type"] = LoraConfig
    optimizer: Any = AdamW
    if plan.optimizer != "AdamW":
        import bitsandbytes

        optimizer = getattr(bitsandbytes.optim, plan.optimizer)
    told: dict[str, Any] = dict(type=optimizer, lr=2e-4, betas=(0.9, 0.999), weight_decay=0)
    if COUNTING is not None:
        told["foreach"] = True  # as torch does by itself on a GPU
    return {"model": ConfigDict(model), "optimizer": told}


def _deepspeed(
    plan: Plan, model: Any, optimizer: Any, device: str
) -> tuple[Any, Any, Callable[[], None]]:
    """XTuner's strategy with its own ``deepspeed_zeroN``, as ``--deepspeed`` sets it up."""
    from xtuner.engine import DeepSpeedStrategy

    _join(device)
    told = plan.deepspeed()
    assert told is not None
    half = device == "cuda" or COUNTING is not None
    told["bf16"], told["fp16"] = {"enabled": half}, {"enabled": False}
    strategy = DeepSpeedStrategy(
        config=told,
        gradient_accumulation_steps=plan.accumulation,
        train_micro_batch_size_per_gpu=1,
        gradient_clipping=1,
        exclude_frozen_parameters=True,
        sequence_parallel_size=1,
        work_dir=str(Path(os.environ.get("TMPDIR", "/tmp"))),
    )
    strategy.prepare(
        model,
        optim_wrapper=dict(type="DeepSpeedOptimWrapper", optimizer=optimizer),
        dispatch_kwargs={},
    )
    engine = strategy.model
    engine.train()

    def close() -> None:
        engine.destroy()

    return engine, strategy.optim_wrapper, close


def ranks() -> int:
    """How many processes train side by side: torchrun says it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Which of them this one is."""
    return int(os.environ.get("RANK", "0"))


def begin(device: str) -> None:
    """Meet the other processes, where there are any; alone, a plan of DeepSpeed's does it."""
    if ranks() > 1:
        _join(device)


def agreed(mine: bool) -> bool:
    """What the first process says: all go on, or none does."""
    if ranks() == 1:
        return mine
    said = [mine]
    torch.distributed.broadcast_object_list(said)
    return said[0]


def _of_all(facts: dict[str, Any]) -> dict[str, Any]:
    """The facts of the process that held most, with the peaks of all above what was there before;
    the first error of any."""
    if ranks() == 1:
        return facts
    told: list[Any] = [None] * ranks()
    torch.distributed.all_gather_object(told, facts)
    broken = next((one for one in told if "error" in one), None)
    most = broken or max(told, key=lambda one: one["peak"] - one["before"])
    return {**most, "peaks": [one.get("peak", 0) - one["before"] for one in told]}


def _join(device: str) -> None:
    """Meet the other processes; alone, as torchrun would have set it up for one."""
    if torch.distributed.is_initialized():
        return
    if "RANK" not in os.environ:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        names = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "MASTER_PORT": port}
        os.environ |= {name: str(value) for name, value in names.items()}
        os.environ["MASTER_ADDR"] = "127.0.0.1"
    from mmengine.dist import init_dist
    from xtuner.parallel.sequence import init_sequence_parallel

    init_dist("pytorch", "nccl" if device == "cuda" else "gloo", init_backend="deepspeed")
    init_sequence_parallel(1)


def _batch(lengths: list[int], vocabulary: int) -> Any:
    """XTuner's collate function over rows of random tokens."""
    from xtuner.dataset.collate_fns import default_collate_fn

    chance = random.Random(0)
    rows = []
    for length in lengths:
        tokens = [chance.randrange(3, vocabulary) for _ in range(length)]
        rows.append({"input_ids": tokens, "labels": tokens})
    return default_collate_fn(rows)


def _stepped(wrapper: Any, plan: Plan) -> bool:
    """Whether the optimizer holds its state (a GradScaler skips steps that overflow)."""
    return bool(plan.zero or wrapper.optimizer.state)


def _count(model: Any) -> dict[str, int]:
    """Bytes of parameters by kind of number and whether they are trained."""
    found: dict[str, int] = {}
    for parameter in getattr(model, "module", model).parameters():
        kind = ("trained " if parameter.requires_grad else "frozen ") + str(parameter.dtype)
        found[kind] = found.get(kind, 0) + parameter.numel() * parameter.element_size()
    return found


def _clean() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.empty_cache()


def _peak_since() -> int:
    """The peak since this was last asked for."""
    if COUNTING is not None:
        return COUNTING.peak_since()
    if not torch.cuda.is_available():
        return NONE
    peak = torch.cuda.max_memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    return int(peak)


def _allocated() -> int:
    if COUNTING is not None:
        return COUNTING.live
    return int(torch.cuda.memory_allocated()) if torch.cuda.is_available() else NONE


def _reserved() -> int:
    return int(torch.cuda.memory_reserved()) if torch.cuda.is_available() else NONE


def _used() -> int:
    """Of the whole card, this program's alone where no other runs on it."""
    if not torch.cuda.is_available():
        return NONE
    free, total = torch.cuda.mem_get_info()
    return int(total - free)


def _process() -> int | None:
    """This process's memory by NVML, None where it cannot tell."""
    try:
        import pynvml

        pynvml.nvmlInit()
        card = pynvml.nvmlDeviceGetHandleByIndex(0)
        for one in pynvml.nvmlDeviceGetComputeRunningProcesses(card):
            if one.pid == os.getpid() and one.usedGpuMemory:
                return int(one.usedGpuMemory)
    except Exception:  # no NVML, or not in this container
        return None
    return None
