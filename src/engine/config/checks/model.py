"""Is the model a model, and whole? Read from its files alone."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from engine import weight_files
from engine.config import model_files, packages
from engine.config.checks.findings import ERROR, INFO, WARNING, Finding, Fix
from engine.config.checks.loaded import Loaded
from engine.config.checks.start import Start
from engine.hub import cache
from engine.i18n import _
from engine.paths import expanded

KEYS = (
    "model.llm.pretrained_model_name_or_path",
    "model.pretrained_model_name_or_path",
    "pretrained_model_name_or_path",
)


def name(config: Loaded) -> tuple[str, str]:
    """The base model that the config names, and the setting it comes from ("" when nowhere)."""
    for key in KEYS:
        value = config.get(key)
        if isinstance(value, str):
            return value, config.setting(key)
    return "", ""


def folder(config: Loaded) -> Path | None:
    """The model's folder on this machine; None for a hub name or a path that is not there."""
    value, _key = name(config)
    path = expanded(value) if value else None
    return path if path is not None and path.is_dir() else None


def check(start: Start) -> Iterator[Finding]:
    """Findings about the base model."""
    config = start.config
    value, field = name(config)
    if not value:
        return
    path = expanded(value)
    if not path.exists():
        yield from _absent(value, path, field)
    elif not path.is_dir():
        yield _not_a_model(value, _("It is a file; a model is a folder."), field)
    elif not (path / "config.json").is_file():
        if (path / "adapter_config.json").is_file():
            yield _adapter(value, field)
        else:
            yield _not_a_model(value, _("It has no config.json."), field)
    elif not model_files.config(path):
        yield _not_a_model(value, _("Its config.json cannot be read."), field)
    else:
        yield from _weights(path, value, field)
        yield from _remote_code(start, path)
        yield from _context(start, path)


def _adapter(value: str, field: str) -> Finding:
    return Finding(
        ERROR,
        "model-adapter",
        _("{path} is an adapter, not a model").format(path=value),
        _("Training starts from a whole model."),
        _("Give the base model, or merge the adapter into it first."),
        field=field,
    )


def _absent(value: str, path: Path, field: str) -> list[Finding]:
    # "models/x" has the form of a hub name; in a workspace it is a folder.
    local = path.parent.is_dir() or path.parts[0] in ("models", ".", "..")
    hub = re.fullmatch(r"[\w.-]+/[\w.-]+", value) is not None and not local
    if not hub:
        return [
            Finding(
                ERROR,
                "model-missing",
                _("There is no model at {path}").format(path=value),
                _("Looked from {folder}.").format(folder=Path.cwd())
                if not path.is_absolute()
                else "",
                _("Give the folder that holds the model's config.json."),
                field=field,
            )
        ]
    if cache.place(value).is_dir():
        return []
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON")
    return [
        Finding(
            ERROR if offline else WARNING,
            "model-missing" if offline else "model-hub",
            _("The model {name} is not on this machine").format(name=value),
            _("HF_HUB_OFFLINE is set, so it cannot be fetched.")
            if offline
            else _("XTuner would fetch it from the hub when the training starts."),
            _("Give a local folder in {field}.").format(field=field),
            field=field,
        )
    ]


def _not_a_model(value: str, why: str, field: str) -> Finding:
    return Finding(
        ERROR,
        "model-not-a-model",
        _("{path} is not a model").format(path=value),
        why,
        _("Give the folder that holds the model's config.json."),
        field=field,
    )


def _weights(path: Path, value: str, field: str) -> Iterator[Finding]:
    """All shards there, and none of them broken off."""
    why = weight_files.fault(path)
    if not why:
        return
    if not weight_files.taken(path):
        yield _not_a_model(value, why, field)
        return
    yield Finding(
        ERROR,
        "model-incomplete",
        _("The model {path} is not whole").format(path=value),
        why,
        _("Copy or download it again."),
        field=field,
    )


def _remote_code(start: Start, path: Path) -> Iterator[Finding]:
    field = "model.llm.trust_remote_code"
    given = start.config.get(field) is True
    about = model_files.config(path)
    if not about.get("auto_map"):
        return
    if given:
        yield Finding(
            INFO,
            "remote-code",
            _("Python code from the model's folder will run"),
            _("trust_remote_code is set."),
            field=field,
        )
        return
    known = _known_kind(str(about.get("model_type", "")), start)
    yield Finding(
        WARNING if known else ERROR,
        "remote-code",
        _("This model brings Python code of its own, which the config does not allow"),
        _("It may not load without.") if known else _("transformers cannot load it without."),
        _("Look at the code in its folder; then set trust_remote_code = True."),
        Fix(field, True),
        field,
    )


def _known_kind(kind: str, start: Start) -> bool:
    """Whether transformers itself has models of this kind (True where that cannot be told)."""
    folder = packages.folder("transformers", start.settings)
    table = folder / "models/auto/configuration_auto.py" if folder else None
    if table is None or not table.is_file() or not kind:
        return True
    return f'"{kind}"' in table.read_text(encoding="utf-8", errors="replace")


def _context(start: Start, path: Path) -> Iterator[Finding]:
    """Samples longer than the model was made for."""
    most = model_files.config(path).get("max_position_embeddings")
    key = f"{start.dataset}.max_length"
    length = start.config.number(key, 0)
    if start.config.get("model.max_position_embeddings") is not None or not isinstance(most, int):
        return
    if length > most:
        field = start.config.setting(key)
        yield Finding(
            WARNING,
            "beyond-context",
            _("max_length is longer than the model's context"),
            _("{length} tokens; the model was made for {most}.").format(
                length=int(length), most=most
            ),
            _("Set {field} = {value}.").format(field=field, value=most),
            Fix(field, most),
            field,
        )
