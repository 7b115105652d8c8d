"""Does the adapter reach the layers that it names, and what does it do to the base?"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from engine.config import model_files
from engine.config.checks import model as check_model
from engine.config.checks.findings import ERROR, INFO, WARNING, Finding, Fix
from engine.config.checks.start import Start
from engine.i18n import _

_KEY = "model.lora.target_modules"
KEEP = "keep_base_dtype"
"""Our trainer's setting (`engine.train.base`)."""


def check(start: Start) -> Iterator[Finding]:
    """Findings about LoRA."""
    if not start.lora:
        return
    yield from _float32(start)
    folder = check_model.folder(start.config)
    layers = model_files.linears(folder) if folder is not None else []
    if not layers:
        return
    targets = start.config.get(_KEY)
    if targets is None:
        yield from _output(start, layers)
    elif targets != "all-linear":
        yield from _targets(start, targets, layers)


def _float32(start: Start) -> Iterator[Finding]:
    """XTuner turns all of an adapter's base that is not quantised into float32."""
    if not start.dtype or start.deepspeed is not None or start.config.get(KEEP) is True:
        return
    if start.quantized:
        what = _("What is not quantised of the base is held in float32, not in {dtype}")
    else:
        what = _("The base model is held in float32, not in {dtype}")
    yield Finding(
        INFO,
        "lora-float32",
        what.format(dtype=start.dtype),
        _("XTuner casts it: 4 bytes a parameter, cast back for every product. It gains nothing."),
        _("Set {field} = {value}.").format(field=KEEP, value="True"),
        Fix(KEEP, True),
        KEEP,
    )


def _output(start: Start, layers: list[str]) -> Iterator[Finding]:
    """XTuner leaves out heads called lm_head or output_layer, and no other."""
    if any(one.rpartition(".")[2] == "output" and one.count(".") < 2 for one in layers):
        yield Finding(
            INFO,
            "lora-output",
            _("The output layer gets an adapter too"),
            _(
                "XTuner leaves out only lm_head and output_layer; here it is called output. The "
                "adapter is much larger for it."
            ),
            _("Name the layers in target_modules to leave it out."),
            field=_KEY,
        )


def _targets(start: Start, targets: Any, layers: list[str]) -> Iterator[Finding]:
    wanted = [targets] if isinstance(targets, str) else [str(one) for one in targets]
    is_pattern = isinstance(targets, str)
    missed = [one for one in wanted if not any(_hits(one, name, is_pattern) for name in layers)]
    if not missed:
        return
    there = sorted({name.rpartition(".")[2] for name in layers})
    nothing = len(missed) == len(wanted)
    yield Finding(
        ERROR if nothing else WARNING,
        "lora-targets",
        _("target_modules match nothing in this model")
        if nothing
        else _("Some target_modules match nothing: {names}").format(names=", ".join(missed)),
        _("The model has: {names}").format(names=", ".join(there[:12])),
        _("Name some of these, or take target_modules out: then all linear layers get one."),
        field=_KEY,
    )


def _hits(target: str, name: str, is_pattern: bool) -> bool:
    """Whether peft would take the module `name` for `target`."""
    if is_pattern:
        try:
            return re.fullmatch(target, name) is not None
        except re.error:
            return False
    return name == target or name.endswith(f".{target}")
