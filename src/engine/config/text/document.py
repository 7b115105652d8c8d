"""A config's text and its tree: where each value stands, to the byte.

The tree is Python's own, which tells the first and last byte of every
expression. Edits are made on the text itself, so what was not meant cannot
change: comments, quotes, spaces and line ends are never written anew.
"""

from __future__ import annotations

import ast
import bisect
import io
import re
import tokenize
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from engine.errors import Problem
from engine.i18n import _

_PLAIN = (ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Expr)
"""Statements that import nothing."""
_LINE_END = re.compile(rb"\r\n|\r|\n")
_SPACE = re.compile(rb"(?:[ \t\f\r\n]|\\\r?\n|#[^\r\n]*)*")


@dataclass(frozen=True)
class Assignment:
    """A statement ``name = value`` (or ``name *= value``) at the top level."""

    name: str
    operator: str
    """"=" or an augmented one such as "*="."""
    value: ast.expr
    statement: ast.stmt
    target: ast.Name


@dataclass(frozen=True)
class Member:
    """A value inside a ``dict(…)``, a dict, a list or a tuple."""

    value: ast.expr
    label: ast.expr | ast.keyword | None
    """What stands before the value: a dict's key, the keyword; None in a list."""


class NoSuchKey(Exception):
    """The path leads nowhere; `owner` is the last node on it that exists."""

    def __init__(self, key: str, owner: ast.expr | None, rest: tuple[str, ...]) -> None:
        super().__init__(key)
        self.owner = owner
        self.rest = rest


