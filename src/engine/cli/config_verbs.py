"""The verbs about configs: ``config list|copy|show|get|set|diff``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.cli import catalogue_verbs
from engine.cli.catalogue_verbs import pair
from engine.cli.output import Output
from engine.errors import Problem
from engine.i18n import _

if TYPE_CHECKING:
    from engine.config.source import ConfigSource, Field


def add(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser
) -> None:
    """Add this module's verbs."""
    config = verbs.add_parser("config", help=_("training configs: find, copy, look, change"))
    actions = config.add_subparsers(dest="action", metavar=_("ACTION"), required=True)
    catalogue_verbs.add(actions, common)
    one = _on_file(actions, common, "show", _("its settings"), _show)
    one = _on_file(actions, common, "get", _("one value"), _get)
    one.add_argument("key", metavar="KEY")
    one = _on_file(actions, common, "set", _("change values, and nothing else"), _set)
    one.add_argument("pairs", metavar="KEY=VALUE", nargs="+")
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
    parser.add_argument("file", metavar="FILE", type=Path)
    parser.set_defaults(run=run)
    return parser


def _field(source: ConfigSource, key: str) -> Field:
    """A field of any key, one of the form or not."""
    from engine.config.field_table import BY_NAME
    from engine.config.source import Field
    from engine.config.values import Code

    known = BY_NAME.get(key)
    value = source.get(key)
    return Field(
        name=key,
        value=value,
        line=source.line(key),
        section=_(known.section) if known else "",
        help=_(known.help) if known else "",
        code=source.code(key),
        literal=not isinstance(value, Code),
    )


def _show(args: argparse.Namespace, out: Output) -> int:
    from engine.config.source import ConfigSource

    fields = ConfigSource.open(args.file).fields()

    def lines() -> Iterator[str]:
        width = max((len(field.name) for field in fields), default=0)
        section = ""
        for field in fields:
            if field.section != section:
                section = field.section
                yield f"{section}:" if section else ""
            code = " ".join(field.code.split())
            yield f"{field.line:5}  {field.name:{width}}  {code}"

    out.result({"path": args.file, "fields": fields}, lines)
    return 0


def _get(args: argparse.Namespace, out: Output) -> int:
    from engine.config.source import ConfigSource

    field = _field(ConfigSource.open(args.file), args.key)
    out.result({"fields": [field]}, lambda: [_shown(field.value)])
    return 0


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)


def _set(args: argparse.Namespace, out: Output) -> int:
    from engine.config.source import ConfigSource

    source = ConfigSource.open(args.file)
    pairs = [pair(one) for one in args.pairs]
    for key, value in pairs:
        source.assign(key, value)
    source.save()
    fields = [_field(source, key) for key, _value in pairs]
    out.result(
        {"path": args.file, "fields": fields},
        lambda: (f"{field.line:5}  {field.name} = {field.code}" for field in fields),
    )
    return 0


def _diff(args: argparse.Namespace, out: Output) -> int:
    from engine.config import catalogue, copy
    from engine.config.source import ConfigSource

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
    fields = [_field(source, change.name) for change in changes if change.after is not None]
    name, origin = str(args.file), str(other.path or "")
    out.result(
        {"path": args.file, "against": other.path, "changes": changes, "fields": fields},
        lambda: source.diff(other, name, origin),
    )
    return 0
