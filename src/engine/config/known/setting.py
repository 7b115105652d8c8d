"""What Tunedeck knows of a setting: its meaning, what it does to memory, speed and quality."""

from __future__ import annotations

import msgspec

from engine.i18n import N_

MODEL = N_("Model")
DATA = N_("Data")
LORA = N_("LoRA and quantisation")
SCHEDULE = N_("Schedule and optimiser")
SAVING = N_("Saving and evaluation")
PARALLEL = N_("Parallel")
RUNTIME = N_("Runtime")
SECTIONS = (MODEL, DATA, LORA, SCHEDULE, SAVING, PARALLEL, RUNTIME)
"""In the order to show."""

SWITCH = ("True", "False")


class Preset(msgspec.Struct, frozen=True):
    """A value with a short name, written as code that needs imports."""

    word: str
    """What a person types."""
    code: str
    imports: tuple[tuple[str, str], ...] = ()
    """(module, name) pairs that the code needs."""
    package: str = ""
    """The package that has to be in the training environment."""


class Known(msgspec.Struct, frozen=True):
    """A setting that Tunedeck knows."""

    name: str
    section: str
    help: str
    """What it is."""
    memory: str = ""
    """What more of it, or the other choice, does to GPU memory; "": nothing."""
    speed: str = ""
    quality: str = ""
    low: float | None = None
    """The sane range, both ends included; outside it is unusual, not forbidden."""
    high: float | None = None
    choices: tuple[str, ...] = ()
    """Usual values as a person types them; others are possible."""
    path: str = ""
    """ "file", "folder" or "model" where the value names one."""
    also: tuple[str, ...] = ()
    """Other names of the same setting; ``*`` stands for any one part."""
    default: str = ""
    """What holds when the file does not set it; a form offers to set it where this is told."""
    presets: tuple[Preset, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All its names."""
        return (self.name, *self.also)
