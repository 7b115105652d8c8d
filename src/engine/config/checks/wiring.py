"""Which setting of a config's text a value comes from, told from its syntax tree.

XTuner's configs keep what a person sets in PART 1 and pass it on by name:
``train_dataloader = dict(batch_size=batch_size, …)``. A finding speaks of the
name at the top, not of the place deep in the file.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator


class Wiring:
    """The top-level statements of a config. Raises SyntaxError for what is not Python."""

    def __init__(self, text: str) -> None:
        self.tree = ast.parse(text.removeprefix("\ufeff"))
        self._values: dict[str, ast.expr] = {}
        for name, value in _assigned(self.tree.body):
            self._values[name] = value

    def setting(self, key: str) -> str:
        """The variable that the value at a dotted `key` is taken from; else `key` itself."""
        found = self._follow(key)
        name, value = key, found
        seen: set[str] = set()
        while isinstance(value, ast.Name) and value.id in self._values and value.id not in seen:
            name = value.id
            seen.add(name)
            value = self._values[name]
        return name

    def line(self, key: str) -> int | None:
        """The line on which the value at `key` is set, from 1; None when it cannot be told."""
        found = self._follow(self.setting(key))
        return found.lineno if found is not None else None

    def uses(self, key: str) -> frozenset[str]:
        """The variables that the expression at `key` is written with."""
        found = self._follow(key)
        if found is None:
            return frozenset()
        return frozenset(node.id for node in ast.walk(found) if isinstance(node, ast.Name))

    def _follow(self, key: str) -> ast.expr | None:
        first, _dot, rest = key.partition(".")
        value = self._values.get(first)
        for part in rest.split(".") if rest else ():
            value = _member(self._resolved(value), part)
        return value

    def _resolved(self, value: ast.expr | None) -> ast.expr | None:
        for _step in range(8):
            if not isinstance(value, ast.Name) or value.id not in self._values:
                break
            value = self._values[value.id]
        return value


def _assigned(body: list[ast.stmt]) -> Iterator[tuple[str, ast.expr]]:
    for node in body:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    yield target.id, node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            yield node.target.id, node.value


def _member(owner: ast.expr | None, part: str) -> ast.expr | None:
    """The member `part` of a ``dict(…)``, a dict or a list as it is written."""
    if isinstance(owner, ast.Call):
        return next((one.value for one in owner.keywords if one.arg == part), None)
    if isinstance(owner, ast.Dict):
        for key, value in zip(owner.keys, owner.values, strict=True):
            if isinstance(key, ast.Constant) and key.value == part:
                return value
    if isinstance(owner, ast.List | ast.Tuple) and part.isdigit() and int(part) < len(owner.elts):
        return owner.elts[int(part)]
    return None
