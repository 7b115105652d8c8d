"""The verbs about configs: ``config list|copy|show|get|set|diff``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.cli import catalogue_verbs
from engine.cli.output import Output
from engine.config.text.written import in_effect
from engine.errors import Problem
from engine.i18n import _

if TYPE_CHECKING:
    from engine.config.known.fields import Field


def add(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser
) -> None:
    """Add this module's verbs."""
    config = verbs.add_parser("config", help=_("training configs: find, copy, look, change"))
    actions = config.add_subparsers(dest="action", metavar=_("ACTION"), required=True)
    catalogue_verbs.add(actions, common)
    one = _on_file(actions, common, "show", _("its settings"), _show)
    one = _on_file(actions, common, "get", _("one value"), _get)
    one.add_argument("key", metavar="KEY", help=_("a setting, as `config show` names it"))
    one = _on_file(actions, common, "set", _("change values, and nothing else"), _set)
    one.add_argument(
        "pairs", metavar="KEY=VALUE", nargs="+", help=_("a setting, and what it is to be: lr=2e-4")
    )
    one = _on_file(actions, common, "diff", _("what differs from its origin"), _diff)
    one.add_argument("--against", metavar="NAME", help=_("another config, by name or path"))


def _on_file(
    actions: argparse._SubParsersAction[argparse.ArgumentParser],
    common: argparse.ArgumentParser,
    name: str,
    help: str,
    run: Any,
) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, parents=[common], help=help)
    parser.add_argument("file", metavar="FILE", type=Path, help=_("the config"))
    parser.set_defaults(run=run)
    return parser


def _show(args: argparse.Namespace, out: Output) -> int:
    from engine.config.known.fields import fields as fields_of
    from engine.config.text.source import ConfigSource

    fields = fields_of(ConfigSource.open(args.file))

    def lines() -> Iterator[str]:
        width = max((len(field.name) for field in fields), default=0)
        section = ""
        for field in fields:
            if field.section != section:
                section = field.section
                yield f"{section}:" if section else ""
            yield f"{field.line or '-':>5}  {field.name:{width}}  {_value(field)}"

    out.result({"path": args.file, "fields": fields}, lines)
    return 0


def _value(field: Field) -> str:
    """As it is written, and what that comes to where it is an expression."""
    if not field.line:
        return _("(not set: {default})").format(default=field.default)
    code = " ".join(field.code.split())
    shown = in_effect(field)
    return f"{code}  = {shown}" if shown else code


def _get(args: argparse.Namespace, out: Output) -> int:
    from engine.config.known.fields import field as field_of
    from engine.config.text.source import ConfigSource

    field = field_of(ConfigSource.open(args.file), args.key)
    out.result({"fields": [field]}, lambda: [_shown(field.value)])
    return 0


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)


def _set(args: argparse.Namespace, out: Output) -> int:
    from engine.config.known.fields import assign, pair
    from engine.config.known.fields import field as field_of
    from engine.config.text.source import ConfigSource

    source = ConfigSource.open(args.file)
    pairs = [pair(one) for one in args.pairs]
    for key, value in pairs:
        assign(source, key, value)
    source.save()
    fields = [field_of(source, key) for key, _text in pairs]

    def lines() -> Iterator[str]:
        for field in fields:
            yield f"{field.line:5}  {field.name} = {_value(field)}"
            if field.also:
                yield "       " + _("also changes {names}").format(names=", ".join(field.also))

    out.result({"path": args.file, "fields": fields}, lines)
    return 0


def _diff(args: argparse.Namespace, out: Output) -> int:
    from engine.config.known.fields import field as field_of
    from engine.config.making import copy
    from engine.config.stock import catalogue
    from engine.config.text.source import ConfigSource

    source = ConfigSource.open(args.file)
    if args.against:
        other = ConfigSource.open(catalogue.find(args.against, out.settings, Path.cwd()))
    else:
        found = copy.origin(source, out.settings)
        if found is None:
            raise Problem(
                _("It is not known where {path} was copied from").format(path=args.file),
                _("Its first line does not say so, or that config is not in the catalogue."),
                _("Give the config to compare with: --against NAME"),
            )
        other = found
    changes = source.changes(other)
    fields = [field_of(source, change.name) for change in changes if change.after is not None]
    name, origin = str(args.file), str(other.path or "")
    out.result(
        {"path": args.file, "against": other.path, "changes": changes, "fields": fields},
        lambda: source.diff(other, name, origin),
    )
    return 0
