"""A config of one's own, from the catalogue, pointed at one's own data and model."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from engine import files
from engine.config import catalogue, packages, peek
from engine.config.source import Change, ConfigSource
from engine.config.values import Code
from engine.errors import Problem
from engine.i18n import _
from engine.settings import Settings

ORIGIN = "From the catalogue: "
SMALL = 32 << 20
"""Bytes of data below which one process prepares it: packing in pieces wastes small datasets."""

_DATASET = "train_dataloader.dataset"


class Copied(msgspec.Struct, frozen=True):
    """What `copy` wrote."""

    path: Path
    changes: list[Change]


def copy(
    name_or_path: str | Path,
    dest: Path,
    *,
    settings: Settings,
    workspace_root: Path | None = None,
    data: Path | None = None,
    model: str | None = None,
    template: str | None = None,
    shape: str | None = None,
    values: Mapping[str, Any] | None = None,
    force: bool = False,
) -> Copied:
    """Copy a config to `dest` (a file, or a folder to put it in) and change what was asked.

    Args:
        data: a JSON or JSON Lines file to train on; its map function is set by
            `shape` ("xtuner", "alpaca", "openai", "text") or by its first rows.
        model: a folder (made absolute) or a hub name.
        template: the name of one of XTuner's prompt templates.
        values: further settings by key; a str is taken as a person types it.
    """
    origin = catalogue.find(str(name_or_path), settings, workspace_root)
    target = dest / origin.name if dest.is_dir() or dest.suffix != ".py" else dest
    files.refuse_existing(target, force)
    source = ConfigSource.open(origin)
    before = ConfigSource(source.text)
    if data is not None:
        point_at_data(source, data, shape)
    if model is not None:
        _set_model(source, model)
    if template is not None:
        _set_template(source, template, settings)
    for key, value in (values or {}).items():
        if isinstance(value, str) and not isinstance(value, Code):
            source.assign(key, value)
        else:
            source.set(key, value)
    changes = source.changes(before)
    source.note(f"{ORIGIN}{origin.stem}{_release(origin, settings)}")
    return Copied(source.save(target, force=force), changes)


def _release(origin: Path, settings: Settings) -> str:
    xtuner = packages.folder("xtuner", settings)
    if xtuner is not None and xtuner in origin.parents:
        return f" (XTuner {packages.version('xtuner', settings)})"
    return ""


def origin(source: ConfigSource, settings: Settings) -> ConfigSource | None:
    """The catalogue's config that `source` was copied from, if it says so and that is there."""
    first = source.text.lstrip("\ufeff").partition("\n")[0].strip()
    if not first.startswith(f"# {ORIGIN}"):
        return None
    name = first.removeprefix(f"# {ORIGIN}").partition(" ")[0]
    try:
        return ConfigSource.open(catalogue.find(name, settings))
    except Problem:
        return None


def point_at_data(source: ConfigSource, data: Path, shape: str | None = None) -> None:
    """Make the config train on the file `data`, whatever dataset it trained on.

    Raises `Problem` when the file cannot be read, its rows fit no map function
    of XTuner's, or the config does not train on conversations.
    """
    first = peek.head(data, 5)
    shape = shape or peek.shape(first.rows)
    if shape not in peek.MAP_FUNCTIONS:
        raise Problem(
            _("The rows of {path} have no shape that this config can train on").format(path=data),
            _("Known: a 'conversation', 'messages', 'instruction' and 'output', or 'text'."),
            _("Bring the rows into one of these shapes first."),
        )
    _one_dataset(source)
    if str(source.get(f"{_DATASET}.type")) != "process_hf_dataset":
        raise Problem(
            _("This config does not train on conversations"),
            _("Its dataset is made by {name}.").format(name=source.get(f"{_DATASET}.type")),
            _("Choose a config whose name ends in alpaca_e3 or custom_sft_e1, or set it by hand."),
        )
    _set_files(source, str(data.resolve()))
    function = peek.MAP_FUNCTIONS[shape]
    if function is not None:
        source.ensure_import("xtuner.dataset.map_fns", function)
    source.set(f"{_DATASET}.dataset_map_fn", None if function is None else Code(function))
    if data.stat().st_size < SMALL:
        source.set(f"{_DATASET}.map_num_proc", 1)


def _one_dataset(source: ConfigSource) -> None:
    """Where a config trains on several datasets at once, keep the first."""
    if not source.has(_DATASET):
        raise Problem(
            _("This config has no train_dataloader"),
            _("It is not one of XTuner's usual form."),
            _("Choose another one: `tunedeck config list`."),
        )
    if source.has(f"{_DATASET}.datasets"):
        several = source.get(f"{_DATASET}.datasets")
        code = source.code(f"{_DATASET}.datasets").strip("[]() ")
        if isinstance(several, list) and several:
            source.set_own(_DATASET, Code(code.partition(",")[0].strip()))


def _set_files(source: ConfigSource, path: str) -> None:
    """Put `path` where the config names its data, in PART 1 when it does so there."""
    inner = f"{_DATASET}.dataset"
    variable = None
    for key in (f"{inner}.data_files.train", f"{inner}.data_files", f"{inner}.path"):
        if source.has(key) and source.get(key) != "json":
            variable = source.variable(key)
            break
    if variable is not None:
        # The whole call is written anew: an option such as name="main" belonged to the old data.
        source.set(variable, path)
        value = Code(variable)
    else:
        value = Code(repr(path))
    if str(source.get(f"{inner}.type") if source.has(f"{inner}.type") else "") != "load_dataset":
        source.ensure_import("datasets", "load_dataset")
    source.set_own(
        inner, Code(f'dict(type=load_dataset, path="json", data_files=dict(train={value}))')
    )


def _set_model(source: ConfigSource, model: str) -> None:
    folder = Path(model).expanduser()
    value = str(folder.resolve()) if folder.exists() else model
    for key in (
        "pretrained_model_name_or_path",
        "llm_name_or_path",
        "model.llm.pretrained_model_name_or_path",
    ):
        if source.has(key):
            source.set(key, value)
            return
    raise Problem(
        _("This config does not say where its model is"),
        todo=_("Set it by hand: tunedeck config set FILE KEY=VALUE"),
    )


def _set_template(source: ConfigSource, template: str, settings: Settings) -> None:
    name = template.removeprefix("PROMPT_TEMPLATE.")
    known = catalogue.templates(settings)
    if known and name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        raise Problem(
            _("XTuner has no prompt template {name}").format(name=name),
            _("Did you mean {name}?").format(name=near[0]) if near else "",
            _("It has: {names}").format(names=", ".join(known)),
        )
    source.ensure_import("xtuner.utils", "PROMPT_TEMPLATE")
    source.set("prompt_template", Code(f"PROMPT_TEMPLATE.{name}"))
