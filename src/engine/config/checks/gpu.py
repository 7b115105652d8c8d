"""Can these devices run it: are they there, can they do the number formats, is there room?"""

from __future__ import annotations

from collections.abc import Iterator

from engine import text
from engine.config import attention, model_files
from engine.config.checks import model as check_model
from engine.config.checks.findings import ERROR, INFO, WARNING, Finding, Fix
from engine.config.checks.start import Start
from engine.config.memory import activations, sizing
from engine.config.memory.estimate import Estimate
from engine.i18n import _, sentences
from engine.machine import gpu
from engine.machine.gpu import Gpu

_AMPERE = (8, 0)
"""From here on a GPU has bfloat16 and can run flash-attn 2."""
_TURING = (7, 5)
"""From here on it multiplies 8-bit integers, as bitsandbytes does."""
_PASCAL = (6, 0)
"""The oldest for which bitsandbytes is built."""
_DTYPE = "model.llm.torch_dtype"


def check(start: Start) -> Iterator[Finding]:
    """Findings about the devices."""
    there = {one.id for one in start.machine.gpus}
    missing = [index for index in start.wanted or () if index not in there]
    if missing:
        yield Finding(
            ERROR,
            "gpu-missing",
            _("There is no GPU {numbers}").format(numbers=", ".join(map(str, missing))),
            gpu.instead(start.machine),
            ways=("gpus",),
        )
    elif why := gpu.apart(start.gpus):
        yield Finding(
            ERROR,
            "gpu-together",
            _("One run cannot have these GPUs together"),
            why,
            _("Choose one instance, or GPUs that are not divided."),
        )
    if start.on_cpu:
        yield from _on_cpu(start)
    else:
        yield from _half_weights(start)
    for one in start.gpus:
        yield from _formats(start, one)
    yield from _attention(start)


