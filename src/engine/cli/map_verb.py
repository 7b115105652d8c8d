"""The verb ``data map``: any columns made into conversations, by a module beside the config."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.cli.data_files import files
from engine.cli.output import Output
from engine.errors import Failed, Problem
from engine.i18n import _, sentences
from engine.text import clean, whole

if TYPE_CHECKING:
    from engine.dataset.files.rows import Row
    from engine.dataset.mapping import Mapping
    from engine.dataset.reader import Dataset

SHOWN = 3
"""Rows shown as they come out."""
LOOKED_AT = 20
"""Rows from which a mapping is suggested."""


def add(parser: argparse.ArgumentParser) -> None:
    """Add this verb's options."""
    add = parser.add_argument
    add("file", metavar="FILE", type=Path, nargs="+", help=_("a dataset, as `data show` takes it"))
    add("--question", metavar="COL", help=_("the column with what a person asks"))
    add("--answer", metavar="COL", help=_("the column with what the model is to answer"))
    add(
        "--extra",
        metavar="COL",
        action="append",
        help=_("a column that belongs to the question (may be given again)"),
    )
    system = parser.add_mutually_exclusive_group()
    system.add_argument("--system", metavar="COL", help=_("the column with the system text"))
    system.add_argument("--system-text", metavar="S", help=_("one system text for every row"))
    add("--messages", metavar="COL", help=_("the column with lists of messages"))
    add("--role-key", metavar="KEY", help=_("the key in a message that says whose it is"))
    add("--text-key", metavar="KEY", help=_("the key in a message that holds its text"))
    add(
        "--role",
        metavar="ROLE=SIDE",
        action="append",
        default=[],
        help=_("whose words a role's are: system, question or answer (may be given again)"),
    )
    add("--map-fn", metavar="NAME", help=_("show rows by this function of XTuner's instead"))
    add(
        "-o",
        "--out",
        metavar="MODULE.py",
        type=Path,
        help=_("the module to write (default: named after FILE, in the workspace's configs)"),
    )
    add("--force", action="store_true", help=_("overwrite MODULE.py"))
    parser.set_defaults(run=_map)


def _map(args: argparse.Namespace, out: Output) -> int:
    from engine.dataset.reader import Dataset

    with Dataset.open(files(args.file, out)) as dataset:
        if args.map_fn:
            return _by_xtuner(dataset, args, out)
        return _by_module(dataset, args, out)


def _by_module(dataset: Dataset, args: argparse.Namespace, out: Output) -> int:
    from engine.dataset import mapping as mapping_

    mapping = _wanted(dataset, args)
    mapping_.refuse_incomplete(mapping)
    items = [_item(row, partial(_applied, mapping)) for row in dataset.page(0, SHOWN)]
    path: Path = args.out or (
        out.workspace().configs / f"{mapping_.module_name(dataset.path.name.partition('.')[0])}.py"
    )
    mapping_.write_map_module(mapping, path, args.force)
    document = {
        "out": str(path),
        "map_fn": mapping_.FUNCTION,
        "mapping": asdict(mapping),
        "items": items,
    }
    out.result(document, lambda: _lines(document))
    out.say(_("In a config beside it: from {name} import map_fn").format(name=path.stem))
    return 1 if any(item["problem"] for item in items) else 0


def _by_xtuner(dataset: Dataset, args: argparse.Namespace, out: Output) -> int:
    from engine.dataset.preview import Preview, check_map_function

    if args.out:
        raise Problem(
            _("There is nothing to write for {name}").format(name=args.map_fn),
            _("A config imports it from xtuner.dataset.map_fns."),
            _("Leave out -o."),
        )
    check_map_function(args.map_fn, out.settings)
    with Preview(out.settings) as preview:

        def applied(value: Any) -> list[dict[str, Any]] | str:
            try:
                return preview.mapped(value, args.map_fn)
            except Failed as failed:
                return failed.why

        items = [_item(row, applied) for row in dataset.page(0, SHOWN)]
    document = {"out": None, "map_fn": args.map_fn, "mapping": None, "items": items}
    out.result(document, lambda: _lines(document))
    return 1 if any(item["problem"] for item in items) else 0


