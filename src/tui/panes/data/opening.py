"""Which datasets a workspace offers to open, and the words for one that is open."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich.cells import cell_len

from engine.dataset.called import called
from engine.i18n import _, ngettext
from engine.text import one_line, size
from engine.workspace import Workspace
from tui.dialogs.choose import PATHS, Choice
from tui.widgets.cells import tail

if TYPE_CHECKING:
    from engine.dataset.reader import Dataset

_TEXT = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".txt")
SUFFIXES = (
    *_TEXT,
    *(suffix + packed for suffix in _TEXT for packed in (".gz", ".zst")),
    ".parquet",
    ".arrow",
)
"""What files of datasets are called."""


_LEAST_NAME = 12
"""Cells of a name that stay, whatever else there is to say."""


def candidates(workspace: Workspace) -> Iterator[Choice]:
    """The datasets in the workspace: files and folders of files, those in ``data/`` first."""
    for folder in (workspace.data, workspace.root):
        if folder.is_dir():
            entries = [one for one in sorted(folder.iterdir()) if not one.name.startswith(".")]
            for path in entries:
                if path.is_file() and path.name.lower().endswith(SUFFIXES):
                    yield Choice(str(path), workspace.relative(path), size(path.stat().st_size))
            for path in entries if folder == workspace.data else ():
                if path.is_dir() and (files := _files_in(path)):
                    words = ngettext("{count} file", "{count} files", files).format(count=files)
                    yield Choice(str(path), workspace.relative(path) + "/", words)


def meant(typed: str, workspace: Workspace) -> str:
    """What `typed` names: a path from the workspace's root, or as it stands a name on a hub."""
    path = workspace.resolve(typed)
    if path.exists() or typed.startswith(PATHS) or typed.lower().endswith(SUFFIXES):
        return str(path)
    return typed


def _files_in(folder: Path) -> int:
    """How many files of a dataset lie in `folder`."""
    return sum(
        1
        for path in folder.iterdir()
        if path.name.lower().endswith(SUFFIXES) and not path.name.startswith(("dataset_", "state"))
    )


def head(dataset: Dataset, workspace: Workspace, view: str, share: str, room: int) -> str:
    """What is open, in one line: name, view, rows, format (unless the name says it), shape.

    Args:
        dataset: what is open.
        workspace: names are told from its root.
        view: which rows are shown, if not all.
        share: how much of the file has been looked through while rows are counted.
        room: cells that there are; the name's beginning is cut first.
    """
    rows = dataset.rows
    if rows is None:
        counted = _("{count:,} rows so far {share}").format(count=dataset.known, share=share)
    else:
        counted = ngettext("{count:,} row", "{count:,} rows", rows).format(count=rows)
    files = len(dataset.paths)
    kind = dataset.format + (f".{dataset.compression}" if dataset.compression else "")
    parts = [
        view,
        counted.strip(),
        ngettext("{count} file", "{count} files", files).format(count=files) if files > 1 else "",
        "" if dataset.path.name.lower().endswith(f".{kind}") else kind,
        Path(dataset.shape).name or _("shape unknown (m)"),
    ]
    rest = one_line("".join(f" · {part}" for part in parts if part))
    name = one_line(called(dataset.path, workspace))
    return tail(name, max(room - cell_len(rest), _LEAST_NAME)) + rest