def _on_cpu(start: Start) -> Iterator[Finding]:
    if start.amp:
        switch = start.config.get("on_gpu") is True
        yield Finding(
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
    if start.quantized == "8-bit":
        yield Finding(
            WARNING,
            "quantised-cpu",
            _("8-bit training on a CPU is very slow"),
            field="model.llm.quantization_config.load_in_8bit",
        )
    elif start.quantized:
        yield Finding(
            WARNING,
            "quantised-cpu",
            _("4-bit training on a CPU is very slow"),
            field="model.llm.quantization_config.load_in_4bit",
        )
    if start.config.get("env_cfg.dist_cfg.backend") == "nccl" and start.deepspeed is not None:
        yield Finding(
            ERROR,
            "nccl-cpu",
            _("nccl joins GPUs, and there is none here"),
            _("DeepSpeed starts processes that talk through it."),
            _("Set {field} = {value}.").format(field="env_cfg.dist_cfg.backend", value="'gloo'"),
            Fix("env_cfg.dist_cfg.backend", "gloo"),
            "env_cfg.dist_cfg.backend",
        )


def _formats(start: Start, one: Gpu) -> Iterator[Finding]:
    """Number formats that this GPU has no hardware for."""
    if one.capability is None:
        return
    card = _("GPU {index} ({name}) has compute capability {major}.{minor}.").format(
        index=one.id, name=one.name, major=one.capability[0], minor=one.capability[1]
    )
    wrapper = start.config.name("optim_wrapper.dtype").removeprefix("torch.")
    if one.capability < _AMPERE and start.amp and wrapper == "bfloat16":
        field = "optim_wrapper.dtype"
        yield Finding(
            WARNING,
            "bf16-gpu",
            _("This GPU has no bfloat16 of its own"),
            sentences(card, _("Below 8.0 (Ampere) torch emulates it, slowly.")),
            _("Set {field} = {value}.").format(field=field, value="'float16'"),
            Fix(field, "float16"),
            field,
        )
    if one.capability < _PASCAL and start.quantized == "4-bit":
        yield _no_bits(card, "4-bit", "6.0")
    if one.capability < _TURING and start.quantized == "8-bit":
        yield _no_bits(card, "8-bit", "7.5")
    if one.capability < _AMPERE and start.config.get(attention.SETTING) == attention.FLASH:
        yield _take_sdpa(
            ERROR,
            "flash-gpu",
            _("This GPU cannot run flash-attn 2"),
            sentences(card, _("It begins with 8.0 (Ampere).")),
        )


def _half_weights(start: Start) -> Iterator[Finding]:
    """AmpOptimWrapper always scales gradients, and torch's scaler takes none in 16 bits."""
    frozen = start.config.get("model.freeze_llm") is True
    if not start.amp or start.lora or frozen or start.quantized:
        return
    if attention.of(start.config, _kind(start)) == attention.FLASH:
        field, value = attention.SETTING, attention.SDPA
        cause = _("XTuner loads them so for flash-attn.")
        fix = Fix(field, value)
    elif start.dtype:
        field, value, cause = _DTYPE, "float32", _("The config loads them so.")
        fix = Fix(field, value, imports=("torch", value))
    else:
        return
    yield Finding(
        ERROR,
        "fp16-weights",
        _("Weights in 16 bits cannot be trained in full with AmpOptimWrapper"),
        sentences(cause, _("Its gradient scaler breaks off at the first step.")),
        _("Set {field} = {value}, or train with DeepSpeed, which needs no scaler.").format(
            field=field, value=value
        ),
        fix,
        field,
    )


def _kind(start: Start) -> str:
    """The model's type ("llama"), as far as its folder is here to tell it."""
    folder = check_model.folder(start.config)
    return "" if folder is None else str(model_files.config(folder).get("model_type") or "")


def _no_bits(card: str, bits: str, least: str) -> Finding:
    return Finding(
        ERROR,
        "bits-gpu",
        _("This GPU cannot run {bits} layers").format(bits=bits),
        sentences(card, _("bitsandbytes needs {least} or more.").format(least=least)),
        _("Train without quantization, or on another GPU."),
        field="model.llm.quantization_config",
    )


def _attention(start: Start) -> Iterator[Finding]:
    given = start.config.get(attention.SETTING)
    flash = start.config.versions.get("flash_attn")
    if given == attention.FLASH and start.config.versions and flash is None:
        yield _take_sdpa(
            ERROR,
            "flash-missing",
            _("flash_attention_2 needs flash-attn, which is not installed"),
            _("transformers breaks off when it loads the model."),
        )
    elif given == attention.FLASH and start.on_cpu:
        yield _take_sdpa(
            ERROR,
            "flash-cpu",
            _("flash-attn does not run on a CPU"),
            _("There is no GPU here."),
        )
    elif (
        given is None
        and start.config.get("model.llm") is not None
        and attention.of(start.config, _kind(start)) == attention.EAGER
    ):
        why = _(
            "InternLM2's own code does so without flash-attn; sdpa took 0.80 of the time a step."
        )
        yield _take_sdpa(INFO, "eager-attention", _("Attention is computed the slow way"), why)


def _take_sdpa(level: str, code: str, what: str, why: str) -> Finding:
    """A finding that sdpa puts right."""
    return Finding(
        level,
        code,
        what,
        why,
        _("Set {field} = {value}.").format(field=attention.SETTING, value=repr(attention.SDPA)),
        Fix(attention.SETTING, attention.SDPA),
        attention.SETTING,
    )


def fits(start: Start, estimate: Estimate | None, longest: int | None = None) -> Iterator[Finding]:
    """Whether each GPU is big enough, and free enough now.

    `longest`: tokens of the longest row, where they were counted.
    """
    if estimate is None:
        return
    need, twice = text.size(estimate.gpu_bytes), _computed_twice(start, longest)
    for one in start.gpus:
        if estimate.gpu_bytes > one.total:
            why = _("The estimate is {need}; it has {total}.").format(
                need=need, total=text.size(one.total)
            )
            others = _("Try a smaller max_length or batch_size, 4-bit, or DeepSpeed ZeRO-3.")
            fix, field = None, start.config.setting(f"{start.dataset}.max_length")
            if twice is not None and twice <= activations.MARGIN * one.total:
                slower = _("With activations computed twice, which is slower, {need}.")
                why = sentences(why, slower.format(need=text.size(twice)))
                others = _("Set {field} = {value}.").format(
                    field=start.config.setting(activations.SETTING), value="True"
                )
                fix, field = Fix(activations.SETTING, True), activations.SETTING
            what = _("GPU {index} is too small").format(index=one.id)
            yield Finding(ERROR, "gpu-small", what, why, others, fix, field)
        elif estimate.gpu_bytes > one.total - one.used:
            yield Finding(
                WARNING,
                "gpu-busy",
                _("GPU {index} has too little free memory now").format(index=one.id),
                _("The estimate is {need}; {free} are free.").format(
                    need=need, free=text.size(one.total - one.used)
                ),
                _("Choose another, or queue the run."),
                ways=("gpus",),
            )


def _computed_twice(start: Start, longest: int | None) -> int | None:
    """What it would take without keeping activations; None where it keeps none, or is unknown."""
    planned = sizing.plan(start, longest)
    if planned is None or planned[0].checkpointing:
        return None
    plan, model = planned
    return activations.need(plan, model, twice=True)
