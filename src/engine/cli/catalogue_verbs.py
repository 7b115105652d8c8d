"""The verbs about the catalogue: ``config list`` and ``config copy``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from engine.cli.output import Output
from engine.i18n import _

if TYPE_CHECKING:
    from engine.config.stock.entry import Entry


def add(
    actions: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser
) -> None:
    """Add this module's verbs to ``config``."""
    one = actions.add_parser("list", parents=[common], help=_("the catalogue"))
    one.add_argument("query", nargs="*", metavar="QUERY", help=_("words to find, best fit first"))
    one.add_argument("--method", metavar="M", default="", help=_("qlora, lora, full, dpo, …"))
    one.add_argument("--model", metavar="F", default="", help=_("a model's name or family"))
    one.add_argument("--size", metavar="S", default="", help=_("7b, or billions from-to: 1-8"))
    one.set_defaults(run=_list)
    one = actions.add_parser("copy", parents=[common], help=_("a config of your own"))
    one.add_argument("name", metavar="NAME", help=_("a name of the catalogue, or a path"))
    one.add_argument("dest", metavar="DEST", nargs="?", type=Path, help=_("a file or folder"))
    one.add_argument(
        "--data", metavar="FILE", nargs="+", type=Path, help=_("train on these files, or a folder")
    )
    one.add_argument(
        "--map", metavar="MODULE", help=_("a map module for the rows, or the name of their shape")
    )
    one.add_argument(
        "--model",
        metavar="M",
        help=_("the base model: a folder, a hub name, or ms:owner/name for ModelScope"),
    )
    one.add_argument("--template", metavar="T", help=_("the prompt template"))
    one.add_argument(
        "--set",
        metavar="KEY=VALUE",
        nargs="+",
        action="extend",
        default=[],
        help=_("a setting, and what it is to be: lr=2e-4"),
    )
    one.add_argument(
        "--card", metavar="GB", type=float, help=_("fit a GPU of this size (else the largest here)")
    )
    one.add_argument("--force", action="store_true", help=_("replace an existing file"))
    one.set_defaults(run=_copy)


def _list(args: argparse.Namespace, out: Output) -> int:
    from engine.config.stock import catalogue, searching

    entries = catalogue.load(out.settings, Path.cwd())
    query = " ".join(args.query)
    found = searching.narrow(entries, query, args.method, args.model, args.size)
    out.result(found, lambda: _rows(found))
    if not found:
        out.say(
            _("No config matches. Without a query all are listed.")
            if entries
            else _("There is no catalogue: XTuner is not installed. Run `tunedeck doctor`.")
        )
    return 0 if found else 1


def _rows(entries: list[Entry]) -> Iterator[str]:
    """Name, method, size, sequence length, model and data, in columns."""
    table = [
        (
            entry.name,
            entry.method,
            entry.size,
            str(entry.max_length or ""),
            "  ".join(part for part in (entry.model, entry.dataset) if part),
        )
        for entry in entries
    ]
    widths = [max(map(len, column), default=0) for column in zip(*table, strict=True)]
    for row in table:
        cells = (f"{cell:{width}}" for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()


def _copy(args: argparse.Namespace, out: Output) -> int:
    from engine.config.known.fields import pair
    from engine.config.making import fitting
    from engine.joined.copying import copy_config

    workspace = out.workspace()
    done = copy_config(
        args.name,
        args.dest or workspace.configs / f"{Path(args.name).stem}.py",
        settings=out.settings,
        workspace_root=workspace.root,
        data=args.data,
        shape=args.map,
        model=args.model,
        template=args.template,
        values=dict(map(pair, args.set)),
        card=fitting.card(args.card),
        force=args.force,
    )

    def lines() -> Iterator[str]:
        yield str(done.path)
        if done.module is not None:
            yield str(done.module)
        for change in done.changes:
            yield f"  {change.name}: {change.before or '-'} → {change.after or '-'}"

    out.result(done, lines)
    for note in done.notes:
        out.say(note)
    return 0
