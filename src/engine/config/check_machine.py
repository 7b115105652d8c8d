"""Can this machine run it: GPUs, DeepSpeed, number formats, disk?"""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from pathlib import Path

from engine import text
from engine.config import catalogue
from engine.config.estimate import Estimate
from engine.config.findings import ERROR, WARNING, Finding, Fix
from engine.config.loaded import Loaded
from engine.errors import Problem
from engine.i18n import _
from engine.machine import gpu, host
from engine.settings import Settings


def deepspeed_stage(name: str | None, settings: Settings) -> int:
    """The ZeRO stage of `name`: one of XTuner's ("deepspeed_zero2"), "zero2", "2" or a JSON file.

    0 for none. Raises `Problem` for one that XTuner does not know.
    """
    if not name:
        return 0
    known = catalogue.deepspeed(settings)
    path = Path(name).expanduser()
    if path.is_file():
        file: Path | None = path
    else:
        file = (
            known.get(name) or known.get(f"deepspeed_{name}") or known.get(f"deepspeed_zero{name}")
        )
    if file is None:
        near = difflib.get_close_matches(name, known, n=1)
        raise Problem(
            _("There is no DeepSpeed setting {name}").format(name=name),
            _("XTuner has: {names}").format(names=", ".join(known) or "-"),
            _("Did you mean {name}?").format(name=near[0])
            if near
            else _("Give one of these, or a JSON file."),
        )
    try:
        stage = json.loads(file.read_text(encoding="utf-8"))["zero_optimization"]["stage"]
        return int(stage)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Problem(
            _("{path} is not a DeepSpeed setting").format(path=file),
            f"{type(error).__name__}: {error}",
            _("It is a JSON file with zero_optimization.stage."),
        ) from error


def check(
    config: Loaded, gpus: Sequence[int] | None, deepspeed: str | None, settings: Settings
) -> list[Finding]:
    """Findings about devices and DeepSpeed."""
    found = []
    try:
        deepspeed_stage(deepspeed, settings)
    except Problem as problem:
        found.append(Finding(ERROR, "deepspeed", problem.what, problem.why, problem.todo))
    seen = gpu.read()
    if not seen.available and not gpus:
        return [*found, *_on_cpu(config, deepspeed)]
    there = {one.index for one in seen.gpus}
    missing = [index for index in gpus or [] if index not in there]
    if missing:
        found.append(
            Finding(
                ERROR,
                "gpu-missing",
                _("There is no GPU {numbers}").format(numbers=", ".join(map(str, missing))),
                seen.reason
                or _("This machine has: {numbers}").format(
                    numbers=", ".join(map(str, sorted(there)))
                ),
                _("`tunedeck gpus` shows them."),
            )
        )
    return found


def _on_cpu(config: Loaded, deepspeed: str | None) -> list[Finding]:
    found = []
    if config.name("optim_wrapper.type") == "AmpOptimWrapper" and not deepspeed:
        switch = config.get("on_gpu") is True
        found.append(
            Finding(
                ERROR,
                "amp-cpu",
                _("AmpOptimWrapper does not run on a CPU, and there is no GPU here"),
                _("mmengine refuses mixed precision without a GPU."),
                _("Set on_gpu = False.")
                if switch
                else _("Use OptimWrapper and float32, or train on a machine with a GPU."),
                Fix("on_gpu", False) if switch else None,
                "optim_wrapper.type",
            )
        )
    if config.get("model.llm.quantization_config.load_in_4bit") is True:
        found.append(
            Finding(
                WARNING,
                "quantised-cpu",
                _("4-bit training on a CPU is very slow"),
                field="model.llm.quantization_config.load_in_4bit",
            )
        )
    return found


def fits(estimate: Estimate | None, gpus: Sequence[int] | None) -> list[Finding]:
    """Whether each GPU is big enough, and free enough now."""
    if estimate is None:
        return []
    found = []
    for one in gpu.read().gpus:
        if gpus is not None and one.index not in gpus:
            continue
        need = text.size(estimate.gpu_bytes)
        if estimate.gpu_bytes > one.total:
            found.append(
                Finding(
                    ERROR,
                    "gpu-small",
                    _("GPU {index} is too small").format(index=one.index),
                    _("The estimate is {need}; it has {total}.").format(
                        need=need, total=text.size(one.total)
                    ),
                    _("Try a smaller max_length or batch_size, 4-bit, or DeepSpeed ZeRO-3."),
                    field="max_length",
                )
            )
        elif estimate.gpu_bytes > one.total - one.used:
            found.append(
                Finding(
                    WARNING,
                    "gpu-busy",
                    _("GPU {index} has too little free memory now").format(index=one.index),
                    _("The estimate is {need}; {free} are free.").format(
                        need=need, free=text.size(one.total - one.used)
                    ),
                    _("`tunedeck gpus` shows who uses it; choose another, or queue the run."),
                )
            )
        if gpus is None:
            break  # without a choice the first one is taken
    return found


def disk(needed: int, work_dir: Path) -> list[Finding]:
    """Whether all that the run writes has room."""
    free = host.read(work_dir.resolve()).disk_free
    if needed <= free:
        return []
    return [
        Finding(
            ERROR,
            "disk",
            _("The disk is too small for this run"),
            _("Checkpoints, adapter and merged model take {need}; {free} are free.").format(
                need=text.size(needed), free=text.size(free)
            ),
            _("Keep fewer checkpoints (save_total_limit), or choose another place."),
            field="save_total_limit",
        )
    ]
