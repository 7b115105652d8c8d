"""Change, delete and duplicate rows of a dataset, each act undoable.

Every act writes the whole file anew beside the old one and renames it over it;
the former version is kept (`engine.dataset.editing.versions`). All other rows stay the
same to the byte.
"""

from __future__ import annotations

import contextlib
import json
import stat
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

import msgspec

from engine import files
from engine.dataset.editing.rewrite import LITERALS, Copy, Piece, rewrite_some
from engine.dataset.editing.style import style_of
from engine.dataset.editing.versions import Versions
from engine.dataset.files.decode import BadRow, decode
from engine.dataset.files.offsets import Cancelled, Progress
from engine.dataset.reader import Dataset
from engine.errors import Problem
from engine.hub.repo import cached
from engine.i18n import _

_NEIGHBOURS = 8
"""Rows around the edited one that are asked how JSON is written in this file."""


class Edit(msgspec.Struct, frozen=True):
    """What was done to `path`. `kept` is its former version, `stamp` what the new one is."""

    path: str
    rows: int
    kept: str
    stamp: tuple[int, int, int]


def can_edit(dataset: Dataset) -> None:
    """Raise `Problem`, with a way out, for a dataset whose rows cannot be edited in their file."""
    repo = cached(dataset.path) or cached(dataset.path.resolve())
    name = dataset.path if repo is None else repo.short
    what = _("Rows of {path} cannot be edited here").format(path=name)
    todo = _("Export it to JSON Lines (x), then edit that.")
    if dataset.format not in LITERALS:
        why = _("In a {format} file a row is no text of its own.").format(format=dataset.format)
        raise Problem(what, why, todo)
    if dataset.compression:
        raise Problem(what, _("It is compressed ({name}).").format(name=dataset.compression), todo)
    if repo is not None:
        why = _("It lies in the cache of {hub}, which everything else reads, too.")
        raise Problem(what, why.format(hub=repo.where), todo)
    if len(dataset.paths) > 1:
        raise Problem(
            what,
            _("It is made of {count} files.").format(count=len(dataset.paths)),
            _("Open the one file that holds the row, or export all to JSON Lines (x)."),
        )


def text_of(dataset: Dataset, index: int) -> str:
    """A row's JSON as it is laid before a person: spread over lines; as it stands if broken."""
    raw = dataset.raw(index)
    try:
        value = decode(raw)
    except BadRow:
        return raw.decode("utf-8", "backslashreplace")
    text = json.dumps(value, ensure_ascii=False, indent=2)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # a half of a character exists as an escape only
        text = json.dumps(value, ensure_ascii=True, indent=2)
    return text + "\n"


def change(
    dataset: Dataset,
    index: int,
    text: str,
    versions: Versions,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Edit:
    """Put the JSON value `text` in the place of row `index`, spelled as the file spells its rows.

    Raises `Problem` for text that is no JSON (it says where) and see `can_edit`.
    """
    can_edit(dataset)
    value = parsed(text)
    content = style_of(_examples(dataset, index)).write(value).encode("utf-8")

    def contents(piece: Piece) -> Sequence[bytes]:
        return [content if piece.row == index else piece.content]

    return _write(dataset, [index], contents, versions, progress, cancelled)


def delete(
    dataset: Dataset,
    rows: Collection[int],
    versions: Versions,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Edit:
    """Leave `rows` out of the file."""
    gone = frozenset(rows)

    def contents(piece: Piece) -> Sequence[bytes]:
        return [] if piece.row in gone else [piece.content]

    return _write(dataset, gone, contents, versions, progress, cancelled)


def duplicate(
    dataset: Dataset,
    rows: Collection[int],
    versions: Versions,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Edit:
    """Repeat each of `rows` behind itself."""
    twice = frozenset(rows)

    def contents(piece: Piece) -> Sequence[bytes]:
        return [piece.content] * (2 if piece.row in twice else 1)

    return _write(dataset, twice, contents, versions, progress, cancelled)


def append(
    dataset: Dataset,
    value: object,
    versions: Versions,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Edit:
    """Put `value` behind the last row, spelled as the file spells its rows."""
    can_edit(dataset)
    last = dataset.index(cancelled=cancelled) - 1
    if last < 0:
        raise Problem(
            _("Nothing can be added to {path}").format(path=dataset.path),
            _("It has no row yet that shows what its rows look like."),
            _("Write its first row by hand."),
        )
    content = style_of(_examples(dataset, last)).write(value).encode("utf-8")

    def contents(piece: Piece) -> Sequence[bytes]:
        return [piece.content, content] if piece.row == last else [piece.content]

    return _write(dataset, [last], contents, versions, progress, cancelled)


def undo(edit: Edit, versions: Versions) -> None:
    """Bring back the file as it was before `edit`.

    Raises `Problem` when somebody else has changed it since, or the version is gone.
    """
    path = Path(edit.path)
    if not path.exists() or _stamp(path) != edit.stamp:
        raise Problem(
            _("{path} is no longer what the edit made of it").format(path=path),
            _("Something else has changed it since; undoing would lose that."),
            _("The former version is kept as {kept}.").format(kept=edit.kept),
        )
    versions.restore(Path(edit.kept), path)


def _write(
    dataset: Dataset,
    rows: Collection[int],
    contents: Callable[[Piece], Sequence[bytes]],
    versions: Versions,
    progress: Progress | None,
    cancelled: Cancelled | None,
) -> Edit:
    can_edit(dataset)
    path = dataset.path.resolve()  # a link stays one
    mode = stat.S_IMODE(path.stat().st_mode)
    with files.replacing(path, mode=mode) as sink:
        written = rewrite_some(dataset, Copy(dataset, sink), rows, contents, progress, cancelled)
        if dataset.changed():
            raise Problem(
                _("{path} has changed since it was opened").format(path=dataset.path),
                _("Nothing was written: the other change would be lost."),
                _("Read it again (r), then repeat the edit."),
            )
        kept = versions.keep(path)
    return Edit(str(path), written, str(kept), _stamp(path))


def _stamp(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def parsed(text: str) -> object:
    """The JSON value in `text`. Raises `Problem` that says where it goes wrong."""
    raw = text.strip().encode("utf-8", "surrogatepass")
    try:
        return decode(raw)
    except BadRow as bad:
        before = text[: len(text) - len(text.lstrip())] + raw[: bad.offset].decode(
            "utf-8", "replace"
        )
        line = before.count("\n") + 1
        raise Problem(
            _("This is not right JSON"),
            _("Line {line}, column {column}: {reason}.").format(
                line=line, column=len(before) - (before.rfind("\n") + 1) + 1, reason=bad.reason
            ),
            _("Nothing was written; the text is kept."),
        ) from bad


def _examples(dataset: Dataset, index: int) -> Iterable[bytes]:
    """Texts of rows: the one in question, those around it, the first ones."""
    yield dataset.raw(index)
    near = range(max(0, index - _NEIGHBOURS), index + _NEIGHBOURS + 1)
    for row in dict.fromkeys([*near, *range(_NEIGHBOURS)]):
        with contextlib.suppress(IndexError):
            yield dataset.raw(row)
