"""The verbs about datasets: ``data show``, ``data check`` and ``data replace``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.cli import data_text, map_verb, portion_verbs
from engine.cli.data_files import files
from engine.cli.output import Output
from engine.errors import Failed, Problem
from engine.i18n import _, sentences
from engine.text import whole

if TYPE_CHECKING:
    from engine.dataset.preview import Preview
    from engine.dataset.reader import Dataset, Row

SHOWN = 10
"""Rows shown when none are named."""


def add(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser
) -> None:
    """Add this module's verbs."""
    data = verbs.add_parser("data", help=_("look at a dataset, check it, rename in it"))
    leaves = data.add_subparsers(dest="data_verb", metavar=_("VERB"), required=True)
    _add_show(leaves.add_parser("show", parents=[common], help=_("rows, as the model sees them")))
    _add_check(leaves.add_parser("check", parents=[common], help=_("look at every row")))
    map_verb.add(
        leaves.add_parser("map", parents=[common], help=_("say what is question and answer"))
    )
    _add_replace(leaves.add_parser("replace", parents=[common], help=_("replace a text")))
    portion_verbs.add_export(
        leaves.add_parser("export", parents=[common], help=_("write some rows to a new file"))
    )
    portion_verbs.add_split(
        leaves.add_parser("split", parents=[common], help=_("split off a validation set"))
    )


def _add_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file",
        metavar="FILE",
        type=Path,
        nargs="+",
        help=_(
            "JSON, JSON Lines, CSV, TSV, text (also .gz and .zst), Parquet or Arrow; "
            "a folder of them; several files of one format; a dataset on a hub: "
            "OWNER/NAME (Hugging Face), ms:OWNER/NAME (ModelScope)"
        ),
    )


def _add_model(parser: argparse.ArgumentParser) -> None:
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument(
        "--shape",
        help=_("xtuner, openai, sharegpt, alpaca, text, … (default: told from the first rows)"),
    )
    shape.add_argument(
        "--map",
        dest="shape",
        metavar="MODULE.py|NAME",
        help=_("rows go through this map module, or this map function of XTuner's"),
    )
    parser.add_argument("--model", metavar="M", help=_("the folder of the model to be trained"))
    parser.add_argument(
        "--template",
        metavar="T",
        help=_("XTuner's prompt template (default: the one that matches the model)"),
    )
    parser.add_argument(
        "--max-length",
        metavar="N",
        type=int,
        default=2048,
        help=_("tokens of a sample at most (default: 2048)"),
    )
    parser.add_argument(
        "--trust-remote-code",
        action="store_true",
        help=_("run Python code that comes with the model's tokenizer"),
    )


def _add_show(parser: argparse.ArgumentParser) -> None:
    _add_files(parser)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--row", metavar="N", type=int, help=_("one row, numbered from 0"))
    which.add_argument("--rows", metavar="A:B", help=_("rows from A up to, not with, B"))
    _add_model(parser)
    parser.set_defaults(run=_show)


def _add_check(parser: argparse.ArgumentParser) -> None:
    _add_files(parser)
    _add_model(parser)
    parser.add_argument(
        "--pack", action="store_true", help=_("rows are packed to the maximum length")
    )
    parser.add_argument("--batch-size", metavar="B", type=int, default=1, help=_("for each GPU"))
    parser.add_argument("--gpus", metavar="G", type=int, default=1, help=_("how many"))
    parser.add_argument(
        "--accumulation", metavar="A", type=int, default=1, help=_("gradient accumulation")
    )
    parser.add_argument(
        "--map-num-proc",
        metavar="P",
        type=int,
        default=32,
        help=_("map_num_proc of the config (default 32): packing is done in so many pieces"),
    )
    parser.add_argument(
        "--seed", type=int, default=0, help=_("of the order in which rows are packed")
    )
    parser.set_defaults(run=_check)


def _add_replace(parser: argparse.ArgumentParser) -> None:
    _add_files(parser)
    parser.add_argument("--from", dest="old", metavar="A", required=True, help=_("what to replace"))
    parser.add_argument("--to", dest="new", metavar="B", required=True, help=_("the new text"))
    parser.add_argument("--regex", action="store_true", help=_("A is a regular expression"))
    parser.add_argument(
        "--field",
        metavar="F",
        action="append",
        default=[],
        help=_("only texts under this name (may be given again)"),
    )
    parser.add_argument(
        "-o",
        "--out",
        metavar="OUT",
        type=Path,
        help=_("the new file; for several files a new folder"),
    )
    parser.add_argument("--dry-run", action="store_true", help=_("list every place, write nothing"))
    parser.add_argument("--force", action="store_true", help=_("overwrite OUT"))
    parser.set_defaults(run=_replace)


# -- show ---------------------------------------------------------------------


def _show(args: argparse.Namespace, out: Output) -> int:
    from engine.dataset.preview import Preview
    from engine.dataset.reader import Dataset

    if args.template and not args.model:
        raise Problem(
            _("--template needs a model"),
            _("What the model sees depends on its tokenizer."),
            _("Add --model with the model's folder."),
        )
    with (
        Dataset.open(files(args.file, out), args.shape, out.cache()) as dataset,
        Preview(out.settings) as preview,
    ):
        for note in dataset.notes:
            out.say(note)
        if args.model:
            shape = dataset.shape
            preview.open(args.model, args.template, args.max_length, args.trust_remote_code, shape)
            _say_split(preview, out)
        items = [
            _item(row, dataset, preview if args.model else None) for row in _wanted(args, dataset)
        ]
        rows = dataset.index(out.progress(_("Counting rows")))
        document = {
            "format": dataset.format,
            "compression": dataset.compression,
            "files": [str(path) for path in dataset.paths],
            "columns": [_whole(name) for name in dataset.columns()],
            "shape": dataset.shape,
            "rows": rows,
            "template": preview.template or None,
            "items": items,
        }
        out.result(document, lambda: data_text.shown(document))
        return _say_broken(dataset, items, out)


