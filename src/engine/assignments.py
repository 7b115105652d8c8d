"""What a Python file assigns at its top, read without running it.

Names that were assigned before, literals, lists, dicts, and the arguments of
``dict(…)`` and of classes are followed, and an ``if`` on a value that is known; everything
else counts as unknown.
Standard library only: the training interpreter reads configs by this as well.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Any

XTUNER_CONFIG = "xtuner_config.py"
"""Beside the weights of an adapter or a model: the config that it was trained with."""


class _Unknown:
    """A value that only running the file would tell."""


UNKNOWN = _Unknown()
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
"""What names values of its own, and none of the file's."""


@dataclass(frozen=True)
class Reference:
    """An attribute of a name, such as ``PROMPT_TEMPLATE.qwen_chat``."""

    table: str
    key: str


def parse(text: str) -> ast.Module | None:
    """The tree of a file's text; None when it is not Python."""
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def read(text: str) -> dict[str, Any] | None:
    """Each name's last value, `UNKNOWN` where only running would tell; None when not Python."""
    tree = parse(text)
    if tree is None:
        return None
    names: dict[str, Any] = {}
    _follow(tree.body, names)
    return names


def _follow(body: list[ast.stmt], names: dict[str, Any]) -> None:
    """What `names` are after these statements."""
    for statement in body:
        if isinstance(statement, ast.Assign):
            value = _value(statement.value, names)
            for target in statement.targets:
                names |= dict.fromkeys(_bound(target), UNKNOWN)
                if isinstance(target, ast.Name):
                    names[target.id] = value
        elif isinstance(statement, ast.AugAssign) and isinstance(statement.target, ast.Name):
            more = _value(statement.value, names)
            before = names.get(statement.target.id)
            both = type(before) is type(more) and isinstance(more, (list, str))
            joined = isinstance(statement.op, ast.Add) and both
            names[statement.target.id] = before + more if joined else UNKNOWN
        elif isinstance(statement, ast.If) and isinstance(
            told := _value(statement.test, names), (bool, int, str, list)
        ):
            _follow(statement.body if told else statement.orelse, names)
        elif not isinstance(statement, _SCOPES):
            names |= dict.fromkeys(_bound(statement), UNKNOWN)


def _bound(node: ast.AST) -> set[str]:
    """The names that `node` gives a value, or takes it from."""
    found = (one for one in ast.walk(node) if isinstance(one, ast.Name))
    return {one.id for one in found if not isinstance(one.ctx, ast.Load)}


def _value(node: ast.expr, names: dict[str, Any]) -> Any:
    if isinstance(node, ast.Name):
        return names.get(node.id, UNKNOWN)
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return Reference(node.value.id, node.attr)
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_value(one, names) for one in node.elts]
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return {
            key.value: _value(value, names) for key, value in pairs if isinstance(key, ast.Constant)
        }
    if isinstance(node, ast.Call):
        return _arguments(node, names)
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return UNKNOWN


def _arguments(call: ast.Call, names: dict[str, Any]) -> Any:
    """Those of ``dict`` and of a class (by its capital): a function may return anything."""
    made = call.func
    name = made.attr if isinstance(made, ast.Attribute) else getattr(made, "id", "")
    if call.args or not (name == "dict" or name[:1].isupper()):
        return UNKNOWN
    return {one.arg: _value(one.value, names) for one in call.keywords if one.arg}
