"""The DeepSpeed setting: is there one of that name, and does it go with the config?"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from engine import text
from engine.config.checks import sequence
from engine.config.checks.findings import ERROR, INFO, WARNING, Finding, Fix
from engine.config.checks.start import Start
from engine.config.memory import estimate, parts, zero
from engine.config.stock import catalogue
from engine.errors import Problem
from engine.i18n import _
from engine.machine import memory
from engine.paths import expanded
from engine.settings import Settings


def read(name: str | None, settings: Settings) -> Mapping[str, Any] | None:
    """The setting `name`: one of XTuner's ("deepspeed_zero2"), "zero2", "2" or a JSON file.

    None for none. Raises `Problem` for one that XTuner does not know.
    """
    if not name:
        return None
    known = catalogue.deepspeed(settings)
    path = expanded(name)
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
        found = json.loads(file.read_text(encoding="utf-8"))
        stage = int(found["zero_optimization"]["stage"])
        if stage not in range(4):
            raise ValueError(f"stage {stage}")
    except (OSError, ValueError, OverflowError, KeyError, TypeError) as error:
        raise Problem(
            _("{path} is not a DeepSpeed setting").format(path=file),
            f"{type(error).__name__}: {error}",
            _("It is a JSON file with zero_optimization.stage."),
        ) from error
    content: Mapping[str, Any] = found
    return content


def check(start: Start) -> Iterator[Finding]:
    """Findings about DeepSpeed and the config together."""
    own = start.config.name("strategy.type") == "DeepSpeedStrategy"
    wrapper = start.config.name("optim_wrapper.type")
    if own and wrapper != "DeepSpeedOptimWrapper" and start.deepspeed is None:
        yield Finding(
            ERROR,
            "deepspeed-wrapper",
            _("DeepSpeed does not go with {wrapper}").format(wrapper=wrapper or "OptimWrapper"),
            _("The config's own strategy wants DeepSpeedOptimWrapper; mmengine refuses others."),
            _("Take strategy out of the config, and start with DeepSpeed (deepspeed_zero2)."),
            field="optim_wrapper.type",
        )
    if own and start.deepspeed is None and start.config.get("launcher") in (None, "none"):
        yield Finding(
            ERROR,
            "deepspeed-launcher",
            _("DeepSpeed is in the config, and no launcher starts its processes"),
            _("Without one it asks MPI who it is, and ends: no module named mpi4py."),
            _("Take strategy out of the config, and start with DeepSpeed (deepspeed_zero2)."),
            field="strategy",
        )
    if start.deepspeed is not None:
        yield from _batch(start, start.deepspeed)
        yield from _dropped(start)
        yield from _saved(start)
        yield from _pays(start)


def _batch(start: Start, setting: Mapping[str, Any]) -> Iterator[Finding]:
    """XTuner puts the config's numbers into the setting; a total in it may contradict them."""
    batch = int(start.config.number("train_dataloader.batch_size", 1))
    steps = int(start.config.number("optim_wrapper.accumulative_counts", 1))
    said = (
        ("gradient_accumulation_steps", steps, "optim_wrapper.accumulative_counts"),
        ("train_micro_batch_size_per_gpu", batch, "train_dataloader.batch_size"),
    )
    for name, ours, key in said:
        theirs = setting.get(name, "auto")
        if theirs != "auto" and theirs != ours:
            yield Finding(
                WARNING,
                "deepspeed-batch",
                _("The DeepSpeed file says {name} = {theirs}, the config {ours}").format(
                    name=name, theirs=theirs, ours=ours
                ),
                _("XTuner takes the config's, so the effective batch is {batch}.").format(
                    batch=batch * steps * sequence.readers(start)
                ),
                _("Write auto in the DeepSpeed file, and the number you want in the config."),
                field=start.config.setting(key),
            )
    total = setting.get("train_batch_size", "auto")
    if total != "auto" and total != batch * steps * start.processes:
        yield Finding(
            ERROR,
            "deepspeed-total",
            _("The DeepSpeed file says train_batch_size = {total}").format(total=total),
            _(
                "{batch} samples × {steps} × {gpus} processes are {ours}: DeepSpeed breaks off."
            ).format(
                batch=batch,
                steps=steps,
                gpus=start.processes,
                ours=batch * steps * start.processes,
            ),
            _("Take train_batch_size out of the DeepSpeed file, or write auto."),
            field=start.config.setting("train_dataloader.batch_size"),
        )


def _dropped(start: Start) -> Iterator[Finding]:
    """XTuner hands only the optimizer on: other parts of the wrapper are lost."""
    if start.config.get("optim_wrapper.paramwise_cfg") is not None:
        yield Finding(
            WARNING,
            "deepspeed-paramwise",
            _("DeepSpeed leaves out paramwise_cfg"),
            _("XTuner hands only the optimizer on, so all layers get the same learning rate."),
            _("Train without DeepSpeed, or without paramwise_cfg."),
            field="optim_wrapper.paramwise_cfg",
        )


def _saved(start: Start) -> Iterator[Finding]:
    """peft copies a layer that lies in shares, and the copy is none (one process has it whole)."""
    field = "model.lora.modules_to_save"
    if start.zero == 3 and start.processes > 1 and start.config.get(field):
        yield Finding(
            ERROR,
            "deepspeed-saved",
            _("DeepSpeed's stage 3 does not train modules_to_save"),
            _("peft copies layers that lie in shares: DeepSpeed breaks off before the first step."),
            _("Start with deepspeed_zero2, or set modules_to_save = None."),
            Fix(field, None),
            field,
        )


def host(start: Start) -> Iterator[Finding]:
    """Offload: the kernel ends what takes more of this machine's memory than there is, unsaid."""
    if start.deepspeed is None:
        return
    place = estimate.place(start.config)
    model = estimate.shape(place) if place is not None else None
    if model is None or not start.gpus:
        return
    plan = estimate.training(
        start.config, kind=model.kind, tokens=1, zero=start.zero, deepspeed=start.deepspeed
    )
    whole = zero.host(plan.zero, parts.tensors(plan, model), plan.state, plan.accumulates)
    need = int(whole * min(1.0, len(start.gpus) / start.processes))  # of several nodes, this one
    free = memory.left().free
    if need > free:
        yield Finding(
            WARNING,
            "host-memory",
            _("Offload takes more memory than this machine has left"),
            _("About {need} for the optimizer; {free} are free.").format(
                need=text.size(need), free=text.size(free)
            ),
            _("Start without offload, on more GPUs, or train fewer weights."),
        )


def _pays(start: Start) -> Iterator[Finding]:
    if start.processes == 1 and start.quantized and not start.on_cpu:
        yield Finding(
            INFO,
            "deepspeed-one-gpu",
            _("DeepSpeed gains nothing here"),
            _(
                "On one GPU ZeRO has nobody to share with, and its buffers take memory; under "
                "LoRA without quantization it would halve the base."
            ),
            _("Start without DeepSpeed."),
        )
