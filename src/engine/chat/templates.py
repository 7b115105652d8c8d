"""How a model wants to be asked: the template and system prompt it was trained with.

XTuner writes its config (``xtuner_config.py``) beside every adapter, and a
merge takes it along. It is a Python program; here its text is only parsed,
never run. Standard library only: the app and the chat worker both use this.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from engine import assignments
from engine.assignments import UNKNOWN, XTUNER_CONFIG, Reference

TOKENIZER = "tokenizer"
"""The name that stands for the tokenizer's own chat template."""


@dataclass(frozen=True)
class Training:
    """What a model's training config says about asking it.

    `template` is the name of one of XTuner's templates, a template of the
    config's own, or None when it names none. `system` is a text, the name of
    one of XTuner's system texts, or None. `trusted`: the config lets the
    model bring code of its own.
    """

    template: str | dict[str, Any] | None = None
    system: str | Reference | None = None
    trusted: bool = False


def for_model(model: Path, adapter: Path | None = None) -> Training | None:
    """The training config that lies with the adapter, else with the model; None without one."""
    for folder in (adapter, model):
        if folder is not None and (folder / XTUNER_CONFIG).is_file():
            try:
                return read((folder / XTUNER_CONFIG).read_text(encoding="utf-8"))
            except (OSError, UnicodeDecodeError):
                return None
    return None


def read(text: str) -> Training | None:
    """What a config's text says; None when it is not Python."""
    names = assignments.read(text)
    if names is None:
        return None
    template = next(_find(names.get("train_dataloader"), "template"), None)
    template = template or names.get("prompt_template")
    system = next(_find(names.get("custom_hooks"), "system"), names.get("SYSTEM"))
    trusted = any(value is True for value in _find(names.get("model"), "trust_remote_code"))
    return Training(_template(template), _system(system), trusted)


def _template(value: Any) -> str | dict[str, Any] | None:
    value = _reference(value)
    if isinstance(value, Reference):
        return value.key if value.table == "PROMPT_TEMPLATE" else None
    if isinstance(value, dict) and isinstance(value.get("INSTRUCTION"), str):
        told = {key: part for key, part in value.items() if isinstance(key, str)}
        return {key: part for key, part in told.items() if part is not UNKNOWN}
    return None


def _system(value: Any) -> str | Reference | None:
    value = _reference(value)
    if isinstance(value, Reference):
        return value if value.table == "SYSTEM_TEMPLATE" else None
    return value if isinstance(value, str) else None


def _reference(value: Any) -> Any:
    """mmengine writes ``PROMPT_TEMPLATE.x`` out as "xtuner.utils.PROMPT_TEMPLATE.x"."""
    if isinstance(value, str) and value.startswith("xtuner.") and " " not in value:
        table, _dot, key = value.rpartition(".")
        return Reference(table.rpartition(".")[2], key)
    return value


def _find(value: Any, key: str) -> Iterator[Any]:
    """All values that stand under `key`, however deep."""
    if isinstance(value, dict):
        if value.get(key) not in (None, UNKNOWN):
            yield value[key]
        for part in value.values():
            yield from _find(part, key)
    elif isinstance(value, list):
        for part in value:
            yield from _find(part, key)


@cache
def of_xtuner() -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """XTuner's prompt templates and system texts by name, read from its source.

    Only for a process under the training interpreter: it looks where that
    finds XTuner, without importing it. Empty without XTuner.
    """
    spec = importlib.util.find_spec("xtuner")
    for place in (spec.submodule_search_locations or []) if spec else []:
        source = Path(place) / "utils" / "templates.py"
        if source.is_file():
            names = assignments.read(source.read_text(encoding="utf-8")) or {}
            return names.get("PROMPT_TEMPLATE") or {}, names.get("SYSTEM_TEMPLATE") or {}
    return {}, {}
