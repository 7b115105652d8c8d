"""Values in a config: what an expression evaluates to, and how a value is written.

Only literals, arithmetic and names of the same file are evaluated, never run:
everything else (``PROMPT_TEMPLATE.qwen_chat``, ``AdamW``, a call) stays what it
is, as `Code`.
"""

from __future__ import annotations

import ast
import keyword
import math
import operator
import re
from collections.abc import Callable
from typing import Any

from engine.errors import Problem
from engine.i18n import _

_LARGEST = 100_000
"""Characters and members that a value may come to: a config may be hostile, and a few lines
that double what the line before said would fill any memory."""


class Code(str):
    """A piece of Python that stands for a value: written as it is, without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Code({str(self)!r})"


class Unknown(Exception):
    """An expression whose value cannot be told without running it."""


_ARITHMETIC: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Not: operator.not_,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda one, many: one in many,
    ast.NotIn: lambda one, many: one not in many,
}


def syntax_error(text: str) -> tuple[int, int, str] | None:
    """Line and column (from 1) and reason of what Python cannot parse in `text`."""
    try:
        ast.parse(text)
    except SyntaxError as error:
        return error.lineno or 1, error.offset or 1, error.msg or str(error)
    except ValueError as error:  # a null byte
        return 1, 1, str(error)
    except RecursionError:
        return 1, 1, _("It is nested too deeply.")
    return None


Lookup = Callable[[str], Any]
"""The value of a name of the file; raises `Unknown` for any other name."""


def evaluate(code: str, lookup: Lookup) -> Any:
    """The value of the expression `code`; parts that cannot be told are `Code` inside it.

    Raises `Unknown` when nothing of it can be told.
    """
    source = f"(\n{code}\n)"
    try:
        tree = ast.parse(source, mode="eval").body
    except SyntaxError as error:
        raise Unknown(code) from error

    def written(node: ast.expr) -> str:
        return ast.get_source_segment(source, node) or ast.unparse(node)

    return value_of(tree, lambda name: lookup(name.id), written)


def value_of(
    node: ast.expr, lookup: Callable[[ast.Name], Any], written: Callable[[ast.expr], str]
) -> Any:
    """The value of `node`, as `evaluate` tells it of text.

    Args:
        node: an expression of a parsed file.
        lookup: the value of a name where it stands; raises `Unknown`.
        written: the text of an expression in it.
    """
    return _Evaluator(lookup, written).whole(node)


class _Evaluator:
    def __init__(
        self, lookup: Callable[[ast.Name], Any], written: Callable[[ast.expr], str]
    ) -> None:
        self.lookup = lookup
        self.written = written

    def part(self, node: ast.expr) -> Any:
        """A member of a container: its value, or its code."""
        try:
            return self.whole(node)
        except Unknown:
            return Code(self.written(node))

    def whole(self, node: ast.expr) -> Any:
        """The value; raises `Unknown`."""
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name):
            return self.lookup(node)
        value = self._made(node)
        if not _fits(value):
            raise Unknown
        return value

    def _made(self, node: ast.expr) -> Any:
        if isinstance(node, ast.List):
            return [self.part(one) for one in node.elts]
        if isinstance(node, ast.Tuple):
            return tuple(self.part(one) for one in node.elts)
        if isinstance(node, ast.Dict):
            return self._dict(node)
        if isinstance(node, ast.Call):
            return self._call(node)
        if isinstance(node, ast.IfExp):
            return self.whole(node.body if self.whole(node.test) else node.orelse)
        if isinstance(node, ast.BoolOp):
            return self._logic(node)
        return self._arithmetic(node)

    def _dict(self, node: ast.Dict) -> dict[Any, Any]:
        result = {}
        for key, value in zip(node.keys, node.values, strict=True):
            if key is None:
                raise Unknown
            result[self.whole(key)] = self.part(value)
        return result

    def _call(self, node: ast.Call) -> dict[str, Any]:
        if not (isinstance(node.func, ast.Name) and node.func.id == "dict") or node.args:
            raise Unknown
        result = {}
        for one in node.keywords:
            if one.arg is None:
                raise Unknown
            result[one.arg] = self.part(one.value)
        return result

    def _logic(self, node: ast.BoolOp) -> Any:
        value: Any = None
        for one in node.values:
            value = self.whole(one)
            if bool(value) is isinstance(node.op, ast.Or):
                break
        return value

    def _arithmetic(self, node: ast.expr) -> Any:
        try:
            if isinstance(node, ast.UnaryOp):
                return _ARITHMETIC[type(node.op)](self.whole(node.operand))
            if isinstance(node, ast.BinOp):
                left, right = self.whole(node.left), self.whole(node.right)
                if not _small(node.op, left, right):
                    raise Unknown
                return _ARITHMETIC[type(node.op)](left, right)
            if isinstance(node, ast.Compare) and len(node.ops) == 1:
                left, right = self.whole(node.left), self.whole(node.comparators[0])
                return _ARITHMETIC[type(node.ops[0])](left, right)
        except (ArithmeticError, TypeError, KeyError, ValueError) as error:
            raise Unknown from error
        raise Unknown


def _fits(value: Any) -> bool:
    """Whether a value is no more than `_LARGEST` with all that is in it, as often as it is."""
    size, unread = 0, [value]
    while unread and size <= _LARGEST:
        one = unread.pop()
        size += 1
        if isinstance(one, str | bytes):
            size += len(one)
        elif isinstance(one, list | tuple):
            unread += one
        elif isinstance(one, dict):
            unread += [*one.keys(), *one.values()]
    return size <= _LARGEST


def _small(operation: ast.operator, left: Any, right: Any) -> bool:
    """Whether the result can be made without harm; whether it is kept, `_fits` says."""
    if isinstance(operation, ast.Pow):
        return all(isinstance(one, int | float) and abs(one) <= 64 for one in (left, right))
    if isinstance(operation, ast.Mult):
        for one, other in ((left, right), (right, left)):
            if isinstance(one, str | bytes | list | tuple):
                return isinstance(other, int) and len(one) * max(other, 0) <= _LARGEST
            if isinstance(one, int) and one.bit_length() > 1000:
                return False
    if isinstance(operation, ast.Mod) and isinstance(left, str | bytes):
        # "%1000000000d" pads as far as it says
        return isinstance(left, str) and re.search(r"\d{4}|\*", left) is None
    return True


def augmented(operation: str, left: Any, right: Any) -> Any:
    """The value after ``left operation= right`` (``"*="`` …); raises `Unknown`."""
    return evaluate(f"a {operation[:-1]} b", lambda name: {"a": left, "b": right}[name])


def render(value: Any, like: str = "") -> str:
    """`value` as Python code, in the quotes that the code `like` uses."""
    if isinstance(value, Code):
        return str(value)
    if isinstance(value, str):
        return _quoted(value, "'" if like.lstrip("rRbBuU").startswith("'") else '"')
    if value is None or isinstance(value, bool | int):
        return repr(value)
    if isinstance(value, float) and math.isfinite(value):
        return repr(value)
    if isinstance(value, list):
        return "[" + ", ".join(render(one, like) for one in value) + "]"
    if isinstance(value, tuple):
        inner = ", ".join(render(one, like) for one in value)
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    if isinstance(value, dict):
        if all(isinstance(key, str) and is_name(key) for key in value):
            inner = ", ".join(f"{key}={render(one, like)}" for key, one in value.items())
            return f"dict({inner})"
        pairs = (f"{render(key, like)}: {render(one, like)}" for key, one in value.items())
        return "{" + ", ".join(pairs) + "}"
    raise Problem(
        _("This value cannot be written into a config: {value}").format(value=repr(value)),
        _("A config holds text, numbers, True, False, None, lists, tuples and dicts."),
    )


def is_name(text: str) -> bool:
    """Whether `text` can be a keyword argument or a variable."""
    return text.isidentifier() and not keyword.iskeyword(text)


def _quoted(text: str, quote: str) -> str:
    code = repr(text)
    if code[0] == quote:
        return code
    inner = code[1:-1].replace(f"\\{code[0]}", code[0]).replace(quote, f"\\{quote}")
    return f"{quote}{inner}{quote}"


def parse(text: str, current: Any, known: Callable[[str], bool]) -> Any:
    """What a person means by `text`, typed as the new value of something now `current`.

    A literal is that literal, spelled as typed (``2e-4`` stays ``2e-4``); where
    text stands now, or nothing does, the words are text; an expression whose
    names are all `known` in the file is `Code`. Raises `Problem` for words
    where a number, a list or an expression stands.
    """
    text = text.strip()
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError):
        return _words(text, current)
    try:
        value = ast.literal_eval(tree)
    except ValueError:
        names = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name)]
        if names and all(known(name) or name == "dict" for name in names):
            return Code(text)
        return _words(text, current)
    if isinstance(current, str) and not isinstance(current, Code) and not isinstance(value, str):
        return text if value is not None else None
    if isinstance(value, str):
        return value if isinstance(current, Code) else _words(value, current)
    return Code(text)


def _words(text: str, current: Any) -> str:
    """`text` as text, where text can stand."""
    if current is None or (isinstance(current, str) and not isinstance(current, Code)):
        return text
    if isinstance(current, Code):
        raise Problem(
            _("{text} is not known in this config").format(text=text or "''"),
            _("An expression stands here now: {code}").format(code=current),
            _("Give a name that the file imports or sets, or text in quotes."),
        )
    raise Problem(
        _("{text} is text, and text cannot stand here").format(text=text or "''"),
        _("The value is {value} now.").format(value=repr(current)),
        _("Give a value in Python's form: True, 2e-4, (0.9, 0.999)."),
    )
