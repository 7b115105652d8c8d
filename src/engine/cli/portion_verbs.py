"""The verbs ``data export`` and ``data split``: parts of a dataset as files of their own."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from engine.cli.data_files import files
from engine.cli.output import Output
from engine.errors import Problem
from engine.i18n import _, ngettext

if TYPE_CHECKING:
    from engine.dataset.editing.portion import Exported, Split
    from engine.dataset.reader import Dataset


def add_export(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``data export``."""
    _add_files(parser)
    parser.add_argument(
        "--rows",
        metavar="A:B,C,…",
        help=_("these rows: numbers, and ranges from A up to, not with, B"),
    )
    parser.add_argument("--find", metavar="TEXT", help=_("the rows that hold TEXT in a value"))
    parser.add_argument("--regex", action="store_true", help=_("TEXT is a regular expression"))
    parser.add_argument(
        "-o", "--out", metavar="OUT", type=Path, required=True, help=_("a .json or .jsonl file")
    )
    parser.add_argument("--force", action="store_true", help=_("overwrite OUT"))
    parser.set_defaults(run=_export)


def add_split(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``data split``."""
    _add_files(parser)
    much = parser.add_mutually_exclusive_group(required=True)
    much.add_argument(
        "--share", metavar="X", type=float, help=_("so much for validation: 0.1 is a tenth")
    )
    much.add_argument("--count", metavar="N", type=int, help=_("so many rows for validation"))
    parser.add_argument(
        "--seed", type=int, default=0, help=_("of the draw; the same one gives the same split")
    )
    parser.add_argument(
        "-o",
        "--out",
        metavar=("TRAIN", "VAL"),
        nargs=2,
        type=Path,
        required=True,
        help=_("two .json or .jsonl files"),
    )
    parser.add_argument("--force", action="store_true", help=_("overwrite them"))
    parser.set_defaults(run=_split)


def _add_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file",
        metavar="FILE",
        type=Path,
        nargs="+",
        help=_("a dataset: a file, several of one format, a folder, or a name on a hub"),
    )


def _export(args: argparse.Namespace, out: Output) -> int:
    from engine.dataset.editing.portion import export
    from engine.dataset.reader import Dataset

    if args.regex and args.find is None:
        raise Problem(_("--regex needs a text to look for"), "", _("Add --find TEXT."))
    with Dataset.open(files(args.file, out)) as dataset:
        done = export(
            dataset,
            _chosen(dataset, args, out),
            args.out,
            force=args.force,
            progress=out.progress(_("Writing")),
        )
    out.result(done, lambda: _exported(done))
    return 0


def _chosen(dataset: Dataset, args: argparse.Namespace, out: Output) -> set[int] | None:
    """The rows that the options name; None for all."""
    rows = None if args.rows is None else set(_numbers(args.rows, dataset))
    if args.find is None:
        return rows
    from engine.dataset.search import Query, search

    query = Query(args.find, args.regex)
    found = set(search(dataset, query, progress=out.progress(_("Searching"))))
    return found if rows is None else found & rows


def _numbers(text: str, dataset: Dataset) -> Iterator[int]:
    """The rows of ``3,10:20,30:`` that there are."""
    count = dataset.index()
    for part in text.split(","):
        first, colon, last = part.strip().partition(":")
        try:
            start = int(first or 0)
            end = (int(last) if last else count) if colon else start + 1
            if start < 0 or end < start or not (first or colon):
                raise ValueError
        except ValueError:
            raise Problem(
                _("--rows {rows} names no rows").format(rows=text),
                todo=_("Write numbers and ranges: --rows 3,10:20 are row 3 and the rows 10 to 19."),
            ) from None
        yield from range(start, min(end, count))


def _exported(done: Exported) -> Iterable[str]:
    words = ngettext(
        "{count:,} row written to {path}", "{count:,} rows written to {path}", done.rows
    )
    yield words.format(count=done.rows, path=done.out)


def _split(args: argparse.Namespace, out: Output) -> int:
    from engine.dataset.editing.portion import split
    from engine.dataset.reader import Dataset

    train, validation = args.out
    with Dataset.open(files(args.file, out)) as dataset:
        done = split(
            dataset,
            train,
            validation,
            share=args.share,
            count=args.count,
            seed=args.seed,
            force=args.force,
            progress=out.progress(_("Writing")),
        )
    out.result(done, lambda: _dealt(done))
    return 0


def _dealt(done: Split) -> Iterable[str]:
    yield _("{count:,} rows for training: {path}").format(count=done.train_rows, path=done.train)
    yield _("{count:,} rows for validation: {path}").format(
        count=done.validation_rows, path=done.validation
    )
    yield _("Drawn with seed {seed}: the same seed gives the same split.").format(seed=done.seed)
