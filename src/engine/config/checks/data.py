"""Is the data there, readable, and of the shape that the map function takes?"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from engine.config import peek
from engine.config.checks.findings import ERROR, INFO, Finding, Fix
from engine.config.checks.loaded import Loaded
from engine.config.checks.start import Start
from engine.errors import Problem
from engine.i18n import _
from engine.paths import expanded

_BUILDERS = ("json", "csv", "parquet", "text", "arrow")
_SHAPES = {"alpaca_map_fn": "alpaca", "openai_map_fn": "openai", "pretrain_map_fn": "text"}


def parts(start: Start) -> list[str]:
    """The keys of the datasets that are joined into one; most configs have a single one."""
    several = start.config.get(f"{start.dataset}.datasets")
    if isinstance(several, list):
        return [f"{start.dataset}.datasets.{index}" for index in range(len(several))]
    return [start.dataset]


def files(start: Start, part: str = "") -> list[Path]:
    """The local files of a part (by default the only one); empty for hub datasets and others."""
    inner = f"{part or start.dataset}.dataset"
    config = start.config
    if config.name(f"{inner}.type") != "load_dataset":
        return []
    if config.get(f"{inner}.path") not in _BUILDERS:
        return []
    return [expanded(one) for one in _strings(config.get(f"{inner}.data_files"))]


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        value = value.get("train", next(iter(value.values()), []))
        return _strings(value)
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def shape(start: Start) -> str | None:
    """The shape of rows that the config's map function takes; None where it cannot be told.

    One of the dataset part's names, or the map function itself: XTuner's name of it,
    or the file beside the config that has it.
    """
    key = f"{start.dataset}.dataset_map_fn"
    value = start.config.get(key)
    if value is None:
        return "xtuner"
    reference = str(value.get("$ref", "")) if isinstance(value, Mapping) else ""
    module, _colon, name = reference.partition(":")
    if module.startswith("xtuner."):
        return _SHAPES.get(name, name if name.endswith("_map_fn") else None)
    beside = start.path.resolve().parent / f"{module}.py"
    return str(beside) if module and "." not in module and beside.is_file() else None


def check(start: Start) -> Iterator[Finding]:
    """Findings about the data's files and their first rows."""
    for part in parts(start):
        paths = files(start, part)
        if not paths:
            yield from _hub(start.config, part)
        for path in paths:
            yield from _file(start, part, path)


def _hub(config: Loaded, part: str) -> list[Finding]:
    inner = f"{part}.dataset"
    name = config.get(f"{inner}.path")
    if config.name(f"{inner}.type") != "load_dataset" or not isinstance(name, str):
        return []
    path = expanded(name)
    if path.is_dir():
        return []
    if path.is_file() or path.is_absolute() or path.suffix in (".json", ".jsonl"):
        missing = not path.exists()
        return [
            Finding(
                ERROR,
                "data-missing",
                _("There is no data at {path}").format(path=name)
                if missing
                else _("The data {path} is given as a hub name").format(path=name),
                "" if missing else _("load_dataset takes a file only with path='json'."),
                _("Point the config at your data."),
                field=config.setting(f"{inner}.path"),
                ways=("data",),
            )
        ]
    if re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        return [
            Finding(
                INFO,
                "data-hub",
                _("The data {name} comes from the hub").format(name=name),
                _("Its rows cannot be checked before it is fetched."),
                _("To train on your own, point the config at it."),
                field=config.setting(f"{inner}.path"),
                ways=("data",),
            )
        ]
    return []


def _field(config: Loaded, part: str) -> str:
    inner = f"{part}.dataset.data_files"
    return next(
        (config.setting(key) for key in (f"{inner}.train", inner) if config.setting(key) != key),
        inner,
    )


def _file(start: Start, part: str, path: Path) -> list[Finding]:
    config, field = start.config, _field(start.config, part)
    if any(mark in str(path) for mark in "*?["):
        return []
    if not path.is_file():
        why = (
            _("It is a folder.")
            if path.is_dir()
            else _("Looked from {folder}.").format(folder=Path.cwd())
            if not path.is_absolute()
            else _("There is no such file.")
        )
        return [
            Finding(
                ERROR,
                "data-missing",
                _("There is no data at {path}").format(path=path),
                why,
                _("Give the file in {field}.").format(field=field),
                field=field,
            )
        ]
    if not os.access(path, os.R_OK):
        return [
            Finding(
                ERROR,
                "data-unreadable",
                _("{path} may not be read").format(path=path),
                _("Its permissions do not let you."),
                _("Correct its permissions, or copy it to a place of your own."),
                field=field,
            )
        ]
    if config.get(f"{part}.dataset.path") != "json":
        return []
    try:
        first = peek.head(path)
    except Problem as problem:
        todo = problem.todo or _("Correct the file, or give another.")
        return [Finding(ERROR, "data-broken", problem.what, problem.why, todo, field=field)]
    if not first.rows:
        return [
            Finding(
                ERROR,
                "data-empty",
                _("{path} has no rows").format(path=path),
                todo=_("Give a file with rows."),
                field=field,
            )
        ]
    return _columns(config, part, path, first.rows) if part == start.dataset else []


def _columns(config: Loaded, part: str, path: Path, rows: list[Any]) -> list[Finding]:
    """The columns that the map function needs, in the first rows."""
    field = f"{part}.dataset_map_fn"
    there = {str(key) for row in rows if isinstance(row, dict) for key in row}
    missing = [one for one in config.columns or [] if one not in there]
    if not missing:
        return []
    named = config.name(field) or "dataset_map_fn = None"
    fits = peek.shape(rows)
    fix = None
    todo = ""
    near = [n for one in missing for n in difflib.get_close_matches(one, sorted(there), n=1)]
    if fits is not None:
        right = peek.MAP_FUNCTIONS[fits]
        fix = Fix(
            field, right, imports=("xtuner.dataset.map_fns", right) if right is not None else None
        )
        todo = _("Set dataset_map_fn = {name}.").format(name=right)
    elif near:
        todo = _("Is the column {name} misspelt?").format(name=near[0])
    return [
        Finding(
            ERROR,
            "map-fn",
            _("The rows of {path} do not suit {name}").format(path=path, name=named),
            _("It needs {missing}; the rows have {there}.").format(
                missing=", ".join(missing), there=", ".join(sorted(there)[:8]) or "-"
            ),
            todo or _("Choose the map function of this data's shape."),
            fix,
            field,
        )
    ]
