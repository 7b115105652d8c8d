"""The settings of a config as a form shows them, and changes as a person types them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

import msgspec

from engine.config.known.field_table import ADDABLE, TABLE, find
from engine.config.known.setting import Known
from engine.config.known.vocabulary import BY_TYPE
from engine.config.text.document import sections
from engine.config.text.source import ConfigSource
from engine.config.text.values import Code
from engine.errors import Problem
from engine.i18n import _


class Field(msgspec.Struct, frozen=True):
    """A setting of a config, as a form shows it."""

    name: str
    """The key for `ConfigSource.get` and `set`: ``lr``, ``model.lora.r``."""
    value: Any
    """What it evaluates to; for an expression that cannot be told, its code."""
    line: int
    """0: the file does not set it."""
    section: str
    help: str
    code: str
    """As it is written; "" where it is not set."""
    literal: bool
    """Whether `value` was evaluated (False: `value` is the code)."""
    also: list[str] = []
    """Settings elsewhere in the file that take their value from this one."""
    effects: dict[str, str] = {}
    """What it does to "memory", "speed" and "quality", where it does."""
    default: str = ""
    """What holds while it is not set."""


def field(source: ConfigSource, key: str) -> Field:
    """The setting `key`, one of the form or not. Raises `Problem` when there is none."""
    name = source.full_name(key)
    known = find(name)
    value = source.get(key)
    return Field(
        name=key,
        value=value,
        line=source.line(key),
        section=_(known.section) if known else "",
        help=_(known.help) if known else "",
        code=source.code(key),
        literal=not isinstance(value, Code),
        also=source.readers(key),
        effects=effects(known) if known else {},
        default=_(known.default) if known and known.default else "",
    )


def effects(known: Known) -> dict[str, str]:
    """What a setting does to memory, speed and quality, in the user's language."""
    told = {"memory": known.memory, "speed": known.speed, "quality": known.quality}
    return {name: _(text) for name, text in told.items() if text}


def fields(source: ConfigSource) -> list[Field]:
    """PART 1 and the settings deeper in the file that the form knows, in file order.

    Settings that the file leaves to their default, and could set, follow.
    """
    headings = sections(source.text)
    parts = any(part for _line, part, _title in headings)
    found = []
    for name in source.names():
        known = find(name)
        line = source.line_of(name)
        above = [one for one in headings if one[0] < line]
        part, title = above[-1][1:] if above else (0, "")
        nested = "." in name
        shown = not nested and (part == 1 or not (parts or source.is_block(name)))
        # A bare name repeats a variable that is listed itself.
        if not (shown or known) or (nested and source.variable(name) is not None):
            continue
        one = field(source, name)
        found.append(one if known else msgspec.structs.replace(one, section=title))
    return sorted(found, key=lambda one: one.line) + list(_unset(source, found))


def _unset(source: ConfigSource, found: list[Field]) -> Iterator[Field]:
    """Settings that are at their default and that `source` could set."""
    there = {known for one in found if (known := find(one.name))}
    for known in TABLE:
        if known.default and known not in there and _fits(source, known.name):
            yield Field(
                name=known.name,
                value=None,
                line=0,
                section=_(known.section),
                help=_(known.help),
                code="",
                literal=True,
                effects=effects(known),
                default=_(known.default),
            )


def _fits(source: ConfigSource, name: str) -> bool:
    """Whether `name` is not set and would be read if it were added."""
    owner, _dot, last = name.rpartition(".")
    if not owner:
        return name in ADDABLE and not source.holds(name)
    if source.holds(name) or not source.is_block(owner):
        return False
    takes = BY_TYPE.get(_type(source, owner))
    return takes is None or last in takes


def _type(source: ConfigSource, block: str) -> str:
    """The last name of the class or function that the block says it is for, or ""."""
    key = f"{block}.type"
    return source.code_of(key).rpartition(".")[2] if source.holds(key) else ""


def pair(text: str) -> tuple[str, str]:
    """``KEY=VALUE`` as a person types it, split. Raises `Problem` for anything else."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise Problem(
            _("{text} is not KEY=VALUE").format(text=text),
            todo=_("Write for example lr=2e-4, with quotes around values that have spaces."),
        )
    return key.strip(), value


def assign(source: ConfigSource, key: str, typed: str) -> None:
    """Give `key` the value that a person typed: a preset's word, or Python (`values.parse`).

    Raises `Problem` for what cannot stand there.
    """
    known = find(source.full_name(key))
    for preset in known.presets if known else ():
        if typed.strip().lower() == preset.word.lower():
            for module, name in preset.imports:
                source.ensure_import(module, name)
            source.set(key, Code(preset.code))
            return
    if not source.holds(source.full_name(key)) and _is_expression(typed, source):
        source.set(key, Code(typed.strip()))
        return
    source.assign(key, typed)


def _is_expression(typed: str, source: ConfigSource) -> bool:
    """Whether `typed` is code whose names the config knows: ``torch.bfloat16``."""
    try:
        tree = ast.parse(typed.strip(), mode="eval").body
    except (SyntaxError, ValueError):
        return False
    names = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name)]
    return bool(names) and all(source.knows(name) for name in names)


def reset(source: ConfigSource, key: str, origin: ConfigSource | None) -> None:
    """Give `key` what it has in `origin`; without one, or where that has none, it goes.

    Raises `Problem` for a setting that is as it was, and one that has no origin.
    """
    name = source.full_name(key)
    if origin is None:
        raise Problem(_("This config does not say which one it was copied from."))
    if origin.holds(name):
        source.set(name, Code(origin.code_of(name)))
    elif source.holds(name):
        source.unset(name)
