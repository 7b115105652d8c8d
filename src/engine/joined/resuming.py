"""Going on with a run: what would differ from before, told before anything starts.

Above run and config, so that they need not know each other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import msgspec

from engine.config.known.resuming import GRAVEST, Effect, Meaning, meaning
from engine.config.text.source import ConfigSource
from engine.errors import Problem
from engine.i18n import _, ngettext
from engine.joined import run_configs
from engine.machine.devices import GpuId
from engine.paths import expanded
from engine.run import control, inputs, rewind
from engine.run.checkpoints import Checkpoint
from engine.run.folder import RunFolder
from engine.run.inputs import Input, Moved
from engine.run.state import RunRecord
from engine.settings import Settings

_LENGTH = ("train_cfg.max_epochs", "train_cfg.max_iters")
_BATCH = "train_dataloader.batch_size"
_BATCHES = ("batch_size", _BATCH)


class Difference(msgspec.Struct, frozen=True):
    """Something that would not be as it was when the checkpoint was saved."""

    name: str
    """A setting's key, "gpus", or the path of a file or folder that was read."""
    before: str
    """As it is written; "" where it was not set (or for a file)."""
    after: str
    effect: Effect
    """See `engine.config.known.resuming`; "refused" stands in the way of the resume."""
    text: str
    """What it means, in a sentence; "" where the effect says all."""


class Resumption(msgspec.Struct, frozen=True):
    """How a run would go on. Nothing has been touched yet."""

    run: str
    checkpoint: Path | None
    """None: it never left the queue, and starts from nothing."""
    step: int
    """The step after which it goes on."""
    steps: int | None
    """Steps in all with the settings it would have; None: not known."""
    differences: list[Difference]
    """The gravest first."""
    notes: list[str]
    """What else to know: checkpoints that are set aside, a run past its own end."""

    @property
    def refused(self) -> list[Difference]:
        """What stands in the way."""
        return [one for one in self.differences if one.effect == "refused"]


def resume_differences(
    run: RunFolder,
    config: str | None = None,
    *,
    checkpoint: Path | None = None,
    gpus: list[GpuId] | None = None,
) -> Resumption:
    """What differs from the checkpoint's own settings when `run` goes on.

    Args:
        run: one of our own runs that has ended (or is lost).
        config: the text of a config with other settings; None: the run's own.
        checkpoint: where to go on; None takes the newest that is whole.
        gpus: other GPUs than before; None: the same.

    Raises `Problem` when it cannot go on at all, whatever its settings.
    """
    chosen = control.checkpoint_for(run, checkpoint)
    record = run.record
    assert record is not None
    own = run_configs.of(run)
    now = ConfigSource(config, own.path) if config is not None else own
    saved = rewind.config_of(run, chosen) if chosen else None
    then = ConfigSource.open(saved) if saved is not None else own
    read = {one.text: one for one in inputs.read(run.path)}
    workspace = Path(record.workspace)
    moved = inputs.moved(run.path, workspace)
    found = [
        *_settings(now, then, read, workspace, fits=chosen is None),
        *_placement(record, chosen, gpus),
        *(_file(one) for one in moved if _still_named(now, one.input)),
    ]
    steps = _steps(run.progress().steps, now, own, found)
    return Resumption(
        run=run.name,
        checkpoint=chosen.path if chosen else None,
        step=chosen.step if chosen else 0,
        steps=steps,
        differences=sorted(found, key=lambda one: GRAVEST.index(one.effect)),
        notes=list(_notes(run, chosen, steps)) if chosen else [],
    )


def resume(
    run: RunFolder,
    settings: Settings,
    *,
    checkpoint: Path | None = None,
    config: str | None = None,
    gpus: list[GpuId] | None = None,
) -> RunFolder:
    """`control.resume`, unless a difference or the run's own end stands in the way: `Problem`."""
    refuse(resume_differences(run, config, checkpoint=checkpoint, gpus=gpus))
    return control.resume(run, settings, checkpoint=checkpoint, config=config, gpus=gpus)


def in_the_way(resumption: Resumption) -> bool:
    """Whether nothing would come of it: it does not fit, or there is nothing left to train."""
    over = resumption.steps is not None and resumption.step >= resumption.steps
    return bool(resumption.refused) or over


def refuse(resumption: Resumption) -> None:
    """Raise `Problem` when nothing would come of it."""
    if not in_the_way(resumption):
        return
    what = _("The run {name} cannot go on like this").format(name=resumption.run)
    if resumption.refused:
        first = resumption.refused[0]
        raise Problem(
            what,
            f"{first.name}: {first.before} → {first.after}  {first.text}"
            if first.before or first.after
            else f"{first.name}: {first.text}",
            _("Leave it as it was, or start a new run with it."),
        )
    raise Problem(
        what,
        _("The checkpoint is at step {step}, and the run ends at step {steps}.").format(
            step=resumption.step, steps=resumption.steps
        ),
        _("Set more epochs (max_epochs), or choose an earlier checkpoint."),
        ways=("set",),
    )


