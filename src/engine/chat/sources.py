"""What a chat can load: a model's folder, and an adapter's folder on top of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from engine import weight_files
from engine.errors import Problem
from engine.i18n import _

_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")


class ModelSpec(msgspec.Struct, frozen=True):
    """Which model, and how to load it.

    `model` is a folder, or the address of an OpenAI-compatible server
    (``http://host:8000/v1``, ``unix:/path/to/socket``; ``#name`` behind it
    chooses among its models). `dtype` is "auto", "bf16", "fp16" or "fp32";
    `bits` 8 or 4 loads quantized, 0 does not; `device` "auto", "cpu", "cuda"
    or "cuda:1". `template` names one of XTuner's ("" finds it out). `system`
    None means the training config's. `trust` lets a model run Python code
    that it brings, also where no training config allows it. `merge` lets an
    adapter that is alone on its base be put into the weights (faster; in half
    precision not always to the last bit the same). `share` takes a GPU on
    which a training runs. `key` is what a server asks for ("": the settings').
    `engine` names a server program of the user's ("vllm") that is started for
    the model ("": our own process loads it).
    """

    model: str
    adapter: str | None = None
    dtype: str = "auto"
    device: str = "auto"
    bits: int = 0
    template: str = ""
    system: str | None = None
    trust: bool = False
    merge: bool = True
    share: bool = False
    key: str = ""
    engine: str = ""

    @property
    def served(self) -> bool:
        """Whether a server answers for it, and not our own process."""
        return bool(self.engine) or is_endpoint(self.model)


def is_endpoint(model: str) -> bool:
    """Whether `model` is a server's address rather than a folder."""
    return model.startswith(("http://", "https://", "unix:"))


def same_base(one: ModelSpec, other: ModelSpec) -> bool:
    """Whether two specs can share one copy of the weights."""

    def key(spec: ModelSpec) -> tuple[object, ...]:
        return Path(spec.model).resolve(), spec.dtype, spec.device, spec.bits

    return key(one) == key(other)


def check(spec: ModelSpec) -> None:
    """Raise `Problem` when `spec` names something that cannot be loaded; says what it is."""
    model = Path(spec.model)
    _expect(model, "config.json", _("a model's folder"))
    config(model)
    weight_files.require(model)
    if spec.adapter is not None:
        _expect(Path(spec.adapter), "adapter_config.json", _("an adapter's folder"))
        weight_files.require_adapter(Path(spec.adapter))


def weights(model: Path) -> list[Path]:
    """The files that hold a model's weights."""
    for pattern in _WEIGHTS:
        found = [one for one in sorted(model.glob(pattern)) if one.name[0] != "."]
        if found:
            return found
    raise Problem(
        _("{path} holds no weights").format(path=model),
        _("It has a config.json, but neither safetensors nor pytorch_model files."),
        _("Download or copy the model completely."),
    )


def config(model: Path) -> dict[str, Any]:
    """A model's config.json."""
    path = model / "config.json"
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise Problem(
            _("Cannot read {path}").format(path=path),
            str(error),
            _("Download or copy the model again."),
        ) from error
    if not isinstance(value, dict):
        raise Problem(
            _("Cannot read {path}").format(path=path),
            _("It is not a JSON object."),
            _("Download or copy the model again."),
        )
    return value


def _expect(path: Path, marker: str, wanted: str) -> None:
    if (path / marker).is_file():
        # A folder that peft wrote beside a full model is both; asking for either is right.
        return
    why, todo = _what_instead(path, marker)
    raise Problem(_("{path} is not {wanted}").format(path=path, wanted=wanted), why, todo)


def _what_instead(path: Path, marker: str) -> tuple[str, str]:
    """What lies at `path`, and how to go on from there."""
    if not path.exists():
        return _("There is nothing there."), _("Check the path.")
    if (path / "adapter_config.json").is_file():
        return (
            _("It is an adapter."),
            _("Load it on its base model: tunedeck chat BASE --adapter {path}").format(path=path),
        )
    if (path / "config.json").is_file():
        return _("It is a whole model."), _("Give it as the model itself.")
    if path.suffix == ".pth" or any(path.glob("mp_rank_*_model_states.pt")):
        return (
            _("It is a checkpoint of XTuner's."),
            _("Make an adapter of it first: tunedeck convert {path}").format(path=path),
        )
    if path.is_file():
        return _("It is a file."), _("Give the folder.")
    if any(path.glob("iter_*")) or any(path.glob("epoch_*")):
        return (
            _("It is the folder of a training run."),
            _("Convert one of its checkpoints first: tunedeck convert CHECKPOINT"),
        )
    return _("It has no {file}.").format(file=marker), _("Check the path.")
