"""XTuner's own rules about what goes together: it breaks off after its imports; we say so at once.

The rules are those of ``xtuner.tools.train.check_cfg``, of its dataset, train
loop and evaluation hook, and of mmengine's runner.
"""

from __future__ import annotations

import difflib
import string
from collections.abc import Iterator, Mapping
from typing import Any

from engine.config.checks import sequence
from engine.config.checks.findings import ERROR, INFO, WARNING, Finding, Fix
from engine.config.checks.load import PARTS
from engine.config.checks.start import Start
from engine.config.known.field_table import RUNNER_KEYS
from engine.i18n import _
from engine.paths import expanded


def check(start: Start) -> Iterator[Finding]:
    """Findings about settings that do not go together."""
    yield from _whole_runner(start)
    yield from _length(start)
    yield from _varlen(start)
    yield from sequence.check(start)
    yield from _resume(start)
    yield from _evaluation(start)
    yield from _saving(start)


def _whole_runner(start: Start) -> Iterator[Finding]:
    """The runner wants all of what a training takes, or none."""
    config = start.config
    if config.get("trainer") is not None or config.get("training_args") is not None:
        return  # the Hugging Face trainer
    names = sorted(set(config.values) - RUNNER_KEYS)
    missing = [
        part
        for part in PARTS
        if config.get(part) is None
        and not difflib.get_close_matches(part, names, n=1, cutoff=0.8)  # said already
    ]
    if missing:
        yield Finding(
            ERROR,
            "part-missing",
            _("The config has no {names}").format(names=", ".join(missing)),
            _("XTuner needs them to train."),
            _("Copy them from a config of the catalogue."),
            field=missing[0],
        )


def _length(start: Start) -> Iterator[Finding]:
    config = start.config
    if not isinstance(config.get("train_cfg"), Mapping):
        return
    if config.name("train_cfg.type") not in ("TrainLoop", ""):
        return
    epochs, iters = config.get("train_cfg.max_epochs"), config.get("train_cfg.max_iters")
    if epochs is not None and iters is not None:
        yield Finding(
            ERROR,
            "two-lengths",
            _("Both max_epochs and max_iters are set"),
            _("XTuner takes one of them."),
            _("Take one out of train_cfg."),
            field="train_cfg.max_iters",
        )
    elif epochs is None and iters is None:
        yield Finding(
            ERROR,
            "no-length",
            _("Neither max_epochs nor max_iters is set"),
            _("XTuner does not know how long to train."),
            _("Set train_cfg = dict(type=TrainLoop, max_epochs=max_epochs)."),
            field="train_cfg",
        )


def _varlen(start: Start) -> Iterator[Finding]:
    config = start.config
    if config.get("use_varlen_attn") is not True:
        return
    if config.number("train_dataloader.batch_size", 1) > 1:
        field = config.setting("train_dataloader.batch_size")
        yield Finding(
            ERROR,
            "varlen-batch",
            _("use_varlen_attn needs a batch size of 1"),
            _("Packed samples are told apart inside one row; XTuner refuses several rows."),
            _("Set {field} = 1, and raise accumulative_counts instead.").format(field=field),
            Fix(field, 1),
            field,
        )
    if not start.packed:
        field = config.setting(f"{start.dataset}.pack_to_max_length")
        yield Finding(
            ERROR,
            "varlen-pack",
            _("use_varlen_attn needs packing"),
            _("It tells packed samples apart; without packing XTuner breaks off."),
            _("Set {field} = {value}.").format(field="use_varlen_attn", value=False),
            Fix("use_varlen_attn", False),
            field,
        )
    if config.versions and config.versions.get("flash_attn") is None:
        yield sequence.needs_flash("varlen-flash", "use_varlen_attn", Fix("use_varlen_attn", False))
    yield from sequence.other_attention(start, "varlen-attention", "use_varlen_attn")


def _resume(start: Start) -> Iterator[Finding]:
    config = start.config
    given = config.get("load_from")
    if isinstance(given, str) and "://" not in given and not expanded(given).exists():
        yield Finding(
            ERROR,
            "checkpoint-missing",
            _("There is no checkpoint at {path}").format(path=given),
            "",
            _("Correct load_from, or set load_from = None."),
            Fix("load_from", None),
            "load_from",
        )
    elif config.get("resume") is True and given is None:
        yield Finding(
            WARNING,
            "resume-nothing",
            _("resume is on, and load_from names no checkpoint"),
            _("A new run has no checkpoint of its own: it would begin from step 0."),
            _("To go on with a run, resume it; else set resume = False."),
            Fix("resume", False),
            "resume",
            ways=("resume",),
        )


def _evaluation(start: Start) -> Iterator[Finding]:
    """XTuner formats the system prompt and the template with the question: braces break it."""
    for index, hook in enumerate(_hooks(start)):
        if _kind(hook) != "EvaluateChatHook" or not isinstance(hook.get("system"), str):
            continue
        bad = _placeholders(hook["system"], set(start.config.values))
        if bad is not None:
            field = start.config.setting(f"custom_hooks.{index}.system")
            yield Finding(
                ERROR,
                "system-braces",
                _("The system prompt has braces that XTuner takes for a placeholder"),
                _("{braces}: the training would end at its first evaluation.").format(braces=bad),
                _("Write each brace twice."),
                Fix(field, hook["system"].replace("{", "{{").replace("}", "}}")),
                field,
            )


def _placeholders(text: str, known: set[str]) -> str | None:
    """What ``text.format`` would stumble over; None when nothing."""
    try:
        names = [name for _text, name, *_rest in string.Formatter().parse(text) if name is not None]
    except ValueError:
        return "{" if "{" in text else "}"
    bad = [name for name in names if name.partition(".")[0] not in known | {"input", "round"}]
    return "{" + bad[0] + "}" if bad else None


def _hooks(start: Start) -> list[Mapping[str, Any]]:
    hooks = start.config.get("custom_hooks") or []
    return [one if isinstance(one, Mapping) else {} for one in hooks]


def _kind(hook: Mapping[str, Any]) -> str:
    kind = hook.get("type")
    return str(kind.get("$ref", "") if isinstance(kind, Mapping) else kind).rpartition(":")[2]


def _saving(start: Start) -> Iterator[Finding]:
    """A hook that saves by epochs counts none: XTuner's loop has a single one."""
    key = "default_hooks.checkpoint"
    config = start.config
    if not isinstance(config.get(key), Mapping) or config.name("train_cfg.type") != "TrainLoop":
        return
    if config.get(f"{key}.by_epoch", True) is not False:
        yield Finding(
            INFO,
            "save-by-epoch",
            _("Checkpoints are saved by epochs"),
            _("XTuner's loop counts the whole training as one: it saves at its end only."),
            _("Set {field} = {value}.").format(field=f"{key}.by_epoch", value=False),
            Fix(f"{key}.by_epoch", False),
            f"{key}.by_epoch",
        )
