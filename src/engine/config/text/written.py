"""How a setting's value reads: as it is written, and what that comes to."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.config.known.fields import Field


def in_effect(field: Field) -> str:
    """The value where an expression, a name or a later line makes it another than is written."""
    if not field.literal or not field.line:
        return ""
    try:
        written = ast.literal_eval(field.code)
    except (ValueError, SyntaxError):
        return "" if _only_parts(field) else repr(field.value)
    return "" if written == field.value else repr(field.value)


def _only_parts(field: Field) -> bool:
    """Whether the value is a container that says no more than its code (names inside it)."""
    return isinstance(field.value, dict | list | tuple) and field.code[:1] in "[({d"
