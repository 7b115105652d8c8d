"""What a path is, in the terms of export: a checkpoint, an adapter, a model, …"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from engine.errors import Problem
from engine.export import torch_zip
from engine.i18n import N_, _

MODEL = "model"
ADAPTER = "adapter"
CHECKPOINT_FILE = "checkpoint-file"
CHECKPOINT_DEEPSPEED = "checkpoint-deepspeed"
DEEPSPEED_PART = "deepspeed-part"
TORN = "torn-checkpoint"
RUN = "run-folder"
CONFIG = "config"
UNKNOWN = "unknown"

CHECKPOINTS = (CHECKPOINT_FILE, CHECKPOINT_DEEPSPEED)

_WORDS = {
    MODEL: N_("a whole model"),
    ADAPTER: N_("an adapter (PEFT)"),
    CHECKPOINT_FILE: N_("a checkpoint of XTuner's"),
    CHECKPOINT_DEEPSPEED: N_("a DeepSpeed checkpoint folder"),
    DEEPSPEED_PART: N_("one file out of a DeepSpeed checkpoint folder"),
    TORN: N_("a checkpoint that was cut off while it was being saved"),
    RUN: N_("the folder of a training run"),
    CONFIG: N_("a Python file, probably a config"),
    UNKNOWN: N_("nothing that export knows"),
}
_HINTS = {
    MODEL: N_("A model needs no converting: chat with it, or use it as the base of a merge."),
    ADAPTER: N_("An adapter is converted already: `tunedeck merge BASE {path} OUT` merges it."),
    CHECKPOINT_FILE: N_("Convert it first: `tunedeck convert {path}`."),
    CHECKPOINT_DEEPSPEED: N_("Convert it first: `tunedeck convert {path}`."),
    DEEPSPEED_PART: N_("Give the folder: {folder}"),
    TORN: N_("Take another checkpoint of the run: {others}"),
    RUN: N_("Give a checkpoint in it: {checkpoint}"),
    CONFIG: N_("Give the checkpoint that was trained with it."),
    UNKNOWN: N_("A model's folder has a config.json, an adapter's an adapter_config.json."),
}


_OTHERS = 3
"""Checkpoints of a run that are named instead of one that is torn."""


class Artefact(NamedTuple):
    """A path and what lies there.

    `kind` is one of this module's constants, `words` names it for a person,
    `hint` says what can be done with it, `zero` is DeepSpeed's stage (3 when
    the weights themselves are split, 2 for stages 1 and 2, else 0).
    """

    kind: str
    path: Path
    words: str
    hint: str
    zero: int = 0


def identify(path: Path) -> Artefact:
    """Say what `path` is, from names and first bytes only. Raises `Problem` if nothing is there."""
    if not path.exists():
        why = ""
        if path.is_symlink():
            why = _("It is a link to {target}, which is not there.").format(target=path.readlink())
        raise Problem(_("{path} does not exist").format(path=path), why, _("Check the path."))
    kind = _folder(path) if path.is_dir() else _file(path)
    others = [one.name for one in _newest_first(path.parent) if one != path][:_OTHERS]
    hint = _(_HINTS[kind]).format(
        path=path,
        folder=path.parent,
        checkpoint=newest(path) or "",
        others=", ".join(others) or "—",
    )
    return Artefact(kind, path, _(_WORDS[kind]), hint, _zero(path) if path.is_dir() else 0)


def expect(path: Path, kinds: tuple[str, ...], wanted: str) -> Artefact:
    """`identify(path)`, or a `Problem` that says what it is when it is none of `kinds`.

    Args:
        path: what the person gave.
        kinds: what can be used.
        wanted: what was asked for, in words ("a checkpoint").
    """
    found = identify(path)
    if found.kind in kinds:
        return found
    raise Problem(
        _("{path} is not {wanted}").format(path=path, wanted=wanted),
        _("It is {words}.").format(words=found.words),
        found.hint,
    )


def newest(folder: Path) -> Path | None:
    """The checkpoint with the highest step in a run's folder."""
    return next(iter(_newest_first(folder)), None)


def _newest_first(folder: Path) -> list[Path]:
    return sorted(_checkpoints(folder), key=lambda one: _step(one) or 0, reverse=True)


def _checkpoints(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [one for one in folder.iterdir() if _step(one) is not None]


def _step(path: Path) -> int | None:
    match = re.fullmatch(r"(?:iter|epoch)_(\d+)\.pth", path.name)
    return int(match[1]) if match else None


def _zero(folder: Path) -> int:
    if any(folder.glob("zero_pp_rank_*_mp_rank_*_model_states.pt")):
        return 3
    return 2 if any(folder.glob("mp_rank_*_model_states.pt")) else 0


def _folder(path: Path) -> str:
    if _zero(path):
        return CHECKPOINT_DEEPSPEED
    if (path / "adapter_config.json").is_file():
        return ADAPTER
    if (path / "config.json").is_file():
        return MODEL
    if _step(path) is not None or any(path.glob("*_optim_states.pt")):
        return TORN  # DeepSpeed's folder, without its model file
    return RUN if newest(path) else UNKNOWN


def _file(path: Path) -> str:
    if not path.is_file():  # a pipe would keep whoever reads it waiting
        return UNKNOWN
    if path.name.endswith(("_model_states.pt", "_optim_states.pt")):
        return DEEPSPEED_PART
    if path.suffix == ".py":
        return CONFIG
    if path.name in ("adapter_model.safetensors", "adapter_model.bin", "adapter_config.json"):
        return ADAPTER
    if path.suffix == ".safetensors" or path.name.startswith("pytorch_model"):
        return MODEL
    if path.name == "config.json":
        return MODEL
    if path.suffix == ".pth" and _cut_off(path):
        return TORN
    # Anything else of that name is meant as a checkpoint: reading it says what is wrong.
    return CHECKPOINT_FILE if path.suffix == ".pth" or torch_zip.whole(path) else UNKNOWN


def _cut_off(path: Path) -> bool:
    """Whether a zip begins here and has no end, or nothing was written at all."""
    with path.open("rb") as file:
        start = file.read(4)
    return not start or (start == b"PK\x03\x04" and not torch_zip.whole(path))
