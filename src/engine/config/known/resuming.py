"""What a changed setting does to a training that goes on from a checkpoint."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

import msgspec

from engine.config.text.reader import ConfigReader
from engine.i18n import N_, _

Effect = Literal["refused", "order", "training", "unread", "harmless"]
"""From the gravest: the checkpoint does not fit; the data is taken in another order; the
training goes on differently; it has no effect any more; nothing else changes."""

GRAVEST: tuple[Effect, ...] = ("refused", "order", "training", "unread", "harmless")

_SPOKEN: dict[Effect, str] = {
    "refused": N_("cannot be changed"),
    "order": N_("the data order starts anew"),
    "training": N_("the training goes on differently"),
    "unread": N_("has no effect any more"),
    "harmless": N_("does no harm"),
}


class Meaning(msgspec.Struct, frozen=True):
    """What one change means."""

    effect: Effect
    text: str


def spoken(effect: Effect) -> str:
    """An effect in the language in use."""
    return _(_SPOKEN[effect])


_LORA = r"(?:model\.)?(?:llm_|visual_encoder_)?lora"
_RULES: tuple[tuple[str, Effect, str], ...] = (
    # The checkpoint does not fit.
    (
        r"(?:.*\.)?(?:pretrained_model|llm|visual_encoder)_name_or_path",
        "refused",
        N_("The checkpoint belongs to the other model."),
    ),
    (
        rf"{_LORA}\.(?:r|rank_pattern)",
        "refused",
        N_("The checkpoint's matrices have the other rank."),
    ),
    (
        rf"{_LORA}(?:\.(?:type|bias|target_modules|modules_to_save|use_dora|layers_\w+)\b.*)?",
        "refused",
        N_("The checkpoint has weights for other parts of the model."),
    ),
    (
        r"model(?:\.type|\.freeze_\w+)?",
        "refused",
        N_("The checkpoint has weights for other parts of the model."),
    ),
    (
        r"optim_type|optim_wrapper\.optimizer\.type|optim_wrapper(?:\.type)?",
        "refused",
        N_("The checkpoint's optimizer state is of another kind."),
    ),
    (
        r"strategy(?:\..*)?|runner_type|framework",
        "refused",
        N_("The checkpoint was split by DeepSpeed in another way."),
    ),
    # No effect any more.
    (
        r"randomness(?:\.seed)?",
        "unread",
        N_("The checkpoint's own seed is taken, so that data order and chance go on."),
    ),
    (
        r"pretrained_pth|model\.pretrained_pth|load_from|resume|work_dir",
        "unread",
        N_("The checkpoint takes its place."),
    ),
    # How it goes on.
    (
        r"(?:train_dataloader\.)?batch_size",
        "order",
        N_("Steps count other rows than before: some may be seen again, some not."),
    ),
    (
        rf"{_LORA}\.(?:lora_alpha|use_rslora|alpha_pattern)",
        "training",
        N_("What was learned counts more or less from the first step on: the loss jumps."),
    ),
    (
        r"model\..*(?:quantization_config.*|torch_dtype)",
        "training",
        N_("The base model's numbers are rounded in another way."),
    ),
    (
        r"max_epochs|max_steps|train_cfg\.(?:max_epochs|max_iters)",
        "training",
        N_("It ends elsewhere, and the learning rate follows the new length from the next step."),
    ),
    (
        r"lr|warmup_ratio|param_scheduler.*|optim_wrapper\.optimizer\..*|weight_decay|betas",
        "training",
        N_("From the next step on, as if it had been so from the start."),
    ),
    # Nothing else changes.
    (
        r"train_dataloader\.(?:num_workers|pin_memory|persistent_workers|prefetch_factor)"
        r"|dataloader_num_workers",
        "harmless",
        "",
    ),
    (
        r"model\.(?:use_activation_checkpointing|llm\.(?:attn_implementation|trust_remote_code))"
        r"|(?:tokenizer\.)?trust_remote_code",
        "harmless",
        N_("Speed and memory change, not what is learned."),
    ),
    (
        r"(?:default_hooks\.checkpoint|save_).*",
        "harmless",
        N_("From the next checkpoint on."),
    ),
    # By where it stands.
    (
        r"train_dataloader(?:\..*)?|train_dataset(?:\..*)?|sequence_parallel_size",
        "order",
        N_("Other samples are made of the data, or in another order."),
    ),
    (
        r"(?:model|optim_wrapper|train_cfg|data_preprocessor|tokenizer|auto_scale_lr)\..*",
        "training",
        N_("From the next step on."),
    ),
)
_PATTERNS = [(re.compile(pattern), Meaning(effect, text)) for pattern, effect, text in _RULES]
_HARMLESS = Meaning("harmless", "")


def meaning(source: ConfigReader, key: str) -> Meaning:
    """What a change of `key` means; `source` tells which settings take their value from it.

    A variable of PART 1 does what the gravest of its uses does.
    """
    names, unread = {key}, [key]
    while unread:
        name = unread.pop()
        # A member does what its block does: alpaca_en.max_length is the dataset's.
        for one in {name, name.partition(".")[0]}:
            new = set(source.readers(one)) - names if source.has(one) else set()
            names |= new
            unread += new
    return _gravest(map(_of_name, names))


def _of_name(name: str) -> Meaning:
    return next((found for pattern, found in _PATTERNS if pattern.fullmatch(name)), _HARMLESS)


def _gravest(found: Iterable[Meaning]) -> Meaning:
    return min(found, key=lambda one: (GRAVEST.index(one.effect), not one.text))
