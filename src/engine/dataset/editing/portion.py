"""A part of a dataset as a file of its own: some rows exported, or a validation set split off."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Collection, Iterable
from pathlib import Path

import msgspec

from engine import files
from engine.dataset.editing.rewrite import LITERALS, Piece, Target, format_of, rewrite, target
from engine.dataset.files.offsets import Cancelled, Progress
from engine.dataset.reader import Dataset
from engine.errors import Failed, Problem
from engine.i18n import _


class Exported(msgspec.Struct, frozen=True):
    """What was written: how many rows, and where."""

    rows: int
    out: str


class Split(msgspec.Struct, frozen=True):
    """The two files of a split, and with which seed it can be made again."""

    train: str
    validation: str
    train_rows: int
    validation_rows: int
    seed: int


def export(
    dataset: Dataset,
    rows: Collection[int] | None,
    out: Path,
    *,
    force: bool = False,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Exported:
    """Write `rows` (None: all) of `dataset` to `out`, in the order of the file.

    In the dataset's own format they are copied to the byte; `out` may also be a
    JSON array (``.json``) or JSON Lines (``.jsonl``) made of any format. Raises
    `Problem` for other suffixes and for an `out` that exists (without `force`).
    """
    _refuse(dataset, out, force)
    wanted = None if rows is None else frozenset(rows)
    _need_sound(dataset)
    with files.replacing(out, force=force) as sink:
        writer = target(dataset, out, sink)

        def choose(piece: Piece) -> Iterable[tuple[Target, bytes]]:
            return [(writer, piece.content)] if wanted is None or piece.row in wanted else []

        count = rewrite(dataset, [writer], choose, progress, cancelled)
        if not count:
            raise Failed(_("No row was chosen, so nothing was written"))
    return Exported(count, str(out))


def split(
    dataset: Dataset,
    train: Path,
    validation: Path,
    *,
    share: float | None = None,
    count: int | None = None,
    seed: int = 0,
    force: bool = False,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Split:
    """Deal the rows out to two new files: `share` of them, or `count`, for validation.

    Which rows is drawn with `seed`: the same seed gives the same split, on every
    machine. Both files keep the order. Raises `Problem` as `export` does, and for a
    size that leaves nothing on one side.
    """
    for out in (train, validation):
        _refuse(dataset, out, force)
    if train.resolve() == validation.resolve():
        raise Problem(_("Both parts of a split cannot be one file"), "", _("Name two files."))
    _need_sound(dataset)
    rows = dataset.index(cancelled=cancelled)
    chosen = draw(rows, _size(rows, share, count), seed)
    with contextlib.ExitStack() as stack:
        writers = [
            target(dataset, out, stack.enter_context(files.replacing(out, force=force)))
            for out in (train, validation)
        ]

        def choose(piece: Piece) -> Iterable[tuple[Target, bytes]]:
            return [(writers[chosen[piece.row]], piece.content)]

        rewrite(dataset, writers, choose, progress, cancelled)
    taken = sum(chosen)
    return Split(str(train), str(validation), rows - taken, taken, seed)


def draw(rows: int, count: int, seed: int) -> bytearray:
    """1 for each of `count` rows drawn from `rows`, 0 for the others.

    Only `Random.random` is used, whose numbers Python promises never to change.
    """
    number, left = random.Random(seed).random, count
    chosen = bytearray(rows)
    for row in range(rows):
        if number() * (rows - row) < left:
            chosen[row] = 1
            left -= 1
    return chosen


def _size(rows: int, share: float | None, count: int | None) -> int:
    """Rows for validation."""
    if (share is None) == (count is None):
        raise Problem(
            _("Say how much to split off, once"), "", _("Give a share (0.1) or a count (200).")
        )
    if share is not None and not 0 < share < 1:
        raise Problem(
            _("A share of {share} leaves nothing on one side").format(share=share),
            todo=_("Give one between 0 and 1: 0.1 is a tenth of the rows."),
        )
    size = count if count is not None else max(1, round(rows * (share or 0)))
    if not 0 < size < rows:
        raise Problem(
            _("{count} of {rows} rows cannot be split off").format(count=size, rows=rows),
            _("Both sides need at least one row."),
        )
    return size


def _refuse(dataset: Dataset, out: Path, force: bool) -> None:
    format_of(out)
    if out.exists():
        if any(out.samefile(path) for path in dataset.paths):
            raise Problem(
                _("{path} is the file that is read").format(path=out),
                _("The original is never changed."),
                _("Name another file."),
            )
        if not out.is_file():
            raise Problem(_("{path} is not a regular file").format(path=out))
    files.refuse_existing(out, force)


def _need_sound(dataset: Dataset) -> None:
    """Raise `Problem` for a file that is wrong between its rows: its parts would be, too."""
    if dataset.format in LITERALS:
        dataset.index()
        for _row, reason in dataset.faults():
            raise dataset.unreadable(reason)
