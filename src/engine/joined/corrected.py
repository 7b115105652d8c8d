"""An answer of a chat, corrected, becomes a row of the dataset. Takes dataset and workspace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from engine import files
from engine.dataset import shapes
from engine.dataset.called import own_place
from engine.dataset.editing import edit
from engine.dataset.editing.versions import Versions
from engine.dataset.reader import Dataset
from engine.dataset.shapes.writing import row_of
from engine.errors import Problem
from engine.i18n import _
from engine.workspace import Workspace


class Added(msgspec.Struct, frozen=True):
    """Where the row went. `kept` is the file's former version, "" for a new file."""

    path: Path
    row: int
    kept: str = ""


class Target(msgspec.Struct, frozen=True):
    """The dataset that is open, and the file beside it for rows that are not to go into it.

    `system` is the system text of its first row, "" where it has none.
    `closed` says why its rows cannot be written into its own file; "" when they can.
    """

    data: Path
    shape: str
    beside: Path
    system: str = ""
    closed: str = ""


def target(workspace: Workspace) -> Target:
    """Where a corrected answer can go. Raises `Problem` when no dataset is open, or it is gone."""
    last = workspace.last()
    if not last.data:
        raise Problem(
            _("No dataset is open"),
            _("A corrected answer goes into the dataset of the Data pane."),
            _("Open one there first (F2)."),
        )
    data, place = Path(last.data), own_place(Path(last.data), workspace)
    with Dataset.open(last.dataset, last.shape or None) as dataset:
        if not dataset.shape:
            raise shapes.unknown(data, dataset.row(0))
        beside = (data if data.is_dir() else place.parent) / f"{_stem(place)}-corrected.jsonl"
        turns = shapes.conversation(_example(dataset), dataset.shape)
        system = turns[0].system if turns else ""
        try:
            edit.can_edit(dataset)
        except Problem as problem:
            return Target(data, dataset.shape, beside, system, problem.why)
        return Target(data, dataset.shape, beside, system)


def add(where: Target, turn: shapes.Turn, workspace: Workspace, into_data: bool) -> Added:
    """Write `turn` as a row of the dataset's shape.

    Args:
        where: from `target`.
        turn: the question, the right answer, and the system text ("" for none).
        workspace: former versions of a file are kept in its own folder.
        into_data: behind the dataset's last row; else behind that of the file beside it.
    """
    with Dataset.open(where.data, where.shape) as dataset:
        row = row_of(shapes.by_name(where.shape), turn, _example(dataset))
        if into_data:
            return _append(dataset, row, workspace)
    if where.beside.exists():
        with Dataset.open(where.beside, where.shape) as dataset:
            return _append(dataset, row, workspace)
    with files.replacing(where.beside, force=False) as file:
        file.write(msgspec.json.encode(row) + b"\n")
    return Added(where.beside, 0)


def _append(dataset: Dataset, row: dict[str, Any], workspace: Workspace) -> Added:
    done = edit.append(dataset, row, Versions(workspace.state / "trash"))
    return Added(Path(done.path), done.rows - 1, done.kept)


def _example(dataset: Dataset) -> Any:
    """The first row that can be read."""
    return next((row.value for row in dataset.page(0, 20) if row.problem is None), None)


def _stem(path: Path) -> str:
    """The name without what says its format and compression."""
    name = path.name
    for suffix in (".gz", ".zst", ".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".txt", ".parquet"):
        name = name.removesuffix(suffix)
    return name or "data"