def _say_split(preview: Preview, out: Output) -> None:
    """A template of another model's is seldom an error, and never meant."""
    if preview.split_marks:
        out.say(
            _("The tokenizer takes {marks} of the template {name} for plain text").format(
                marks=", ".join(preview.split_marks), name=preview.template
            )
        )


def _wanted(args: argparse.Namespace, dataset: Dataset) -> list[Row]:
    if args.row is not None:
        found = dataset.page(args.row, 1) if args.row >= 0 else []
        if not found:
            dataset.row(args.row)  # says what rows there are
        return found
    if args.rows is None:
        return dataset.page(0, SHOWN)
    first, colon, last = args.rows.partition(":")
    try:
        start, end = int(first or 0), int(last) if last else None
        if not colon or start < 0 or (end is not None and end < start):
            raise ValueError
    except ValueError:
        raise Problem(
            _("--rows {rows} names no rows").format(rows=args.rows),
            todo=_("Write it as A:B: --rows 10:20 shows the rows 10 to 19."),
        ) from None
    return list(dataset.records(start, end))


def _item(row: Row, dataset: Dataset, preview: Preview | None) -> dict[str, Any]:
    """A row as a document: without a model `text` is what the row itself says."""
    from engine.dataset import shapes

    item: dict[str, Any] = {
        "row": row.index,
        "file": None if row.path is None else str(row.path),
        "line": row.line,
        "turns": shapes.turns(row.value, dataset.shape),
        "tokens": None,
        "loss_tokens": None,
        "cut": None,
        "text": None,
        "segments": None,
        "value": _whole(row.value),
        "problem": row.problem,
    }
    if row.problem is not None:
        return item
    turns = shapes.conversation(row.value, dataset.shape)
    item["text"] = "\n".join(_whole(part) for turn in turns for part in _words(turn) if part)
    if preview is None:
        return item
    if not dataset.shape:
        raise shapes.unknown(dataset.path, row.value)
    findings = shapes.errors(shapes.by_name(dataset.shape).check(row.index, row.value))
    if findings:
        return item | {"problem": sentences(findings[0].reason, findings[0].remedy)}
    try:
        sample = preview.sample(row.value, dataset.shape)
    except Failed as failed:
        return item | {"problem": f"{failed.what}: {failed.why}"}
    return item | {
        "tokens": sample.tokens,
        "loss_tokens": sample.loss_tokens,
        "cut": sample.cut,
        "text": sample.text,
        "segments": sample.segments,
    }


def _words(turn: Any) -> tuple[str, str, str]:
    return turn.system, turn.input, turn.output


def _whole(value: Any) -> Any:
    """`value` with halves of characters (lone surrogates), which cannot be printed, replaced."""
    if isinstance(value, str):
        return whole(value)
    if isinstance(value, list):
        return [_whole(item) for item in value]
    if isinstance(value, dict):
        return {_whole(key): _whole(item) for key, item in value.items()}
    return value


def _say_broken(dataset: Dataset, items: list[dict[str, Any]], out: Output) -> int:
    """The exit status; an array with broken JSON cannot be read as a whole."""
    if dataset.format == "json":
        unread = [item["problem"] for item in items if item["problem"] and item["value"] is None]
        for why in unread + [reason for _row, reason in dataset.faults()]:
            raise dataset.unreadable(why)
    broken = [item["row"] for item in items if item["problem"]]
    if broken:
        out.say(_("Rows that cannot be used: {rows}").format(rows=", ".join(map(str, broken))))
    faults = dataset.faults()
    for _row, reason in faults:
        out.say(reason)
    return 1 if broken or faults else 0


# -- check --------------------------------------------------------------------


def _check(args: argparse.Namespace, out: Output) -> int:
    from engine.dataset.checking.check import check
    from engine.dataset.reader import Dataset

    with Dataset.open(files(args.file, out), args.shape) as dataset:
        report = check(
            dataset,
            model=args.model,
            template=args.template,
            max_length=args.max_length,
            pack=args.pack,
            batch_size=args.batch_size,
            gpus=args.gpus,
            accumulation=args.accumulation,
            map_num_proc=args.map_num_proc,
            seed=args.seed,
            trust_remote_code=args.trust_remote_code,
            settings=out.settings,
            cache=out.cache(),
            progress=out.progress(_("Checking rows")),
        )
        out.result(report, lambda: data_text.checked(report, dataset, args))
        if dataset.format == "json":
            for finding in report.broken:
                if not finding.field and finding.row in report.unreadable:
                    raise dataset.unreadable(finding.reason)
    return 0 if report.fine else 1


# -- replace ------------------------------------------------------------------


def _replace(args: argparse.Namespace, out: Output) -> int:
    from engine.dataset.editing.replace import replace

    done = replace(
        files(args.file, out),
        args.old,
        args.new,
        regex=args.regex,
        fields=args.field,
        out=args.out,
        dry_run=args.dry_run,
        force=args.force,
        progress=out.progress(_("Replacing")),
    )
    out.result(done, lambda: data_text.replaced(done, args.dry_run))
    if not done.replacements:
        # No failure: a script that renames may run over what is renamed already.
        out.say(
            _(
                "Nothing has {old} in it, so nothing was changed: compare it with a row "
                "(capitals, spaces and full-width characters count)."
            ).format(old=args.old)
        )
    if done.broken:
        out.say(
            _("Not JSON, and copied as they are: rows {rows}").format(
                rows=", ".join(map(str, done.broken[:20]))
            )
        )
        return 1
    return 0