class Document:
    """A parsed config. Raises `Problem` with line and column when it does not parse."""

    def __init__(self, text: str, name: str = "") -> None:
        self.data = text.encode()
        self.module = _parsed(text, name)
        self._starts = [0, *(found.end() for found in _LINE_END.finditer(self.data))]
        self.assignments = list(self._assignments())
        self._by_name: dict[str, list[Assignment]] = {}
        for one in self.assignments:
            self._by_name.setdefault(one.name, []).append(one)

    @cached_property
    def imported(self) -> set[str]:
        """The names that the file imports."""
        return set(self._imported())

    @cached_property
    def unsure(self) -> set[str]:
        """Names that statements change which only a run can follow (``if``, ``for``, a call)."""
        return set(self._unsure())

    # Places

    def span(self, node: ast.expr | ast.stmt | ast.keyword) -> tuple[int, int]:
        """Where `node` stands, its own parentheses included: byte offsets, start and end."""
        start, end = self._bare(node)
        return self._widened(start, end) if isinstance(node, ast.expr) else (start, end)

    def member_span(self, member: Member) -> tuple[int, int]:
        """Where a member stands, with its keyword or key."""
        start, end = self.span(member.value)
        return (self._bare(member.label)[0] if member.label else start), end

    def label_span(self, member: Member) -> tuple[int, int]:
        """Where the keyword or the key of a member stands."""
        assert member.label is not None, "a list's members have no names"
        start, end = self._bare(member.label)
        if isinstance(member.label, ast.keyword):
            found = re.compile(rb"[^\s=#\\]+").match(self.data, start)
            assert found is not None
            end = found.end()
        return start, end

    def _bare(self, node: ast.expr | ast.stmt | ast.keyword) -> tuple[int, int]:
        assert node.end_lineno is not None and node.end_col_offset is not None
        return (
            self._starts[node.lineno - 1] + node.col_offset,
            self._starts[node.end_lineno - 1] + node.end_col_offset,
        )

    def _widened(self, start: int, end: int) -> tuple[int, int]:
        """The span with the parentheses around it: ``(16)``, text over several lines."""
        while True:
            right = _SPACE.match(self.data, end)
            after = right.end() if right else end
            if self.data[after : after + 1] != b")":
                return start, end
            before = self._open_before(start)
            if before is None:
                return start, end
            start, end = before, after + 1

    def _open_before(self, start: int) -> int | None:
        """The offset of a ``(`` that is the last thing before `start` but comments."""
        line_start = self._starts[bisect.bisect_right(self._starts, start) - 1]
        same_line = self.data[line_start:start].rstrip()
        if same_line:  # no comment can stand between them
            at = line_start + len(same_line) - 1
            return at if same_line.endswith(b"(") else None
        index = bisect.bisect_left(self._tokens, (start,)) - 1
        at, token = self._tokens[index] if index >= 0 else (0, "")
        return at if token == "(" else None

    @cached_property
    def _tokens(self) -> list[tuple[int, str]]:
        """Every token but comments and line ends with its offset; rarely needed, slow to make."""
        skipped = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT}
        found = []
        lines = _LINE_END.sub(b"\n", self.data).decode()
        for token in tokenize.generate_tokens(io.StringIO(lines).readline):
            if token.type not in skipped and token.string:
                line, column = token.start
                wide = len(token.line[:column].encode()) if token.line else column
                found.append((self._starts[line - 1] + wide, token.string))
        return found

    def code(self, node: ast.expr | ast.keyword) -> str:
        """The text of `node`."""
        start, end = self.span(node)
        return self.data[start:end].decode()

    def line(self, node: ast.expr) -> int:
        """The line of `node`, from 1."""
        return node.lineno

    # Statements

    def _assignments(self) -> Iterator[Assignment]:
        for statement in self.module.body:
            if isinstance(statement, ast.Assign):
                for target in statement.targets:
                    if isinstance(target, ast.Name):
                        yield Assignment(target.id, "=", statement.value, statement, target)
            elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
                if isinstance(statement.target, ast.Name):
                    target = statement.target
                    yield Assignment(target.id, "=", statement.value, statement, target)
            elif isinstance(statement, ast.AugAssign) and isinstance(statement.target, ast.Name):
                target = statement.target
                between = self.data[self._bare(target)[1] : self.span(statement.value)[0]].decode()
                sign = between.partition("=")[0].replace("\\", "").strip() + "="
                yield Assignment(target.id, sign, statement.value, statement, target)

    def _imported(self) -> Iterator[str]:
        for statement in self.module.body:
            if isinstance(statement, _PLAIN) or _has_own_names(statement):
                continue
            for node in ast.walk(statement):
                if isinstance(node, ast.Import | ast.ImportFrom):  # in mmengine's read_base too
                    for alias in node.names:
                        yield (alias.asname or alias.name).partition(".")[0]

    def _unsure(self) -> Iterator[str]:
        plain = (ast.Import, ast.ImportFrom)
        for statement in self.module.body:
            if isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
                targets = getattr(statement, "targets", None) or [statement.target]  # type: ignore[union-attr]
                yield from (root for one in targets if (root := _changed(one)) is not None)
            elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
                root = _changed(statement.value.func)  # model.update(…)
                if root is not None:
                    yield root
            elif not isinstance(statement, plain) and not _has_own_names(statement):
                for node in ast.walk(statement):
                    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del):
                        yield node.id

    def last_import(self) -> ast.stmt | None:
        """The last import statement at the top level."""
        found = [one for one in self.module.body if isinstance(one, ast.Import | ast.ImportFrom)]
        return found[-1] if found else None

    # Values by path

    def definition(self, name: str, at: ast.expr | None = None) -> Assignment | None:
        """The last plain assignment to `name`; the last before the place `at`, where it counts."""
        for one in reversed(self._by_name.get(name, ())):
            if one.operator == "=" and _earlier(one.statement, at):
                return one
        return None

    def history(self, name: str, at: ast.expr | None = None) -> list[Assignment]:
        """The last plain assignment to `name` and the augmented ones after it, before `at`."""
        found: list[Assignment] = []
        for one in self._by_name.get(name, ()):
            if _earlier(one.statement, at):
                found = [one] if one.operator == "=" else [*found, one]
        return found

    def follow(self, node: ast.expr) -> ast.expr:
        """`node`, or what it names when it is a variable of this file."""
        while isinstance(node, ast.Name):
            found = self.definition(node.id, node)  # earlier and earlier: it ends
            if found is None:
                break
            node = found.value
        return node

    def find(self, path: tuple[str, ...]) -> ast.expr:
        """The node at `path` ("optim_wrapper", "optimizer", "lr"), variables followed.

        Raises `NoSuchKey`.
        """
        found = self.definition(path[0])
        if found is None:
            raise NoSuchKey(path[0], None, path)
        node = self.follow(found.value)
        for depth, part in enumerate(path[1:], 1):
            child = self.children(node).get(part)
            if child is None:
                raise NoSuchKey(".".join(path[: depth + 1]), node, path[depth:])
            node = self.follow(child.value)
        return node

    def owner(self, path: tuple[str, ...]) -> dict[str, Member]:
        """The members of what holds the value at `path`. Raises `NoSuchKey`."""
        return self.children(self.find(path[:-1]))

    def children(self, node: ast.expr) -> dict[str, Member]:
        """The members of a ``dict(…)`` call, a dict, a list or a tuple, by key or number."""
        if is_dict_call(node):
            assert isinstance(node, ast.Call)
            return {one.arg: Member(one.value, one) for one in node.keywords if one.arg is not None}
        if isinstance(node, ast.List | ast.Tuple):
            return {str(index): Member(one, None) for index, one in enumerate(node.elts)}
        if isinstance(node, ast.Dict):
            return {
                key.value: Member(value, key)
                for key, value in zip(node.keys, node.values, strict=True)
                if isinstance(key, ast.Constant) and isinstance(key.value, str)
            }
        return {}

    def walk(self) -> Iterator[tuple[tuple[str, ...], ast.expr]]:
        """Every value of the file that has a path, leaf or not, as it is written there."""
        for one in self.assignments:
            if one.operator == "=" and self.definition(one.name) is one:
                yield from self._walk((one.name,), one.value)

    def _walk(
        self, path: tuple[str, ...], node: ast.expr
    ) -> Iterator[tuple[tuple[str, ...], ast.expr]]:
        yield path, node
        for key, member in self.children(node).items():
            yield from self._walk((*path, key), member.value)


