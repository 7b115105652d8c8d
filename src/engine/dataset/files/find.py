"""From the paths a person gives to the files that hold the rows, and how to open each."""

from __future__ import annotations

import glob
import json
import resource
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from engine.dataset.files import sniff
from engine.dataset.files.arrow_part import ArrowPart
from engine.dataset.files.columnar import ColumnarPart
from engine.dataset.files.parquet_part import ParquetPart
from engine.dataset.files.rows import Part
from engine.dataset.files.text_part import TextPart
from engine.dataset.files.unpacked import open_source
from engine.errors import Problem
from engine.i18n import _
from engine.paths import absolute

_STATE, _SPLITS = "state.json", "dataset_dict.json"
_NOT_DATA = {_STATE, _SPLITS, "dataset_info.json", "dataset_infos.json"}
_BUILDERS = {"jsonl": "json", "tsv": "csv"}
"""What `datasets` calls a format, where the name is another."""
_MOST_ENTRIES = 20_000


@dataclass
class Found:
    """The files of a dataset, all of one format."""

    paths: list[Path]
    cache: Path | None
    notes: list[str] = field(default_factory=list)
    saved: Path | None = None
    """The folder that save_to_disk wrote, if it is one."""
    only: list[str] | None = None
    """The columns that such a folder shows; None for all."""

    def __post_init__(self) -> None:
        _allow_open_files(len(self.paths))
        self._first: Part | None = self._open(self.paths[0])
        self._wanted = _kind(self._first)
        first = self._first
        self.compression = first.source.compression if isinstance(first, TextPart) else ""
        """See `Dataset.compression`."""
        self.options = first.layout.options if isinstance(first, TextPart) else {}
        """What `datasets` must be told besides the path."""
        if isinstance(first, TextPart) and first.layout.note:
            self.notes = [*self.notes, first.layout.note]
        self.size = sum(_size(path) for path in self.paths)
        """The files' bytes on disk."""

    @property
    def format(self) -> str:
        """See `Dataset.format`."""
        return "disk" if self.saved is not None else self._wanted

    def open(self, number: int) -> Part:
        """The part for one of `paths`. Raises `Problem` when it has another format."""
        if number == 0 and self._first is not None:
            part, self._first = self._first, None
            return part
        part = self._open(self.paths[number])
        if _builder(_kind(part)) != _builder(self._wanted):
            part.close()
            raise Problem(
                _("{path} is of another format than the files before it").format(path=part.path),
                _("Files that are opened together must all be of one format."),
                _("Open it by itself."),
            )
        return part

    def _open(self, path: Path) -> Part:
        part = open_part(path, self.cache)
        if self.only is not None and isinstance(part, ColumnarPart):
            part.only = [name for name in self.only if name in part.schema.names]
        return part

    def load_args(self) -> dict[str, Any]:
        """See `Dataset.load_args`."""
        if self.saved is not None:
            return {"dataset_path": str(absolute(self.saved))}
        # datasets takes names for patterns
        names = [glob.escape(str(absolute(path))) for path in self.paths]
        return {"path": _builder(self._wanted), "data_files": {"train": names}, **self.options}


def find(paths: Sequence[Path], cache: Path | None) -> Found:
    """What `paths` hold. Raises `Problem` when that is nothing, or of several formats."""
    if not paths:
        raise Problem(_("No dataset was named"), todo=_("Name a file or a folder."))
    if len(paths) == 1 and paths[0].is_dir():
        return _folder(paths[0], cache, [])
    return Found(list(paths), cache)


def open_part(path: Path, cache: Path | None) -> Part:
    """The rows of one file. Raises `Problem` when it is none that can be read."""
    source = open_source(path)
    try:
        head = source.read(0, sniff.HEAD)
        kind = sniff.columnar(head)
        if kind and source.compression:
            raise Problem(
                _("Cannot read {path}").format(path=path),
                _("A {format} file inside a compressed one cannot be read in part.").format(
                    format=kind
                ),
                _("Unpack it first."),
            )
        if kind:
            return ParquetPart(source) if kind == "parquet" else ArrowPart(source)
        return TextPart(source, sniff.sniff(source, head), cache)
    except BaseException:
        source.close()
        raise


