"""The model that a config starts from, set with what follows from it."""

from __future__ import annotations

import difflib
import re

from engine.config import families, packages
from engine.config.stock import catalogue
from engine.config.text.source import ConfigSource
from engine.config.text.values import Code
from engine.errors import Problem
from engine.hub import cache
from engine.i18n import _
from engine.paths import expanded
from engine.settings import Settings

KEYS = (
    "pretrained_model_name_or_path",
    "llm_name_or_path",
    "path",  # InternVL
    "model.llm.pretrained_model_name_or_path",
    "model.pretrained_model_name_or_path",
    "model.model_path",
)
MODELSCOPE = re.compile(
    r"(?:ms|modelscope):(?://)?|https?://(?:www\.)?modelscope\.(?:cn|ai)/models/"
)
_TARGETS = "model.lora.target_modules"


def set_model(source: ConfigSource, model: str, settings: Settings) -> list[str]:
    """Start from `model`: a folder, a hub name, or a ModelScope name ("ms:owner/name").

    A folder is written as its whole path. Returns what a person should know.
    Raises `Problem` for a config that names no model, or a name that leads nowhere.
    """
    key = next((one for one in KEYS if source.has(one)), None)
    if key is None:
        raise Problem(
            _("This config does not say where its model is"),
            todo=_("Set it by hand: tunedeck config set FILE KEY=VALUE"),
        )
    before = str(source.get(key))
    found = MODELSCOPE.match(model)
    if found:
        value, notes = _from_modelscope(source, model[found.end() :].strip("/"), settings)
    else:
        value, notes = _place(model), []
    source.set(key, value)
    return notes + _fit_lora(source, before, value)


def _place(model: str) -> str:
    folder = expanded(model)
    if folder.exists():
        return str(folder.resolve())
    if model.startswith(("/", "./", "../", "~")) or model.count("/") > 1:
        raise Problem(
            _("There is no model in {path}").format(path=model),
            _("There is no such folder."),
            _("Give a model's folder, a hub name (owner/name), or ms:owner/name for ModelScope."),
        )
    return model


def _from_modelscope(source: ConfigSource, name: str, settings: Settings) -> tuple[str, list[str]]:
    """The downloaded model's folder; else XTuner is told to fetch it when it starts.

    XTuner knows ModelScope only through ``model_resource``: a function that is
    given the model's name and returns a folder.
    """
    for folder in cache.modelscope(name):
        if (folder / "config.json").is_file():
            return str(folder), []
    todo = _("Download it, then give its folder: modelscope download --model {name}").format(
        name=name
    )
    if packages.folder("modelscope", settings) is None:
        raise Problem(
            _("{name} is not on this machine").format(name=name),
            _("The training environment has no modelscope to fetch it with."),
            todo,
        )
    if not source.has("pretrained_model_name_or_path"):
        raise Problem(
            _("{name} is not on this machine").format(name=name),
            _("XTuner cannot fetch it for a config of this kind."),
            todo,
        )
    source.ensure_import("modelscope", "snapshot_download")
    source.set("model_resource", {"fn": Code("snapshot_download"), "args": {}})
    note = _("XTuner fetches {name} from ModelScope when it starts. {todo}")
    return name, [note.format(name=name, todo=todo)]


def _fit_lora(source: ConfigSource, before: str, after: str) -> list[str]:
    """The layers that an adapter sits on have other names in another family of models."""
    old = families.architecture(before)
    if not old or old == families.architecture(after):
        return []
    if not source.has(_TARGETS) or source.get(_TARGETS) is None:
        return []
    source.unset(_TARGETS)
    return [_("LoRA takes every linear layer: the layers named before were another model's.")]


def set_template(source: ConfigSource, template: str, settings: Settings) -> None:
    """Use the prompt template `template`, one of XTuner's. Raises `Problem` for another name."""
    name = template.removeprefix("PROMPT_TEMPLATE.")
    known = catalogue.templates(settings)
    if known and name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        raise Problem(
            _("XTuner has no prompt template {name}").format(name=name),
            _("Did you mean {name}?").format(name=near[0]) if near else "",
            _("It has: {names}").format(names=", ".join(known)),
        )
    if source.has("prompt_template"):
        source.ensure_import("xtuner.utils", "PROMPT_TEMPLATE")
        source.set("prompt_template", Code(f"PROMPT_TEMPLATE.{name}"))


def guess_template(source: ConfigSource, settings: Settings) -> str:
    """The template of the model that `source` names, "" when not sure or not XTuner's."""
    key = next((one for one in KEYS if source.has(one)), None)
    name = families.template(str(source.get(key))) if key else ""
    known = catalogue.templates(settings)
    return name if not known or name in known else ""
