"""What would make a training faster in the memory that its GPUs have free.

The gains are those measured on an H100 (compiling: an H200) with InternLM2.5-7B's
sizes and 2048 packed tokens (docs/performance.md).
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from engine import text
from engine.config.checks import compiling
from engine.config.checks.findings import INFO, Finding, Fix
from engine.config.checks.lora import KEEP
from engine.config.checks.start import Start
from engine.config.memory import activations, estimate, sizing
from engine.config.memory.parts import Training
from engine.config.memory.sizes import Shape
from engine.i18n import _


def check(start: Start, longest: int | None = None) -> Iterator[Finding]:
    """What can be said where the model's sizes and the GPUs' free memory are known.

    `longest`: tokens of the longest row, where they were counted.
    """
    yield from _uncompiled(start)
    free, planned = room(start), sizing.plan(start, longest)
    if free is None or planned is None:
        return
    plan, model = planned
    kept = activations.need(plan, model, twice=False)
    if plan.checkpointing and kept <= activations.MARGIN * free:
        yield Finding(
            INFO,
            "checkpointing-spare",
            _("Activations are computed twice, and memory would do without"),
            _(
                "Kept, they need {need} of {free} that are free; a step of a 7B model took 0.63 "
                "of the time."
            ).format(need=text.size(kept), free=text.size(free)),
            _("Set {field} = {value}.").format(
                field=start.config.setting(activations.SETTING), value="False"
            ),
            Fix(activations.SETTING, False),
            activations.SETTING,
        )
    yield from _quantised(plan, model, free)


def room(start: Start) -> int | None:
    """Bytes that are free on each of its GPUs; None where that is not known."""
    return min((one.total - one.used for one in start.gpus), default=None)


def _uncompiled(start: Start) -> Iterator[Finding]:
    """Adapters were measured, and nothing else."""
    asked = start.config.get(compiling.SETTING) is True
    if asked or not start.gpus or not start.lora:
        return
    if compiling.unfit(start) is None and compiling.unable(start) is None:
        yield Finding(
            INFO,
            "compile-spare",
            _("torch could compile the model's layers"),
            _(
                "A step of a 7B model then took 0.6 of the time (0.7 on a quantised base), the "
                "first one half a minute more. Losses differ a little: less is rounded. Fewer "
                "than 200 steps are left as they are."
            ),
            _("Set {field} = {value}.").format(field=compiling.SETTING, value="True"),
            Fix(compiling.SETTING, True),
            compiling.SETTING,
        )


def _quantised(plan: Training, model: Shape, free: int) -> Iterator[Finding]:
    """4 bits save memory and cost time."""
    if plan.method not in ("qlora", "lora8"):
        return
    whole = msgspec.structs.replace(plan, method="lora", kept=True)
    need = estimate.of(whole, model).gpu_bytes
    if need > activations.MARGIN * free:
        return
    yield Finding(
        INFO,
        "quantised-spare",
        _("The base is quantised, and memory would do without"),
        _(
            "In 16 bits it needs {need} of {free} that are free; a step of a 7B model took 0.7 to "
            "0.8 of the time, and nothing is rounded."
        ).format(need=text.size(need), free=text.size(free)),
        _("Take quantization_config out and set {field} = {value}.").format(
            field=KEEP, value="True"
        ),
        field="model.llm.quantization_config",
    )