def _allow_open_files(count: int) -> None:
    """Many systems allow a process 1,024 open files unless it asks for more."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + 512
    if most != resource.RLIM_INFINITY:
        wanted = min(wanted, most)
    if now != resource.RLIM_INFINITY and now < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # opening it says what is wrong
        return 0


def _kind(part: Part) -> str:
    if isinstance(part, TextPart):
        return part.layout.format
    assert isinstance(part, ColumnarPart)
    return part.format


def _builder(kind: str) -> str:
    return _BUILDERS.get(kind, kind)


# -- folders ------------------------------------------------------------------


def _folder(folder: Path, cache: Path | None, notes: list[str]) -> Found:
    if (folder / _SPLITS).is_file():
        return _split(folder, cache)
    if (folder / _STATE).is_file():
        return _saved(folder, cache, notes)
    families = _listing(folder)
    if len(families) > 1 and "text" in families:
        del families["text"]  # a README or a list of requirements beside the data
    if len(families) != 1:
        raise _no_single_format(folder, families)
    (files,) = families.values()
    if len(files) > 1:
        names = ", ".join(str(file.relative_to(folder)) for file in files[:4])
        notes.append(
            _("{count} files, one after the other: {names}").format(
                count=len(files), names=names + (" …" if len(files) > 4 else "")
            )
        )
    return Found(files, cache, notes)


def _listing(folder: Path) -> dict[str, list[Path]]:
    """The dataset files in `folder`, else those in the folders below it, by what they are."""
    families: dict[str, list[Path]] = {}
    for entries in (folder.iterdir(), _below(folder)):
        try:
            for path in sorted(islice(entries, _MOST_ENTRIES)):
                family = sniff.family(path)
                hidden = path.name.startswith(".") or path.name in _NOT_DATA
                if family and not hidden and path.is_file():
                    families.setdefault(family, []).append(path)
        except OSError as error:
            raise Problem(
                _("Cannot read {path}").format(path=folder),
                error.strerror or str(error),
                _("Check its permissions."),
            ) from error
        if families:
            break
    return families


def _below(folder: Path) -> Iterator[Path]:
    """All files under `folder`, hidden folders left out."""
    for path in folder.rglob("*"):
        if not any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield path


def _no_single_format(folder: Path, families: dict[str, list[Path]]) -> Problem:
    what = _("Cannot read {path}").format(path=folder)
    if not families:
        return Problem(
            what,
            _("It is a folder without dataset files."),
            _("Give a folder of JSON, JSON Lines, CSV, TSV, text, Parquet or Arrow files."),
        )
    counts = ", ".join(f"{len(files)} {family}" for family, files in families.items())
    return Problem(
        what,
        _("The folder holds files of several formats: {counts}.").format(counts=counts),
        _("Name the files that you mean, all of one format."),
    )


def _split(folder: Path, cache: Path | None) -> Found:
    """One split of a DatasetDict: "train", or the only one."""
    splits = _read_json(folder / _SPLITS).get("splits")
    if not isinstance(splits, list) or not splits:
        raise _not_saved(folder, _("{name} names no splits.").format(name=_SPLITS))
    name = "train" if "train" in splits else splits[0]
    others = ", ".join(str(split) for split in splits if split != name)
    notes = [_("This is the split {name}.").format(name=name)]
    if others:
        also = _("There are also: {names}. Open their folders to see them.")
        notes.append(also.format(names=others))
    if not (folder / str(name) / _STATE).is_file():
        raise _not_saved(folder, _("There is no {name} in it.").format(name=f"{name}/{_STATE}"))
    return _saved(folder / str(name), cache, notes)


def _saved(folder: Path, cache: Path | None, notes: list[str]) -> Found:
    """A folder that save_to_disk wrote."""
    state = _read_json(folder / _STATE)
    try:
        files = [folder / entry["filename"] for entry in state["_data_files"]]
    except (KeyError, TypeError):
        files = []
    if not files:
        raise _not_saved(folder, _("{name} names no files.").format(name=_STATE))
    columns = state.get("_format_columns")
    only = columns if columns and not state.get("_output_all_columns") else None
    return Found(files, cache, notes, folder, only)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise _not_saved(path.parent, f"{path.name}: {error}") from error
    if not isinstance(content, dict):
        raise _not_saved(path.parent, _("{name} holds no object.").format(name=path.name))
    return content


def _not_saved(folder: Path, why: str) -> Problem:
    return Problem(
        _("{path} is no dataset that save_to_disk wrote").format(path=folder),
        why,
        _("Write it again, or name its data files one by one."),
    )
