"""How many iterations a config trains, and what its learning-rate schedule does in them.

The arithmetic is mmengine's and XTuner's (their samplers, ``TrainLoop`` and
``build_iter_from_epoch``), so that it says what they will do. An iteration is a
micro-batch: gradient accumulation does not change the count.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import msgspec

from engine.config.checks.findings import ERROR, INFO, WARNING, Finding, Fix
from engine.config.checks.loaded import Loaded
from engine.i18n import _


class Plan(msgspec.Struct, frozen=True):
    """The size of a training."""

    per_epoch: int
    """Iterations in one epoch, on each process."""
    total: int
    """Iterations in all."""


def plan(config: Loaded, samples: int, processes: int) -> Plan:
    """The iterations of a training over `samples` (packed) samples on `processes` processes."""
    batch = max(1, int(config.number("train_dataloader.batch_size", 1)))
    mine = math.ceil(samples / max(1, processes))
    drop = config.get("train_dataloader.drop_last") is True
    per_epoch = mine // batch if drop else math.ceil(mine / batch)
    most = config.get("train_cfg.max_iters")
    if isinstance(most, int | float):
        return Plan(per_epoch, int(most))
    return Plan(per_epoch, math.ceil(config.number("train_cfg.max_epochs", 1) * per_epoch))


def check(config: Loaded, size: Plan) -> list[Finding]:
    """Findings about steps, warm-up and the rest of the schedule."""
    if size.total < 1:
        return [_no_steps(config, size)]
    found = [*_fraction(config, size)]
    schedulers = config.get("param_scheduler") or []
    for index, one in enumerate(schedulers if isinstance(schedulers, list) else [schedulers]):
        if isinstance(one, dict):
            found += _scheduler(config, size, index, one)
    return found


def _no_steps(config: Loaded, size: Plan) -> Finding:
    batch = "train_dataloader.batch_size"
    dropped = config.get("train_dataloader.drop_last") is True and size.per_epoch < 1
    return Finding(
        ERROR,
        "no-steps",
        _("There is nothing to train on: 0 steps"),
        _("drop_last leaves out the last batch, and there is no full one.")
        if dropped
        else _("The training is shorter than one step."),
        _("Set {field} lower, or train_dataloader.drop_last = False.").format(
            field=config.setting(batch)
        )
        if dropped
        else _("Train longer: more epochs."),
        Fix("train_dataloader.drop_last", False) if dropped else None,
        config.setting(batch if dropped else "train_cfg.max_epochs"),
    )


def _fraction(config: Loaded, size: Plan) -> Iterator[Finding]:
    """XTuner asserts that epochs times batches is a whole number."""
    epochs = config.get("train_cfg.max_epochs")
    if not isinstance(epochs, int | float) or float(epochs * size.per_epoch).is_integer():
        return
    field = config.setting("train_cfg.max_epochs")
    yield Finding(
        ERROR,
        "epochs-fraction",
        _("{epochs} epochs of {steps} steps are no whole number of steps").format(
            epochs=epochs, steps=size.per_epoch
        ),
        _("XTuner breaks off with an AssertionError after it has loaded the model."),
        _("Set {field} to a whole number.").format(field=field),
        Fix(field, math.ceil(epochs)),
        field,
    )


def load(config: Loaded, size: Plan, samples: int, processes: int) -> list[Finding]:
    """Findings about batches against the number of samples."""
    batch = int(config.number("train_dataloader.batch_size", 1))
    steps = int(config.number("optim_wrapper.accumulative_counts", 1))
    found = []
    if 0 < samples < batch * processes:
        field = config.setting("train_dataloader.batch_size")
        found.append(
            Finding(
                WARNING,
                "batch-beyond-data",
                _("One batch takes more samples than there are"),
                _("{batch} × {gpus} GPUs at once, of {samples} samples: some are repeated.").format(
                    batch=batch, gpus=processes, samples=samples
                ),
                _("Set {field} lower, or use fewer GPUs.").format(field=field),
                field=field,
            )
        )
    if steps > 1 and size.total and size.total // steps < 2:
        field = config.setting("optim_wrapper.accumulative_counts")
        found.append(
            Finding(
                WARNING,
                "few-updates",
                _("The weights would move {n} time(s) in all").format(
                    n=max(1, size.total // steps)
                ),
                _("{steps} steps are gathered for each update, of {total}.").format(
                    steps=steps, total=size.total
                ),
                _("Set {field} lower, or train longer.").format(field=field),
                field=field,
            )
        )
    return found


def _name(scheduler: dict[str, Any]) -> str:
    kind = scheduler.get("type")
    return str(kind.get("$ref", "") if isinstance(kind, dict) else kind).rpartition(":")[2]


def _span(scheduler: dict[str, Any], size: Plan) -> tuple[int, int] | None:
    """First and last iteration of a scheduler, converted as mmengine converts; None: unknown."""
    begin, end = scheduler.get("begin", 0), scheduler.get("end")
    if not isinstance(begin, int | float) or not isinstance(end, int | float):
        return None
    if scheduler.get("convert_to_iter_based"):
        return int(begin * size.per_epoch), int(end * size.per_epoch)
    return (int(begin), int(end)) if scheduler.get("by_epoch") is False else None


def _scheduler(config: Loaded, size: Plan, index: int, scheduler: dict[str, Any]) -> list[Finding]:
    span = _span(scheduler, size)
    if span is None:
        return []
    begin, end = span
    field = f"param_scheduler.{index}.end"
    if _name(scheduler).startswith("Linear") and end - begin < 2:
        return [_warmup(config, size, end - begin, field)]
    if end > size.total and _rises(scheduler):
        return [_never_warm(config, size, end, field)]
    if end <= begin:
        return [
            Finding(
                ERROR,
                "schedule-empty",
                _("{name} would last {n} steps").format(name=_name(scheduler), n=end - begin),
                _("It begins at step {begin} and ends at {end}; mmengine refuses that.").format(
                    begin=begin, end=end
                ),
                _("Make the warm-up shorter or the training longer."),
                field=field,
            )
        ]
    return []


def _rises(scheduler: dict[str, Any]) -> bool:
    """Whether it is a warm-up (mmengine's defaults: from a third to the whole)."""
    first, last = scheduler.get("start_factor", 1 / 3), scheduler.get("end_factor", 1.0)
    numbers = isinstance(first, int | float) and isinstance(last, int | float)
    return _name(scheduler).startswith("Linear") and numbers and first < last


def _never_warm(config: Loaded, size: Plan, end: int, field: str) -> Finding:
    ratio = warmup_ratio(config, size)
    written = _uses_ratio(config, field)
    return Finding(
        WARNING,
        "warmup-beyond-end",
        _("The warm-up lasts {n} steps, the training {total}").format(n=end, total=size.total),
        _("The learning rate would never reach its full value."),
        _("Make the warm-up shorter or the training longer."),
        Fix("warmup_ratio", ratio) if written and ratio is not None else None,
        "warmup_ratio" if written else field,
    )


def _warmup(config: Loaded, size: Plan, steps: int, field: str) -> Finding:
    ratio = warmup_ratio(config, size)
    # Only a schedule that is written with the variable follows it.
    written = _uses_ratio(config, field)
    if written:
        field = "warmup_ratio"
    fix = Fix("warmup_ratio", ratio) if written and ratio is not None else None
    remedy = (
        _("Set warmup_ratio = {ratio}.").format(ratio=ratio)
        if ratio is not None
        else _("Train longer: more epochs, or no packing.")
    )
    if steps < 1:
        return Finding(
            ERROR,
            "warmup-zero",
            _("The warm-up rounds to 0 of {total} steps").format(total=size.total),
            _("XTuner would stop with a ValueError after it has loaded the model."),
            remedy,
            fix,
            field,
        )
    return Finding(
        ERROR,
        "warmup-one-step",
        _("The warm-up rounds to 1 of {total} steps: nothing would be learned").format(
            total=size.total
        ),
        _("The learning rate would then stay near zero for the whole run, with no error."),
        remedy,
        fix,
        field,
    )


def _uses_ratio(config: Loaded, field: str) -> bool:
    ratio, epochs = config.get("warmup_ratio"), config.get("max_epochs")
    end = config.get(field)
    return (
        isinstance(ratio, int | float)
        and isinstance(epochs, int | float)
        and isinstance(end, int | float)
        and math.isclose(ratio * epochs, end)
    )


def warmup_ratio(config: Loaded, size: Plan) -> float | None:
    """The smallest good warm-up ratio for this length; None when the training is too short."""
    epochs = config.number("train_cfg.max_epochs", 1)
    for ratio in (0.03, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4):
        if int(ratio * epochs * size.per_epoch) >= 2:
            return ratio
    return None


def saving(config: Loaded, size: Plan) -> list[Finding]:
    """Findings about checkpoints."""
    found = []
    key = "default_hooks.checkpoint"
    interval = config.number(f"{key}.interval", 0)
    kept = config.number(f"{key}.max_keep_ckpts", -1)
    last = config.get(f"{key}.save_last", True)
    field = config.setting(f"{key}.interval")
    if interval > size.total:
        found.append(
            Finding(
                ERROR if last is False else INFO,
                "never-saved" if last is False else "save-beyond-end",
                _("No checkpoint would be saved")
                if last is False
                else _("A checkpoint is saved at the end only"),
                _("The training has {total} steps; it saves every {n}.").format(
                    total=size.total, n=int(interval)
                ),
                _("Set {field} = {value}.").format(field=field, value=max(1, size.total // 3)),
                Fix(field, max(1, size.total // 3)),
                field,
            )
        )
    if kept == 1 and interval <= size.total:
        field = config.setting(f"{key}.max_keep_ckpts")
        found.append(
            Finding(
                WARNING,
                "keep-one",
                _("Only one checkpoint is kept"),
                _("It is deleted before the next is written: a crash while saving leaves none."),
                _("Set {field} = {value}.").format(field=field, value=2),
                Fix(field, 2),
                field,
            )
        )
    return found
