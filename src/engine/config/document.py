"""A config's text as a tree: where each value stands, to the byte.

The tree is libcst's; edits are made on the text itself, so that what was not
meant cannot change.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import libcst as cst
from libcst.metadata import ByteSpanPositionProvider, MetadataWrapper

from engine.config.values import syntax_error
from engine.errors import Problem
from engine.i18n import _

_MAX_HOPS = 20


@dataclass(frozen=True)
class Assignment:
    """A statement ``name = value`` (or ``name *= value``) at the top level."""

    name: str
    operator: str
    """"=" or an augmented one such as "*="."""
    value: cst.BaseExpression
    statement: cst.SimpleStatementLine


class NoSuchKey(Exception):
    """The path leads nowhere; `owner` is the last node on it that exists."""

    def __init__(self, key: str, owner: cst.BaseExpression | None, rest: tuple[str, ...]) -> None:
        super().__init__(key)
        self.owner = owner
        self.rest = rest


class Document:
    """A parsed config. Raises `Problem` with line and column when it does not parse."""

    def __init__(self, text: str, name: str = "") -> None:
        self.data = text.encode()
        try:
            wrapper = MetadataWrapper(cst.parse_module(text), unsafe_skip_copy=True)
        except cst.ParserSyntaxError as error:
            # Python's own parser says better where and why.
            line, column, reason = syntax_error(text) or (
                error.raw_line,
                error.raw_column + 1,
                error.message,
            )
            raise Problem(
                _("{name} is not valid Python").format(name=name or _("The config")),
                _("line {line}, column {column}: {reason}").format(
                    line=line, column=column, reason=reason
                ),
                _("Correct that line, then try again."),
            ) from error
        self.module = wrapper.module
        self._spans = wrapper.resolve(ByteSpanPositionProvider)
        self.assignments = list(self._assignments())
        self.imported = set(self._imported())

    def span(self, node: cst.CSTNode) -> tuple[int, int]:
        """Where `node` stands, its parentheses included: byte offsets, start and end."""
        own = self._spans[node]
        start, end = own.start, own.start + own.length
        if isinstance(node, cst.BaseExpression):
            if node.lpar:
                start = self._spans[node.lpar[0]].start
            if node.rpar:
                last = self._spans[node.rpar[-1]]
                end = last.start + last.length
        return start, end

    def code(self, node: cst.CSTNode) -> str:
        """The text of `node`."""
        start, end = self.span(node)
        return self.data[start:end].decode()

    def line(self, node: cst.CSTNode) -> int:
        """The line of `node`, from 1."""
        return self.data.count(b"\n", 0, self.span(node)[0]) + 1

    def _statements(self) -> Iterator[tuple[cst.SimpleStatementLine, cst.BaseSmallStatement]]:
        for statement in self.module.body:
            if isinstance(statement, cst.SimpleStatementLine):
                for part in statement.body:
                    yield statement, part

    def _assignments(self) -> Iterator[Assignment]:
        for statement, part in self._statements():
            if isinstance(part, cst.Assign):
                for target in part.targets:
                    if isinstance(target.target, cst.Name):
                        yield Assignment(target.target.value, "=", part.value, statement)
            elif isinstance(part, cst.AnnAssign) and part.value is not None:
                if isinstance(part.target, cst.Name):
                    yield Assignment(part.target.value, "=", part.value, statement)
            elif isinstance(part, cst.AugAssign) and isinstance(part.target, cst.Name):
                operator = self.module.code_for_node(part.operator).strip()
                yield Assignment(part.target.value, operator, part.value, statement)

    def _imported(self) -> Iterator[str]:
        for _statement, part in self._statements():
            if isinstance(part, cst.Import | cst.ImportFrom) and not isinstance(
                part.names, cst.ImportStar
            ):
                for alias in part.names:
                    name = alias.evaluated_alias or alias.evaluated_name
                    yield name.partition(".")[0]

    def last_import(self) -> cst.SimpleStatementLine | None:
        """The last import statement at the top level."""
        last = None
        for statement, part in self._statements():
            if isinstance(part, cst.Import | cst.ImportFrom):
                last = statement
        return last

    def definition(self, name: str) -> Assignment | None:
        """The last plain assignment to `name`."""
        for one in reversed(self.assignments):
            if one.name == name and one.operator == "=":
                return one
        return None

    def history(self, name: str) -> list[Assignment]:
        """The last plain assignment to `name` and the augmented ones after it."""
        found: list[Assignment] = []
        for one in self.assignments:
            if one.name == name:
                found = [one] if one.operator == "=" else [*found, one]
        return found

    def follow(self, node: cst.BaseExpression) -> cst.BaseExpression:
        """`node`, or what it names when it is a variable of this file."""
        for _hop in range(_MAX_HOPS):
            if not isinstance(node, cst.Name):
                return node
            found = self.definition(node.value)
            if found is None or found.value is node:
                return node
            node = found.value
        return node  # names that define each other

    def find(self, path: tuple[str, ...]) -> cst.BaseExpression:
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

    def children(self, node: cst.BaseExpression) -> dict[str, cst.Arg | cst.BaseElement]:
        """The members of a ``dict(…)`` call, a dict, a list or a tuple, by key or number."""
        members: dict[str, cst.Arg | cst.BaseElement] = {}
        if is_dict_call(node):
            assert isinstance(node, cst.Call)
            for argument in node.args:
                if argument.keyword is not None:
                    members[argument.keyword.value] = argument
        elif isinstance(node, cst.List | cst.Tuple):
            members = {str(index): one for index, one in enumerate(node.elements)}
        return members | self._entries(node)

    @staticmethod
    def _entries(node: cst.BaseExpression) -> dict[str, cst.Arg | cst.BaseElement]:
        if not isinstance(node, cst.Dict):
            return {}
        entries: dict[str, cst.Arg | cst.BaseElement] = {}
        for element in node.elements:
            if isinstance(element, cst.DictElement) and isinstance(element.key, cst.SimpleString):
                key = element.key.evaluated_value
                if isinstance(key, str):
                    # DictElement is no BaseElement in libcst's types, but has what we need.
                    entries[key] = element  # type: ignore[assignment]
        return entries

    def walk(self) -> Iterator[tuple[tuple[str, ...], cst.BaseExpression]]:
        """Every value of the file that has a path, leaf or not, as it is written there."""
        for one in self.assignments:
            if one.operator == "=" and self.definition(one.name) is one:
                yield from self._walk((one.name,), one.value)

    def _walk(
        self, path: tuple[str, ...], node: cst.BaseExpression
    ) -> Iterator[tuple[tuple[str, ...], cst.BaseExpression]]:
        yield path, node
        for key, member in self.children(node).items():
            yield from self._walk((*path, key), member.value)


def is_dict_call(node: cst.CSTNode) -> bool:
    """Whether `node` is a call ``dict(…)``."""
    return (
        isinstance(node, cst.Call) and isinstance(node.func, cst.Name) and node.func.value == "dict"
    )


_PART = re.compile(r"^#\s*PART\s+(\d+)\s+(.*?)\s*#*\s*$")
_HEADING = re.compile(r"^#\s*([A-Z][^#]{0,60}?)\s*$")


def sections(text: str) -> list[tuple[int, int, str]]:
    """The headings of a stock config: (line from 1, part or 0, title), in order.

    ``PART n`` banners, and inside PART 1 the comments that stand alone over a
    group ("# Scheduler & Optimizer").
    """
    found: list[tuple[int, int, str]] = []
    part = 0
    blank = True
    for number, line in enumerate(text.splitlines(), 1):
        banner = _PART.match(line)
        heading = _HEADING.match(line)
        if banner:
            part = int(banner[1])
            found.append((number, part, banner[2]))
        elif heading and part == 1 and (blank or set(text.splitlines()[number - 2]) == {"#"}):
            found.append((number, part, heading[1]))
        blank = not line.strip()
    return found
