"""From the paths a person gives to the files that hold the rows, and how to open each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.dataset import sniff
from engine.dataset.rows import Part
from engine.dataset.source import open_source
from engine.dataset.text_part import TextPart
from engine.errors import Problem
from engine.i18n import _

_BUILDERS = {"json": "json", "jsonl": "json", "csv": "csv", "tsv": "csv"}
"""What `datasets` calls a format, where the name is another."""


@dataclass
class Found:
    """The files of a dataset, all of one format."""

    paths: list[Path]
    cache: Path | None
    format: str
    compression: str
    size: int
    first: Part | None
    options: dict[str, Any] = field(default_factory=dict)
    """What `datasets` must be told besides (a CSV's separator)."""
    notes: list[str] = field(default_factory=list)
    folder: Path | None = None
    """The folder that was written by save_to_disk."""

    def open(self, number: int) -> Part:
        """The part for one of `paths`. Raises `Problem` when it has another format."""
        if number == 0 and self.first is not None:
            part, self.first = self.first, None
            return part
        part = open_part(self.paths[number], self.cache)
        if _builder(part) != _BUILDERS.get(self.format, self.format):
            raise Problem(
                _("{path} is of another format than the file before it").format(path=part.path),
                _("Files that are opened together must all be of one format."),
                _("Open it by itself."),
            )
        return part

    def load_args(self) -> dict[str, Any]:
        """See `Dataset.load_args`."""
        if self.folder is not None:
            return {"dataset_path": str(self.folder.resolve())}
        names = [str(path.resolve()) for path in self.paths]
        builder = _BUILDERS.get(self.format, self.format)
        return {"path": builder, "data_files": {"train": names}, **self.options}


def find(paths: Sequence[Path], cache: Path | None) -> Found:
    """What `paths` hold. Raises `Problem` when that is nothing, or of several formats."""
    files = list(paths)
    first = open_part(files[0], cache)
    size = sum(path.stat().st_size for path in files)
    return Found(files, cache, _format(first), _compression(first), size, first)


def open_part(path: Path, _cache: Path | None) -> Part:
    """The rows of one file. Raises `Problem` when it is none that can be read."""
    source = open_source(path)
    try:
        return TextPart(source, sniff.sniff(path, source.read(0, sniff.HEAD)))
    except BaseException:
        source.close()
        raise


def _format(part: Part) -> str:
    return part.layout.format if isinstance(part, TextPart) else "parquet"


def _builder(part: Part) -> str:
    return _BUILDERS.get(_format(part), _format(part))


def _compression(part: Part) -> str:
    return part.source.compression if isinstance(part, TextPart) else ""
