"""How many iterations a config trains, and what its learning-rate schedule does in them.

The arithmetic is mmengine's and XTuner's (their samplers, ``TrainLoop`` and
``build_iter_from_epoch``), so that it says what they will do. An iteration is a
micro-batch: gradient accumulation does not change the count.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec

from engine.config.findings import ERROR, WARNING, Finding, Fix
from engine.config.loaded import Loaded
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
    if size.per_epoch < 1:
        return [
            Finding(
                ERROR,
                "no-steps",
                _("There is nothing to train on: 0 steps"),
                _("No sample is left after tokenising and packing, or the batch is too big."),
                _("Look at `tunedeck data check`; try pack_to_max_length = False."),
                field="pack_to_max_length",
            )
        ]
    found = []
    schedulers = config.get("param_scheduler") or []
    for index, one in enumerate(schedulers if isinstance(schedulers, list) else [schedulers]):
        if isinstance(one, dict):
            found += _scheduler(config, size, index, one)
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
    interval = config.number("default_hooks.checkpoint.interval", 0)
    kept = config.number("default_hooks.checkpoint.max_keep_ckpts", -1)
    last = config.get("default_hooks.checkpoint.save_last", True)
    if interval > size.total and last is False:
        found.append(
            Finding(
                ERROR,
                "never-saved",
                _("No checkpoint would be saved"),
                _("The training has {total} steps; it saves every {n}.").format(
                    total=size.total, n=int(interval)
                ),
                _("Save more often, or leave save_last on."),
                field="save_steps",
            )
        )
    if kept == 1 and interval <= size.total:
        found.append(
            Finding(
                WARNING,
                "keep-one",
                _("Only one checkpoint is kept"),
                _("It is deleted before the next is written: a crash while saving leaves none."),
                _("Keep 2."),
                Fix("default_hooks.checkpoint.max_keep_ckpts", 2),
                "save_total_limit",
            )
        )
    return found
