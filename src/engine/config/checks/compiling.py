"""Would compile_layers do what it is set for?"""

from __future__ import annotations

from collections.abc import Iterator

from engine.config.checks.findings import WARNING, Finding, Fix
from engine.config.checks.start import Start
from engine.i18n import _
from engine.machine import compiler

SETTING = "compile_layers"
"""Our trainer's setting (`engine.train.compiled`), which knows the same reasons."""


def check(start: Start) -> Iterator[Finding]:
    """A finding where the trainer would leave the layers as they are."""
    if start.config.get(SETTING) is not True:
        return
    for code, why in (("compile-unfit", unfit(start)), ("compile-missing", unable(start))):
        if why is not None:
            yield Finding(
                WARNING,
                code,
                _("{field} would do nothing").format(field=SETTING),
                why,
                _("Set {field} = {value}.").format(field=SETTING, value="False"),
                Fix(SETTING, False),
                SETTING,
            )
            return


def unfit(start: Start) -> str | None:
    """Why a training of this kind is not one whose layers can be compiled; None: it is."""
    if start.config.name("model.type") != "SupervisedFinetune":
        return _("It is for SupervisedFinetune alone.")
    if start.config.get("model.use_varlen_attn") is True:
        return _("With use_varlen_attn each sample has lengths of its own.")
    if not start.packed:
        return _("Samples are not packed, so each batch has a length of its own.")
    if start.zero == 3:
        return _("ZeRO-3 gathers weights while a layer runs.")
    return None


def unable(start: Start) -> str | None:
    """Why torch cannot compile on this machine, or not rightly; None: it can."""
    versions = start.config.versions
    cuda = not start.on_cpu
    if cuda and compiler.corrupts(versions.get("torch") or ""):
        return _("What torch {version} compiles drops out wrongly (pytorch issue 198333).").format(
            version=versions["torch"]
        )
    return compiler.missing(cuda, versions.get("triton", "") is not None)
