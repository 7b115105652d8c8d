"""A config's activation checkpointing chosen for the GPU it shall train on."""

from __future__ import annotations

from engine import text
from engine.config.checks import loaded
from engine.config.checks.start import Start
from engine.config.memory import activations, sizing
from engine.config.text.source import ConfigSource
from engine.errors import Failed
from engine.i18n import _
from engine.machine import gpu
from engine.settings import Settings


def card(wanted: float | None) -> int | None:
    """Bytes of the GPU to fit: `wanted` GB, else the largest here; None without any."""
    if wanted is not None:
        return int(wanted * 1e9)
    return max((one.total for one in gpu.read().gpus), default=None)


def fit(source: ConfigSource, card: int, settings: Settings) -> str:
    """Set in `source` (saved, and saved again) whether activations are checkpointed.

    They are kept where that fits into `card` bytes, and computed twice where it
    does not. Returns what was found, for a person; "" where the model's sizes are
    not known, or nothing in the config says how it is.
    """
    if not source.has(activations.SETTING):
        return ""
    assert source.path is not None, "the trainer's own loader reads the file"
    try:
        config = loaded.load(source.path, settings)
    except Failed:
        return ""  # preflight says why
    planned = None if config.error else sizing.plan(Start(source.path, config, settings))
    if planned is None:
        return ""
    plan, model = planned
    need = activations.need(plan, model, twice=False)
    fits = need <= activations.MARGIN * card
    if fits == plan.checkpointing:
        source.set(activations.SETTING, not fits)
        source.save(force=True)
    if fits:
        return _("Activations are kept, which is faster: about {need} of {card}.").format(
            need=text.size(need), card=text.size(card)
        )
    return _("Activations are computed twice: kept, they would take {need}, of {card}.").format(
        need=text.size(need), card=text.size(card)
    )
