"""Sequence parallel: several GPUs share a sample. What XTuner asks for then, and what it does not.

Each GPU of a group holds a part of every sample; for attention they swap, so that each
has all tokens of some heads (``xtuner.parallel.sequence``). XTuner's ``check_cfg`` sees
to flash-attn and DeepSpeed. What else has to be so it meets in the first step, or never.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from engine.config import attention, model_files
from engine.config.checks import model as check_model
from engine.config.checks.findings import ERROR, Finding, Fix
from engine.config.checks.start import Start
from engine.config.memory import sizes
from engine.i18n import _

SIZE = "sequence_parallel_size"
_SAMPLER = "train_dataloader.sampler.type"
_SHARING = ("SequenceParallelSampler", "InternRepoSampler")
"""Samplers that hand all GPUs of a group the same sample."""
_SHARED = frozenset(
    [
        "cohere",
        "deepseek_v2",
        "internlm2",
        "internlm3",
        "llama",
        "mistral",
        "mixtral",
        "phi3",
        "qwen2",
        "qwen2_moe",
    ]
)
"""Model types whose attention XTuner replaces by one that swaps heads."""


def size(start: Start) -> int:
    """How many GPUs share a sample; 1: each has its own."""
    return max(1, int(start.config.number(SIZE, 1)))


def readers(start: Start) -> int:
    """How many processes read samples of their own (XTuner's data parallel size)."""
    return max(1, start.processes // size(start))


def check(start: Start) -> Iterator[Finding]:
    """Findings about a training in which several GPUs share a sample."""
    count = size(start)
    if count == 1:
        return
    config, alone = start.config, Fix(SIZE, 1)
    if config.versions and config.versions.get("flash_attn") is None:
        yield needs_flash("sequence-flash", SIZE, alone)
    yield from other_attention(start, "sequence-attention", SIZE)
    if start.deepspeed is None:
        yield Finding(
            ERROR,
            "sequence-deepspeed",
            _("sequence_parallel_size needs DeepSpeed"),
            _("XTuner breaks off without it."),
            _("Start with DeepSpeed (deepspeed_zero2), or set sequence_parallel_size = 1."),
            alone,
            SIZE,
        )
    if start.processes % count:
        yield Finding(
            ERROR,
            "sequence-gpus",
            _("{size} GPUs share a sample, but the run has {count}").format(
                size=count, count=start.processes
            ),
            _("The number of GPUs has to be a multiple of it."),
            _("Set {field} = {value}.").format(field=SIZE, value=1),
            alone,
            SIZE,
        )
    yield from _sampler(start)
    yield from _model(start, count)
    yield from _length(start, count)


def needs_flash(code: str, field: str, fix: Fix) -> Finding:
    """That `field` needs flash-attn."""
    return Finding(
        ERROR,
        code,
        _("{field} needs flash-attn, which is not installed").format(field=field),
        _("XTuner breaks off with an AssertionError."),
        _("Install flash-attn into the training environment, or set {field} = {value}.").format(
            field=field, value=fix.value
        ),
        fix,
        field,
    )


def other_attention(start: Start, code: str, field: str) -> Iterator[Finding]:
    """That the config asks for an attention which XTuner refuses with `field`."""
    given = start.config.get(attention.SETTING)
    if given is None or given == attention.FLASH:
        return
    yield Finding(
        ERROR,
        code,
        _("{field} needs flash_attention_2, and attn_implementation is {given}").format(
            field=field, given=repr(given)
        ),
        _("XTuner breaks off with an AssertionError."),
        _("Set {field} = {value}.").format(
            field=start.config.setting(attention.SETTING), value=repr(attention.FLASH)
        ),
        Fix(attention.SETTING, attention.FLASH),
        attention.SETTING,
    )


def _sampler(start: Start) -> Iterator[Finding]:
    """Any other sampler gives each GPU another sample, of which only a part is then trained."""
    given = start.config.name(_SAMPLER)
    if given in _SHARING:
        return
    yield Finding(
        ERROR,
        "sequence-sampler",
        _("The GPUs that share a sample would each read another one"),
        _("{sampler} deals samples to all processes: parts of several would become one.").format(
            sampler=given or "DefaultSampler"
        ),
        _("Set {field} = {value}.").format(
            field=start.config.setting(_SAMPLER), value="SequenceParallelSampler"
        ),
        Fix(
            _SAMPLER,
            "SequenceParallelSampler",
            imports=("xtuner.parallel.sequence", "SequenceParallelSampler"),
        ),
        _SAMPLER,
    )


def _model(start: Start, count: int) -> Iterator[Finding]:
    folder = check_model.folder(start.config)
    if folder is None:
        return
    kind = model_files.config(folder).get("model_type")
    if isinstance(kind, str) and kind not in _SHARED:
        yield Finding(
            ERROR,
            "sequence-model",
            _("XTuner cannot share a sample of this model ({kind})").format(kind=kind),
            _("Its attention stays as it is: each part would be trained without the others."),
            _("Set {field} = {value}.").format(field=SIZE, value=1),
            Fix(SIZE, 1),
            SIZE,
        )
    shape = sizes.shape(folder)
    if shape is None:
        return
    # What is left when the heads do not come out even, XTuner cuts the heads themselves by.
    inner = count // math.gcd(shape.heads, count)
    if shape.head_size % inner:
        yield Finding(
            ERROR,
            "sequence-heads",
            _("{count} GPUs cannot share {heads} attention heads of {width}").format(
                count=count, heads=shape.heads, width=shape.head_size
            ),
            _("Each head would be cut into {parts}, and {width} is no multiple of that.").format(
                parts=inner, width=shape.head_size
            ),
            _("Set {field} to a number that divides {heads}.").format(
                field=SIZE, heads=shape.heads
            ),
            field=SIZE,
        )


def _length(start: Start, count: int) -> Iterator[Finding]:
    """With variable-length attention nothing is padded (else each row is, to a multiple)."""
    key = f"{start.dataset}.max_length"
    length = int(start.config.number(key, 0))
    if start.config.get("use_varlen_attn") is not True or length % count == 0:
        return
    field = start.config.setting(key)
    yield Finding(
        ERROR,
        "sequence-length",
        _("{count} GPUs cannot share {length} tokens").format(count=count, length=length),
        _("use_varlen_attn pads no row: XTuner breaks off at the first with an AssertionError."),
        _("Set {field} = {value}.").format(field=field, value=length // count * count or count),
        Fix(field, length // count * count or count),
        field,
    )
