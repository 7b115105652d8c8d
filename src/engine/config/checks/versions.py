"""Are the training environment's packages there, and known to work together?"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from engine.config.checks.findings import ERROR, WARNING, Finding
from engine.config.checks.start import Start
from engine.i18n import N_, _


class _Pair(NamedTuple):
    """A combination that was seen to fail, and how."""

    level: str
    package: str
    least: str
    """From this version on ("": any older one too)."""
    below: str
    beside: str
    beside_least: str
    why: str
    quantized: bool = False
    """Whether only 4-bit and 8-bit training fails."""
    on_cpu: bool = False
    """Whether it fails only where there is no GPU."""


# Each was run, and failed so (XTuner 0.2.0).
_KNOWN = (
    _Pair(ERROR, "transformers", "5", "", "", "", N_("XTuner 0.2.0 does not import with it.")),
    _Pair(
        ERROR,
        "transformers",
        "",
        "4.49",
        "bitsandbytes",
        "0.48",
        N_("Loading a quantized model fails: frozenset has no attribute discard."),
        quantized=True,
    ),
    _Pair(
        ERROR,
        "bitsandbytes",
        "",
        "0.46",
        "",
        "",
        N_("It cannot be imported on a machine without a GPU."),
        on_cpu=True,
    ),
    _Pair(
        ERROR,
        "deepspeed",
        "",
        "0.17",
        "",
        "",
        N_("It cannot be imported on a machine without a GPU."),
        on_cpu=True,
    ),
    _Pair(
        WARNING, "datasets", "5", "", "", "", N_("It does not work with the hub client of today.")
    ),
)
_NEEDED = ("xtuner", "torch", "transformers", "datasets", "mmengine", "peft", "accelerate")


def check(start: Start) -> Iterator[Finding]:
    """Findings about missing packages and combinations known to fail."""
    versions = start.config.versions
    if not versions:
        return
    for name in _NEEDED:
        if versions.get(name) is None:
            yield _missing(name, _("No training runs without it."))
    if start.quantized and versions.get("bitsandbytes") is None:
        yield _missing("bitsandbytes", _("The config loads the base model in fewer bits."))
    if start.deepspeed is not None and versions.get("deepspeed") is None:
        yield _missing("deepspeed", _("The start asks for DeepSpeed."))
    for pair in _KNOWN:
        if _holds(pair, start):
            yield _clash(pair, start)


def _missing(name: str, why: str) -> Finding:
    return Finding(
        ERROR,
        "package-missing",
        _("The package {name} is not installed").format(name=name),
        why,
        _("Install it in the training environment; `tunedeck doctor` shows what is there."),
    )


def _holds(pair: _Pair, start: Start) -> bool:
    version = start.config.versions.get(pair.package)
    other = start.config.versions.get(pair.beside) if pair.beside else ""
    if version is None or other is None:
        return False
    if pair.least and _number(version) < _number(pair.least):
        return False
    if pair.below and _number(version) >= _number(pair.below):
        return False
    if pair.beside and _number(other) < _number(pair.beside_least):
        return False
    if pair.quantized and not start.quantized:
        return False
    return not pair.on_cpu or start.on_cpu


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:3])


def _clash(pair: _Pair, start: Start) -> Finding:
    names = [name for name in (pair.package, pair.beside) if name]
    shown = ", ".join(f"{name} {start.config.versions[name]}" for name in names)
    return Finding(
        pair.level,
        "versions",
        _("XTuner does not work with {versions}").format(versions=shown),
        _(pair.why),
        _("`tunedeck doctor --install FOLDER` builds an environment whose versions fit."),
    )