def _settings(
    now: ConfigSource, then: ConfigSource, read: dict[str, Input], workspace: Path, fits: bool
) -> Iterator[Difference]:
    """What the configs differ in; where nothing was trained yet all of it `fits`."""
    for change in now.changes(then):
        source = now if now.has(change.name) else then
        told = Meaning("harmless", "") if fits else meaning(source, change.name)
        effect, text = told.effect, told.text
        before, after = change.before or "", change.after or ""
        if _is_same_file(then, now, change.name, read, workspace):
            effect, text = "harmless", _("The same files in another place.")
        yield Difference(change.name, before, after, effect, _(text) if text else "")


def _is_same_file(
    then: ConfigSource, now: ConfigSource, name: str, read: dict[str, Input], workspace: Path
) -> bool:
    """Whether a path only says where the same files lie now."""
    if not (then.has(name) and now.has(name)):
        return False
    old, new = then.get(name), now.get(name)
    if not (isinstance(old, str) and isinstance(new, str) and old in read):
        return False
    return inputs.same(read[old], workspace / expanded(new))


def _placement(
    record: RunRecord, chosen: Checkpoint | None, gpus: list[GpuId] | None
) -> Iterator[Difference]:
    if gpus is None or gpus == record.gpus:
        return
    before, after = _gpus(record.gpus), _gpus(gpus)
    effect: Effect = "harmless"
    text = ""
    if chosen is not None and max(1, len(gpus)) != record.processes:
        effect, text = "order", _("Each step takes another share of the data.")
        if chosen.kind == "deepspeed":
            effect = "refused"
            text = _("DeepSpeed split the optimizer's state between {n} processes.").format(
                n=record.processes
            )
    yield Difference("gpus", before, after, effect, text)


def _gpus(numbers: list[GpuId]) -> str:
    return ",".join(map(str, numbers)) or "cpu"


def _file(moved: Moved) -> Difference:
    name = moved.input.path
    if moved.name and moved.name != ".":
        name = str(Path(name, moved.name))
    if moved.how == "missing":
        text = _("It is not there any more. Put it back, or set its new place.")
        return Difference(name, "", "", "refused", text)
    if moved.how == "touched":
        text = _("Written to since the last start, with the same content as far as was looked.")
        return Difference(name, "", "", "harmless", text)
    if moved.input.is_model:
        text = _("Changed since the last start: what was learned fits the model as it was.")
        return Difference(name, "", "", "training", text)
    text = _("Changed since the last start: steps count other rows than before.")
    return Difference(name, "", "", "order", text)


def _still_named(now: ConfigSource, one: Input) -> bool:
    """Whether the config still reads it: a path that was set anew is told as a setting."""
    return repr(one.text)[1:-1] in now.text or one.text in now.text


def _steps(
    before: int | None, now: ConfigSource, own: ConfigSource, found: list[Difference]
) -> int | None:
    """Steps in all with the settings of `now`, from those of the run's last start."""
    for key in _LENGTH:
        if not (now.has(key) and own.has(key)):
            continue
        new, old = now.get(key), own.get(key)
        if key == "train_cfg.max_iters":
            return new if isinstance(new, int) else None
        share = _ratio(new, old) * _ratio(own.get(_BATCH), now.get(_BATCH))
        orders = {one.name for one in found if one.effect == "order"} - set(_BATCHES)
        known = before is not None and share and not orders
        return math.ceil(before * share) if known and before is not None else None
    return before


def _ratio(new: object, old: object) -> float:
    """new / old; 0 where that cannot be told."""
    if isinstance(new, (int, float)) and isinstance(old, (int, float)) and old:
        return new / old
    return 0.0


def _notes(run: RunFolder, chosen: Checkpoint, steps: int | None) -> Iterator[str]:
    after = rewind.later(run, chosen)
    if after:
        names = ", ".join(one.path.name for one in after)
        text = ngettext(
            "{names} was saved later: it is moved to {folder}.",
            "{names} were saved later: they are moved to {folder}.",
            len(after),
        )
        yield text.format(names=names, folder=f"{rewind.FOLDER}/{run.state.attempt + 1}")
    lost = run.progress().step - chosen.step
    if lost > 0:
        text = ngettext("{n} step is trained again.", "{n} steps are trained again.", lost)
        yield text.format(n=lost)
    if steps is not None and chosen.step >= steps:
        yield _("The checkpoint is at step {step}, and the run ends at step {steps}.").format(
            step=chosen.step, steps=steps
        )
