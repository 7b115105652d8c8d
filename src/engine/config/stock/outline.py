"""What a config's text says, from its syntax tree: nothing is imported or run.

Quick enough for hundreds of files; edits need the whole of `source`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from engine.config.text.values import Code, Unknown, augmented, evaluate


class Outline:
    """The values of a config's top-level names, told when asked for.

    What cannot be told without running the file (``process_hf_dataset``,
    ``PROMPT_TEMPLATE.qwen_chat``) is `Code`. Raises `SyntaxError` or
    `ValueError` for a text that is no Python.
    """

    def __init__(self, text: str) -> None:
        self._lines = text.encode().splitlines(keepends=True)
        self._tree = ast.parse(text)
        self._set: dict[str, list[tuple[str, ast.expr]]] = {}
        for name, sign, value in self._assignments():
            earlier = self._set.get(name, []) if sign != "=" else []
            self._set[name] = [*earlier, (sign, value)]
        self._known: dict[str, Any] = {}
        self._asked: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._set

    @property
    def names(self) -> list[str]:
        """Every name that the file sets at its top level, in file order."""
        return list(self._set)

    @property
    def about(self) -> str:
        """The file's docstring, or ""."""
        return ast.get_docstring(self._tree) or ""

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a top-level name; `default` where the file does not set it."""
        return self._lookup(name) if name in self._set else default

    def _assignments(self) -> Iterator[tuple[str, str, ast.expr]]:
        for node in self._tree.body:
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    if isinstance(target, ast.Name):
                        yield target.id, "=", node.value
            elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
                yield node.target.id, _SIGNS.get(type(node.op), "?="), node.value
            elif (
                isinstance(node, ast.AnnAssign)
                and isinstance(node.target, ast.Name)
                and node.value is not None
            ):
                yield node.target.id, "=", node.value

    def _code(self, node: ast.expr) -> str:
        assert node.end_lineno is not None and node.end_col_offset is not None
        lines = self._lines[node.lineno - 1 : node.end_lineno]
        lines[-1] = lines[-1][: node.end_col_offset]
        lines[0] = lines[0][node.col_offset :]
        return b"".join(lines).decode()

    def _lookup(self, name: str) -> Any:
        if name in self._known:
            return self._known[name]
        if name not in self._set or name in self._asked:
            return Code(name)
        self._asked.add(name)
        value: Any = None
        for sign, node in self._set[name]:
            code = self._code(node)
            try:
                right = evaluate(code, self._lookup)
                value = right if sign == "=" else augmented(sign, value, right)
            except Unknown:
                if sign == "=":
                    value = Code(code)
        self._known[name] = value
        return value


_SIGNS: dict[type[ast.operator], str] = {
    ast.Add: "+=",
    ast.Sub: "-=",
    ast.Mult: "*=",
    ast.Div: "/=",
    ast.FloorDiv: "//=",
}
