"""What the command line has for what the engine says is to be done."""

from __future__ import annotations

from engine.errors import Problem, Way
from engine.i18n import N_, _

FLAGS: dict[Way, str] = {
    "base": N_("--base names it."),
    "bits": N_("--bits 4 loads it in 4 bits."),
    "catalogue": N_("`tunedeck config list` shows the catalogue."),
    "check": N_("`tunedeck data check FILE` lists all that is broken."),
    "checkpoint": N_("Leave out --checkpoint for that."),
    "config": N_("--config names it."),
    "data": N_("`tunedeck config copy NAME --data FILE` does that."),
    "device": N_("--device cpu takes the CPU."),
    "dtype": N_("--dtype bf16 loads it in 16 bits."),
    "engine": N_("Leave out --engine for that."),
    "force": N_("--force replaces it."),
    "gpus": N_("`tunedeck gpus` shows the GPUs and who uses them."),
    "out": N_("-o names it; --dry-run does without."),
    "regex": N_("Leave out --regex for that."),
    "resume": N_("`tunedeck resume RUN` does that."),
    "set": N_("--set max_epochs=… sets them."),
    "shape": N_("`tunedeck data map FILE` does that."),
    "share-gpu": N_("--share-gpu shares the GPU with it."),
    "template": N_("--template names one of XTuner's."),
    "trust-remote-code": N_("--trust-remote-code allows it."),
}
"""A sentence for each way that is a flag, or another verb."""


def say(way: Way) -> str:
    """The sentence for `way`; "" where no flag and no verb is for it."""
    return _(FLAGS[way]) if way in FLAGS else ""


def told(problem: Problem) -> Problem:
    """`problem` with the flags that help."""
    return problem.told(say)