def _parsed(text: str, name: str) -> ast.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of "\d" and the like, on the user's screen
            return ast.parse(text)
    except SyntaxError as error:
        line, column, reason = error.lineno or 1, error.offset or 1, error.msg or str(error)
    except ValueError as error:  # a null byte
        line, column, reason = 1, 1, str(error)
    except (RecursionError, MemoryError):
        line, column, reason = 1, 1, _("It is nested too deeply.")
    raise Problem(
        _("{name} is not valid Python").format(name=name or _("The config")),
        _("line {line}, column {column}: {reason}").format(line=line, column=column, reason=reason),
        _("Correct that line, then try again."),
    )


def _has_own_names(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)


def _changed(target: ast.expr) -> str | None:
    """The variable that ``x["a"] = …``, ``x.a = …`` or ``x.update(…)`` changes."""
    if isinstance(target, ast.Name):
        return None
    while isinstance(target, ast.Subscript | ast.Attribute):
        target = target.value
    return target.id if isinstance(target, ast.Name) else None


def _earlier(statement: ast.stmt, at: ast.expr | None) -> bool:
    if at is None or statement.end_lineno is None or statement.end_col_offset is None:
        return True
    return (statement.end_lineno, statement.end_col_offset) <= (at.lineno, at.col_offset)


def is_dict_call(node: ast.AST) -> bool:
    """Whether `node` is a call ``dict(…)``."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict"


_PART = re.compile(r"^#\s*PART\s+(\d+)\s+(.*?)\s*#*\s*$")
_HEADING = re.compile(r"^#\s*([A-Z][^#]{0,60}?)\s*$")


def sections(text: str) -> list[tuple[int, int, str]]:
    """The headings of a stock config: (line from 1, part or 0, title), in order.

    ``PART n`` banners, and inside PART 1 the comments that stand alone over a
    group ("# Scheduler & Optimizer").
    """
    found: list[tuple[int, int, str]] = []
    part = 0
    above = ""
    for number, line in enumerate(text.splitlines(), 1):
        banner = _PART.match(line)
        heading = _HEADING.match(line)
        if banner:
            part = int(banner[1])
            found.append((number, part, banner[2]))
        elif heading and part == 1 and (not above.strip() or set(above) == {"#"}):
            found.append((number, part, heading[1]))
        above = line
    return found
