"""A config of one's own, from the catalogue, pointed at one's own data and model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from engine import files
from engine.config import packages
from engine.config.making import base_model, pointing
from engine.config.making.training_data import TrainingData
from engine.config.stock import catalogue
from engine.config.text.source import Change, ConfigSource
from engine.config.text.values import Code
from engine.errors import Problem
from engine.i18n import _
from engine.settings import Settings

ORIGIN = "From the catalogue: "


class Copied(msgspec.Struct, frozen=True):
    """What `copy` wrote."""

    path: Path
    changes: list[Change]
    module: Path | None = None
    """The map module that was written beside the config, for rows that need one."""
    notes: list[str] = []
    """What a person should know: what was guessed, and what could not be."""


def copy(
    name_or_path: str | Path,
    dest: Path,
    *,
    settings: Settings,
    workspace_root: Path | None = None,
    data: TrainingData | None = None,
    model: str | None = None,
    template: str | None = None,
    values: Mapping[str, Any] | None = None,
    force: bool = False,
) -> Copied:
    """Copy a config to `dest` (a file, or a folder to put it in) and change what was asked.

    Args:
        data: what to train on (`engine.joined.copying.training_data` makes it of files).
        model: a folder (made absolute), a hub name, or "ms:owner/name" for ModelScope.
        template: the name of one of XTuner's prompt templates; without it the
            model's, where that is sure, else the config's stays.
        values: further settings by key; a str is taken as a person types it.

    Raises `Problem` when the config cannot be pointed there; nothing is written then.
    """
    origin = catalogue.find(str(name_or_path), settings, workspace_root)
    target = target_of(name_or_path, dest)
    files.refuse_existing(target, force)
    source = ConfigSource.open(origin)
    before = ConfigSource(source.text)
    notes = base_model.set_model(source, model, settings) if model is not None else []
    wanted, more = _template(source, template, model, settings)
    notes += more
    module, text = module_of(target), ""
    if data is not None:
        text = pointing.point(source, data, module, wanted)
        notes += data.notes
    for key, value in (values or {}).items():
        if isinstance(value, str) and not isinstance(value, Code):
            source.assign(key, value)
        else:
            source.set(key, value)
    changes = source.changes(before)
    source.note(f"{ORIGIN}{origin.stem}{_release(origin, settings)}")
    beside = write_module(target.with_name(f"{module}.py"), text, force) if text else None
    return Copied(source.save(target, force=force), changes, beside, notes)


def write_module(path: Path, text: str, force: bool) -> Path:
    """Write a map module; one that says the same already may stand there."""
    same = path.is_file() and path.read_bytes() == text.encode()
    with files.replacing(path, force=force or same) as file:
        file.write(text.encode())
    return path.resolve()


def target_of(name_or_path: str | Path, dest: Path) -> Path:
    """The file that `copy` writes: `dest`, or in the folder `dest` one of the config's name."""
    folder = dest.is_dir() or dest.suffix != ".py"
    return dest / f"{Path(name_or_path).name.removesuffix('.py')}.py" if folder else dest


def module_of(target: Path) -> str:
    """The name of the map module that may be written beside the config `target`."""
    name = re.sub(r"\W+", "_", target.stem)
    return f"{'config_' if name[:1].isdigit() else ''}{name}_map"


def _template(
    source: ConfigSource, asked: str | None, model: str | None, settings: Settings
) -> tuple[str, list[str]]:
    """Set the prompt template: the one asked for, else the model's where that is sure."""
    if asked is not None:
        base_model.set_template(source, asked, settings)
        return asked.removeprefix("PROMPT_TEMPLATE."), []
    guess = base_model.guess_template(source, settings)
    if model is None or not source.has("prompt_template"):
        return guess, []
    now = str(source.get("prompt_template")).removeprefix("PROMPT_TEMPLATE.")
    if guess and guess != now:
        base_model.set_template(source, guess, settings)
        return guess, [_("The prompt template is the model's: {name}.").format(name=guess)]
    if not guess:
        note = _("The prompt template stays {name}: this model does not tell its own.")
        return now, [note.format(name=now)]
    return now, []


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