def _applied(mapping: Mapping, value: Any) -> list[dict[str, Any]] | str:
    """The turns, or what is wrong with the row."""
    from engine.dataset import mapping as mapping_
    from engine.dataset import shapes

    problems = shapes.errors(shapes.by_mapping(mapping, "", "").check(0, value))
    if problems:
        return sentences(problems[0].reason, problems[0].remedy)
    return mapping_.apply(mapping, value)


def _item(row: Row, made_of: Callable[[Any], list[dict[str, Any]] | str]) -> dict[str, Any]:
    """A row as a document: the turns that are `made_of` it, or why there are none."""
    made = row.problem if row.problem is not None else made_of(row.value)
    if isinstance(made, str):
        return {"row": row.index, "conversation": None, "problem": made}
    turns = [
        {key: whole(value) if isinstance(value, str) else value for key, value in turn.items()}
        for turn in made
    ]
    return {"row": row.index, "conversation": turns, "problem": None}


# -- the mapping that is wanted -----------------------------------------------


def _wanted(dataset: Dataset, args: argparse.Namespace) -> Mapping:
    """The mapping that the options say, what they leave open filled in by the suggestion."""
    from engine.dataset.mapping import Mapping

    _check_columns(dataset, args)
    found = _suggestion(dataset) or Mapping()
    if args.messages and args.messages != found.messages:
        found = Mapping(messages=args.messages)
    elif (args.question or args.answer) and found.messages:
        found = Mapping()
    given = {
        "question": args.question,
        "answer": args.answer,
        "extra": tuple(args.extra) if args.extra else None,
        "role": args.role_key,
        "text": args.text_key,
        "system": "" if args.system_text else args.system,
        "system_text": args.system_text,
    }
    found = replace(found, **{name: value for name, value in given.items() if value is not None})
    roles = dict(found.roles) | dict(_side(one) for one in args.role)
    taken = {args.question, args.answer, args.system}  # what is named is not also an extra
    extra = args.extra or [name for name in found.extra if name not in taken]
    return replace(found, roles=tuple(roles.items()), extra=tuple(extra))


def _suggestion(dataset: Dataset) -> Mapping | None:
    from engine.dataset import shapes, suggest

    known = shapes.by_name(dataset.shape).mapping if dataset.shape else None
    return known or suggest.suggest(row.value for row in dataset.page(0, LOOKED_AT))


def _side(text: str) -> tuple[str, str]:
    from engine.dataset.mapping import SIDES

    role, equals, side = text.rpartition("=")
    if not equals or not role or side not in SIDES:
        raise Problem(
            _("--role {text} says nothing").format(text=text),
            todo=_("Write it as ROLE=SIDE, with SIDE one of: {sides}.").format(
                sides=", ".join(SIDES)
            ),
        )
    return role, side


def _check_columns(dataset: Dataset, args: argparse.Namespace) -> None:
    there = dataset.columns()
    wanted = (args.question, args.answer, args.system, args.messages, *(args.extra or ()))
    for name in filter(None, wanted):
        if name not in there:
            near = difflib.get_close_matches(name, there, n=1, cutoff=0.5)
            raise Problem(
                _("There is no column {name} in {path}").format(name=name, path=dataset.path),
                _("Its columns are: {names}.").format(names=", ".join(there)),
                _("Did you mean {name}?").format(name=near[0]) if near else "",
            )


# -- for people ---------------------------------------------------------------


def _lines(document: dict[str, Any]) -> Iterator[str]:
    for item in document["items"]:
        yield "── " + _("row {row}").format(row=item["row"])
        if item["problem"]:
            yield "✗ " + clean(item["problem"])
        elif not item["conversation"]:
            yield "! " + _("XTuner drops this row: it has no answer.")
        for turn in item["conversation"] or ():
            for key, label in (("system", "S"), ("input", "?"), ("output", "▌")):
                for line in clean(turn.get(key) or "").splitlines():
                    yield f"{label} {line}"
    yield "── " + _("S system text · ? question · ▌ answer")
    if document["mapping"]:
        said = ((name, value) for name, value in document["mapping"].items() if value)
        yield "   " + " · ".join(f"{name} {_value(value)}" for name, value in said)
    if document["out"]:
        yield _("Written: {path}").format(path=document["out"])


def _value(value: Any) -> str:
    if isinstance(value, str):
        return clean(value)
    return ", ".join(one if isinstance(one, str) else "=".join(one) for one in value)
