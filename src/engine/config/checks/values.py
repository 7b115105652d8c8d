"""Are the settings of the right type, and numbers that can be?"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any, NamedTuple

from engine.config.checks.findings import ERROR, INFO, Finding, Fix
from engine.config.checks.start import Start
from engine.config.known.field_table import BY_NAME
from engine.i18n import N_, _
from engine.text import one_line


class _Kind(NamedTuple):
    """What a setting has to be."""

    words: str
    types: tuple[type, ...]
    low: float | None = None
    above: bool = False
    """Whether `low` itself is too low."""
    none: bool = False


_COUNT = _Kind(N_("a whole number of 1 or more"), (int,), 1)
_COUNT_OR_NONE = _COUNT._replace(none=True)
_COUNT0 = _Kind(N_("a whole number of 0 or more"), (int,), 0)
_NUMBER = _Kind(N_("a number"), (int, float))
_POSITIVE = _Kind(N_("a number above 0"), (int, float), 0, above=True)
_POSITIVE_OR_NONE = _POSITIVE._replace(none=True)
_NUMBER0 = _Kind(N_("a number of 0 or more"), (int, float), 0)
_SWITCH = _Kind(N_("True or False"), (bool,))
_TEXT = _Kind(N_("text in quotes"), (str,))
_PATH = _TEXT._replace(none=True)

_KINDS = {
    "pretrained_model_name_or_path": _TEXT,
    "{dataset}.max_length": _COUNT,
    "{dataset}.pack_to_max_length": _SWITCH,
    "{dataset}.shuffle_before_pack": _SWITCH,
    "{dataset}.use_varlen_attn": _SWITCH,
    "{dataset}.remove_unused_columns": _SWITCH,
    "{dataset}.map_num_proc": _COUNT_OR_NONE,
    "{dataset}.max_dataset_length": _COUNT_OR_NONE,
    "train_dataloader.batch_size": _COUNT,
    "train_dataloader.num_workers": _COUNT0,
    "optim_wrapper.accumulative_counts": _POSITIVE,
    "optim_wrapper.optimizer.lr": _NUMBER0,
    "optim_wrapper.optimizer.weight_decay": _NUMBER0,
    "optim_wrapper.clip_grad.max_norm": _NUMBER0,
    "train_cfg.max_epochs": _POSITIVE_OR_NONE,
    "train_cfg.max_iters": _POSITIVE_OR_NONE,
    "warmup_ratio": _NUMBER0,
    "default_hooks.checkpoint.interval": _NUMBER,
    "default_hooks.checkpoint.max_keep_ckpts": _NUMBER,
    "default_hooks.logger.interval": _COUNT,
    "model.lora.r": _COUNT,
    "model.lora.lora_alpha": _POSITIVE,
    "model.lora.lora_dropout": _NUMBER0,
    "model.use_activation_checkpointing": _SWITCH,
    "model.use_varlen_attn": _SWITCH,
    "model.llm.trust_remote_code": _SWITCH,
    "model.llm.quantization_config.load_in_4bit": _SWITCH,
    "model.llm.quantization_config.load_in_8bit": _SWITCH,
    "sequence_parallel_size": _COUNT,
    "randomness.seed": _COUNT0._replace(none=True),
    "resume": _SWITCH,
    "load_from": _PATH,
    "work_dir": _PATH,
}
_MISSING = object()


def check(start: Start) -> Iterator[Finding]:
    """Settings of the wrong type ("wrong-type") or that cannot be ("wrong-value")."""
    said: set[str] = set()
    for key, kind in _KINDS.items():
        key = key.format(dataset=start.dataset)
        value = start.config.get(key, _MISSING)
        field = start.config.setting(key)
        if value is _MISSING or field in said or _refers(value):
            continue
        said.add(field)
        if not _is(value, kind):
            yield _wrong(field, value, kind)
        elif kind.low is not None and value is not None and _low(value, kind):
            yield _impossible(field, value, kind)
        else:
            yield from _unusual(key, field, value)
    yield from _betas(start)


def _refers(value: Any) -> bool:
    """Whether it is an object that only mmengine knows."""
    return isinstance(value, dict)


def _is(value: Any, kind: _Kind) -> bool:
    if value is None:
        return kind.none
    if isinstance(value, bool):
        return bool in kind.types
    return isinstance(value, kind.types)


def _low(value: float, kind: _Kind) -> bool:
    assert kind.low is not None
    return value < kind.low or (kind.above and value == kind.low)


def _wrong(field: str, value: Any, kind: _Kind) -> Finding:
    meant = _meant(value, kind)
    return Finding(
        ERROR,
        "wrong-type",
        _("{field} is {value}").format(field=field, value=one_line(repr(value))),
        _("It has to be {kind}.").format(kind=_(kind.words)),
        _("Set {field} = {value}.").format(field=field, value=repr(meant))
        if meant is not None
        else _("Correct it."),
        Fix(field, meant) if meant is not None else None,
        field,
    )


def _meant(value: Any, kind: _Kind) -> Any:
    """The right value, where only its form is wrong: "2e-4" for 2e-4, 500.0 for 500."""
    if isinstance(value, str):
        try:
            value = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError):
            return None
    elif _TEXT.types == kind.types or isinstance(value, bool):
        return None
    if isinstance(value, float) and kind.types == (int,) and value.is_integer():
        value = int(value)
    usable = value is not None and _is(value, kind)
    return value if usable and (kind.low is None or not _low(value, kind)) else None


def _impossible(field: str, value: Any, kind: _Kind) -> Finding:
    return Finding(
        ERROR,
        "wrong-value",
        _("{field} is {value}").format(field=field, value=value),
        _("It has to be {kind}.").format(kind=_(kind.words)),
        _("Correct it."),
        field=field,
    )


def _unusual(key: str, field: str, value: Any) -> Iterator[Finding]:
    """Outside the range that the form calls sane: worth a look, not wrong."""
    known = BY_NAME.get(key) or BY_NAME.get(field)
    if known is None or isinstance(value, bool) or not isinstance(value, int | float):
        return
    low, high = known.low, known.high
    if (low is not None and value < low) or (high is not None and value > high):
        yield Finding(
            INFO,
            "unusual",
            _("{field} is {value}, which is unusual").format(field=field, value=value),
            _("Most runs have {low} to {high}.").format(
                low="…" if low is None else f"{low:g}", high="…" if high is None else f"{high:g}"
            ),
            field=field,
        )


def _betas(start: Start) -> Iterator[Finding]:
    key = "optim_wrapper.optimizer.betas"
    value = start.config.get(key, _MISSING)
    if value is _MISSING or _refers(value):
        return
    pair = isinstance(value, list) and len(value) == 2
    if not pair or not all(isinstance(one, int | float) and 0 <= one < 1 for one in value):
        field = start.config.setting(key)
        yield Finding(
            ERROR,
            "wrong-type" if not pair else "wrong-value",
            _("{field} is {value}").format(field=field, value=one_line(repr(value))),
            _("It has to be two numbers from 0 up to 1."),
            _("Set {field} = {value}.").format(field=field, value="(0.9, 0.999)"),
            Fix(field, (0.9, 0.999)),
            field,
        )
