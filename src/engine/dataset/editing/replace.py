"""Replace text in a dataset, into new files that are otherwise the same to the byte."""

from __future__ import annotations

import contextlib
import gzip
import json
import secrets
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import msgspec

from engine import files
from engine.dataset.editing.changes import Changes, Place
from engine.dataset.editing.editor import Wanted
from engine.dataset.editing.replace_table import replace_table
from engine.dataset.editing.replace_text import TextReplace
from engine.dataset.files.columnar import ColumnarPart
from engine.dataset.files.find import open_part
from engine.dataset.files.offsets import Progress
from engine.dataset.files.text_part import TextPart
from engine.dataset.reader import Dataset
from engine.errors import Failed, Problem
from engine.i18n import _

__all__ = ["Place", "Replaced", "excerpt", "replace"]

_STATE = "state.json"


class Replaced(msgspec.Struct, frozen=True):
    """What was replaced. `places` are listed by a dry run only.

    `broken` are rows that cannot be read (of JSON Lines or CSV): they are copied as
    they are.
    """

    rows: int
    rows_changed: int
    replacements: int
    out: str | None
    places: list[Place]
    broken: list[int]


def excerpt(place: Place, width: int = 60) -> tuple[str, str]:
    """`before` and `after` around the first place where they differ, about `width` characters."""
    before, after = place.before, place.after
    same = next(
        (at for at, (old, new) in enumerate(zip(before, after, strict=False)) if old != new),
        min(len(before), len(after)),
    )
    start = max(0, same - width // 3)

    def around(text: str) -> str:
        head, tail = "…" if start else "", "…" if len(text) > start + width else ""
        return head + text[start : start + width] + tail

    return around(before), around(after)


def replace(
    path: Path | str | Sequence[Path | str],
    old: str,
    new: str,
    *,
    regex: bool = False,
    fields: Sequence[str] = (),
    out: Path | str | None = None,
    dry_run: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> Replaced:
    """Write `path` to `out` with `new` for `old` in its texts.

    Args:
        path: what `Dataset.open` takes.
        old: text, or with `regex` a pattern of Python's ``re``.
        new: text, or with `regex` a template (``\\1`` is the first group).
        fields: only texts under these names (``output``, or from the top
            ``conversation.output``); empty for all texts.
        out: the new file; for a folder or several files a new folder with files of
            the same names. May be left out with `dry_run`, which writes nothing.

    Format and compression stay as they are. Names of columns are never changed,
    numbers neither. Raises `Problem` for input that cannot be read, and for an `out`
    that exists (without `force`) or is `path`; `Failed` when the disk is full. Then
    nothing is written.
    """
    wanted = Wanted(old, new, regex, fields)
    target = None if out is None else Path(out)
    if target is None and not dry_run:
        raise Problem(_("No file to write to"), ways=("out",))
    with Dataset.open(path) as dataset:
        paths, folder, several = dataset.paths, dataset.path, _several(dataset)
        size = dataset.size
        if target is not None:
            _refuse(dataset, target, several, force or dry_run)
    changes = Changes(size, dry_run, progress)
    try:
        if dry_run or target is None:
            for one in paths:
                _file(one, wanted, None, changes)
        elif several:
            with files.replacing_folder(target, force=force) as made:
                _folder(folder if folder.is_dir() else None, paths, made, wanted, changes)
        else:
            with files.replacing(target, force=force) as sink:
                _file(paths[0], wanted, sink, changes)
    except OSError as error:
        raise Failed(
            _("Cannot write {path}").format(path=target),
            error.strerror or str(error),
            _("Nothing was written. Make room, or choose another place."),
        ) from error
    changes.finish()
    name = None if target is None else str(target)
    return Replaced(
        changes.rows,
        changes.rows_changed,
        changes.replacements,
        name,
        changes.places,
        changes.broken,
    )


def _several(dataset: Dataset) -> bool:
    return len(dataset.paths) > 1 or dataset.path.is_dir()


def _refuse(dataset: Dataset, target: Path, several: bool, force: bool) -> None:
    """Raise `Problem` for a target that must not be written."""
    original = _("The original is never changed.")
    if target.exists():
        if any(target.samefile(one) for one in (dataset.path, *dataset.paths)):
            raise Problem(
                _("{path} is the file that is read").format(path=target),
                original,
                _("Name another file."),
                ways=("out",),
            )
        if several and not target.is_dir():
            raise Problem(
                _("Cannot write {path}").format(path=target),
                _("Several files are read, and it is no folder."),
                _("Name a folder."),
                ways=("out",),
            )
        if not several and not target.is_file():
            raise Problem(
                _("Cannot write {path}").format(path=target),
                _("It is a folder.") if target.is_dir() else _("It is not a regular file."),
                _("Name a file."),
                ways=("out",),
            )
    inside = target.resolve()
    if several and any(one.resolve().is_relative_to(inside) for one in dataset.paths):
        raise Problem(
            _("{path} holds the files that are read").format(path=target),
            original,
            _("Name another folder."),
            ways=("out",),
        )
    files.refuse_existing(target, force)


def _folder(
    source: Path | None, paths: list[Path], made: Path, wanted: Wanted, changes: Changes
) -> None:
    """Write every one of `paths` into the folder `made`, and what belongs to them."""
    names = [path.relative_to(source) if source else Path(path.name) for path in paths]
    if len(set(names)) < len(names):
        raise Problem(
            _("Two of the files have the same name"),
            _("They would become one file in the new folder."),
            _("Replace in each file by itself."),
        )
    for path, name in zip(paths, names, strict=True):
        into = made / name
        into.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with into.open("wb") as sink:
            into.chmod(0o600)
            _file(path, wanted, sink, changes)
    saved = None if source is None else paths[0].parent / _STATE
    if saved is not None and source is not None and saved.is_file():
        _saved(saved, made / saved.relative_to(source))


def _saved(state: Path, target: Path) -> None:
    """What makes the files a dataset that save_to_disk wrote.

    Its fingerprint is a new one: libraries keep what they computed under it.
    """
    for other in state.parent.glob("dataset_info.json"):
        shutil.copyfile(other, target.parent / other.name)
    told: dict[str, Any] = json.loads(state.read_bytes())
    told["_fingerprint"] = secrets.token_hex(8)
    target.write_text(json.dumps(told, indent=2, sort_keys=True), encoding="utf-8")
    target.chmod(0o600)


def _file(path: Path, wanted: Wanted, sink: IO[bytes] | None, changes: Changes) -> None:
    part = open_part(path, None)
    try:
        if isinstance(part, ColumnarPart):
            replace_table(part, wanted, sink, changes)
        elif isinstance(part, TextPart):
            with _packed(sink, part.source.compression) as text:
                TextReplace(part, wanted, text, changes).run()
    finally:
        part.close()


@contextlib.contextmanager
def _packed(sink: IO[bytes] | None, compression: str) -> Iterator[IO[bytes] | None]:
    """A file whose content goes to `sink` compressed as the original is."""
    if sink is None or not compression:
        yield sink
    elif compression == "gz":
        with gzip.GzipFile(filename="", fileobj=sink, mode="wb", compresslevel=6, mtime=0) as text:
            yield text  # type: ignore[misc]
    else:
        import zstandard

        with zstandard.ZstdCompressor().stream_writer(sink, closefd=False) as text:
            yield text
