"""Is the data there, readable, and of the shape that the map function takes?"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.config import peek
from engine.config.findings import ERROR, INFO, Finding, Fix
from engine.config.loaded import Loaded
from engine.errors import Problem
from engine.i18n import _

DATASET = "train_dataloader.dataset"
_BUILDERS = ("json", "csv", "parquet", "text", "arrow")
_SHAPES = {"alpaca_map_fn": "alpaca", "openai_map_fn": "openai", "pretrain_map_fn": "text"}


def base(config: Loaded) -> str:
    """The key of the dataset: mmengine's place, or that of the Hugging Face trainer."""
    return DATASET if config.get(DATASET) is not None else "train_dataset"


def files(config: Loaded) -> list[Path]:
    """The local files that the config trains on; empty for hub datasets and other kinds."""
    inner = f"{base(config)}.dataset"
    if config.name(f"{inner}.type") != "load_dataset":
        return []
    if config.get(f"{inner}.path") not in _BUILDERS:
        return []
    return [Path(one).expanduser() for one in _strings(config.get(f"{inner}.data_files"))]


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        value = value.get("train", next(iter(value.values()), []))
        return _strings(value)
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def shape(config: Loaded) -> str | None:
    """The shape of rows that the config's map function takes; None for one we do not name."""
    function = config.get(f"{base(config)}.dataset_map_fn")
    if function is None:
        return "xtuner"
    return _SHAPES.get(config.name(f"{base(config)}.dataset_map_fn"))


def check(config: Loaded) -> list[Finding]:
    """Findings about the data's files and their first rows."""
    found: list[Finding] = []
    paths = files(config)
    if not paths:
        return _hub(config)
    for path in paths:
        found += _file(config, path)
    return found


def _hub(config: Loaded) -> list[Finding]:
    inner = f"{base(config)}.dataset"
    name = config.get(f"{inner}.path")
    if config.name(f"{inner}.type") != "load_dataset" or not isinstance(name, str):
        return []
    path = Path(name).expanduser()
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
                _("Point the config at your data: tunedeck config copy NAME --data FILE"),
                field=f"{inner}.path",
            )
        ]
    if re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        return [
            Finding(
                INFO,
                "data-hub",
                _("The data {name} comes from the hub").format(name=name),
                _("Its rows cannot be checked before it is fetched."),
                _("To train on your own: tunedeck config copy NAME --data FILE"),
                field=f"{inner}.path",
            )
        ]
    return []


def _field(config: Loaded, path: Path) -> str:
    for name, value in config.values.items():
        if isinstance(value, str | list) and str(path) in _strings(value):
            return str(name)
    return f"{base(config)}.dataset.data_files"


def _file(config: Loaded, path: Path) -> list[Finding]:
    field = _field(config, path)
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
    if config.get(f"{base(config)}.dataset.path") != "json":
        return []
    try:
        first = peek.head(path)
    except Problem as problem:
        return [Finding(ERROR, "data-broken", problem.what, problem.why, problem.todo, field=field)]
    if not first.rows:
        return [
            Finding(
                ERROR,
                "data-empty",
                _("{path} has no rows").format(path=path),
                field=field,
            )
        ]
    return _columns(config, path, first.rows)


def _columns(config: Loaded, path: Path, rows: list[Any]) -> list[Finding]:
    """The columns that the map function needs, in the first rows."""
    field = f"{base(config)}.dataset_map_fn"
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
