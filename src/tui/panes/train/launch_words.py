"""What the launch dialog says: the effective batch, changed settings, memory."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from rich.cells import cell_len
from rich.text import Text

from engine.config.text.source import Change
from engine.i18n import _, ngettext
from engine.joined.effective_batch import Batch
from engine.machine.gpu import Gpu
from engine.settings import Slurm
from engine.text import one_line, size

_OURS = ("--job-name", "--output", "--open-mode", "--ntasks-per-node", "--kill-on-invalid-dep")
"""Options of sbatch that are no wish of the user's."""
_CHANGES = 3
"""Changed settings that are named."""


def batch_line(batch: Batch, before: Batch, on_gpus: bool) -> Text:
    """The effective batch, how it was before, and which key keeps it."""
    now = _formula(batch, on_gpus)
    if batch.effective == before.effective:
        if batch.processes == before.processes:
            return Text(now, "dim")
        was = ngettext(
            "{now}, as before with {count} on one",
            "{now}, as before with {count} on each of {processes}",
            before.processes,
        )
        count = before.effective // before.processes
        return Text(was.format(now=now, count=count, processes=before.processes), "green")
    kept = batch.like(before)
    said = _("{now}, before it was {before}.").format(now=now, before=before.effective)
    if kept.effective == before.effective:
        said += "  " + _("^G  accumulation {count} keeps it").format(count=kept.accumulation)
    elif kept.accumulation != batch.accumulation:
        nearest = _("^G  accumulation {count} comes nearest: {effective}")
        said += "  " + nearest.format(count=kept.accumulation, effective=kept.effective)
    else:
        said += "  " + _("Only a smaller batch_size keeps it.")
    return Text.assemble((said, "yellow"))  # as a style of the whole it would be no colour of ours


def _formula(batch: Batch, on_gpus: bool) -> str:
    if on_gpus:
        units = ngettext("{count} GPU", "{count} GPUs", batch.processes)
    else:
        units = ngettext("{count} process", "{count} processes", batch.processes)
    shared = f" ÷ sequence {batch.sequence}" if batch.sequence > 1 else ""
    return _("{units} × batch {size} × accumulation {accumulation}{shared} = {effective}").format(
        units=units.format(count=batch.processes),
        size=batch.size,
        accumulation=batch.accumulation,
        shared=shared,
        effective=batch.effective,
    )


def slurm_wishes(slurm: Slurm, room: int) -> str:
    """What the settings ask Slurm for, as it is typed to ask for something else.

    Where they fit on `room` cells, with words on it.
    """
    told = {name: getattr(slurm, name) for name in ("partition", "account", "time", "gpus")}
    pairs = [f"{name}={shlex.quote(str(value))}" for name, value in told.items() if value != ""]
    wishes = one_line(" ".join(pairs))
    explained = wishes + "  " + _("(the settings; others: KEY=VALUE)")
    return explained if cell_len(explained) <= room else wishes


def slurm_options(batch_script: str) -> str:
    """What a batch script asks of the cluster: nodes, partition, account, time, GPUs, …"""
    asked = [
        line.removeprefix("#SBATCH ")
        for line in batch_script.splitlines()
        if line.startswith("#SBATCH ")
    ]
    return "  ".join(one_line(one) for one in asked if not one.startswith(_OURS))


def changes_line(changes: Sequence[Change], key: str = "") -> Text:
    """Which settings the run will have that the file does not; with none, `key` changes some."""
    if not changes:
        hint = "      " + _("{key}  change some for this run").format(key=key) if key else ""
        return Text(_("as in the file") + hint, "dim")
    named = [f"{one_line(one.name)} {one.before} → {one.after}" for one in changes[:_CHANGES]]
    more = len(changes) - len(named)
    line = "  ·  ".join(one_line(one) for one in named) + (f"  (+{more})" if more else "")
    return Text(line)


def memory_line(needed: int, gpus: Sequence[Gpu]) -> Text:
    """What the training needs against what is free on the GPUs chosen (the tightest first)."""
    text = Text(_("needs ≈ {size} on each GPU").format(size=size(needed)))
    tight = sorted(gpus, key=lambda one: one.total - one.used)
    for one in tight[:2]:
        free = one.total - one.used
        words = _("GPU{index} has {free} free of {total}").format(
            index=one.id, free=size(free), total=size(one.total)
        )
        enough = free >= needed
        text.append("   " + ("✓ " if enough else "! ") + words, "green" if enough else "red")
    return text
