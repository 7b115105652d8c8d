"""The lines of the field list: settings under the headings of their sections."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.i18n import _

if TYPE_CHECKING:
    from engine.config.known.fields import Field


@dataclass(frozen=True)
class Row:
    """A line of the list: a section's heading (`field` is None) or a setting in it."""

    section: str
    field: Field | None = None

    @property
    def is_path(self) -> bool:
        """Whether the value is a path or a hub name."""
        value = self.field.value if self.field else None
        return isinstance(value, str) and "/" in value and " " not in value


def rows_of(fields: Iterable[Field], order: Iterable[str]) -> list[Row]:
    """`fields` grouped by section.

    A setting that belongs to no section of ours stands with the one before it
    in the file: people write what belongs together close together.

    Args:
        fields: in the file's order.
        order: sections in the order to show; others follow as they come.
    """
    known = list(order)
    groups: dict[str, list[Field]] = {section: [] for section in known}
    section = ""
    for field in fields:
        if field.section in known or not section:
            section = field.section or _("Settings")
        groups.setdefault(section, []).append(field)
    rows: list[Row] = []
    for section, members in groups.items():
        if members:
            rows.append(Row(section))
            rows += [Row(section, field) for field in members]
    return rows


def shown_value(field: Field) -> str:
    """The value as the list shows it: text without quotes, all else as it is written."""
    if not field.line:
        return "–"
    if isinstance(field.value, str) and field.literal and field.value:
        return field.value
    return " ".join(field.code.split())


def text_to_edit(field: Field) -> str:
    """The value as one line to edit; `fields.assign` reads it back as it was."""
    if not field.line:
        return ""
    if isinstance(field.value, str) and field.literal:
        plain = field.value
        awkward = plain != plain.strip() or not plain.isprintable() or plain[:1] in "'\""
        return repr(plain) if plain and awkward else plain
    if "\n" not in field.code:
        return field.code
    try:
        return ast.unparse(ast.parse(f"(\n{field.code}\n)", mode="eval"))
    except SyntaxError:
        return " ".join(field.code.split())


def marks(names: Iterable[str], levels: Mapping[str, str]) -> dict[str, str]:
    """The level of the worst finding for each of `names`.

    A finding speaks of a setting by its whole name, or of a part of it, or of
    something that the setting holds.
    """
    found: dict[str, str] = {}
    for name in names:
        for key, level in levels.items():
            if key == name or key.startswith(name + ".") or key.endswith("." + name):
                found[name] = worst(found.get(name, ""), level)
    return found


_RANKS = {"": 0, "info": 1, "warning": 2, "error": 3}


def worst(one: str, other: str) -> str:
    """The more serious of two levels."""
    return max(one, other, key=lambda level: _RANKS.get(level, 0))
