"""What a config says: its values by key, the names that share one, what differs from another."""

from __future__ import annotations

import ast
import difflib
from functools import cached_property
from typing import Any

import msgspec

from engine.config.known.field_table import ADDABLE
from engine.config.text.document import Assignment, Document, NoSuchKey, is_dict_call
from engine.config.text.values import Code, Unknown, augmented, value_of
from engine.errors import Problem
from engine.i18n import _

BOM = "\ufeff"


class Change(msgspec.Struct, frozen=True):
    """A value that differs between two versions of a config; None: not there."""

    name: str
    before: str | None
    after: str | None
    line: int


class ConfigReader:
    """The text of a config and its values by key.

    A key is dotted into ``dict(…)`` calls, dicts and (by number) lists:
    ``optim_wrapper.optimizer.lr``. A value that is only a variable's name is
    followed to that variable: XTuner keeps its settings in PART 1. A key may be
    the unambiguous end of one (``lora.r`` for ``model.lora.r``).

    Args:
        text: the whole file. Raises `Problem` when it is not Python.
        name: what to call the file in that case.
    """

    def __init__(self, text: str, name: str = "") -> None:
        self._bom = text.startswith(BOM)
        self._show(Document(text.removeprefix(BOM), name))

    def _show(self, document: Document) -> None:
        """Take another text; what was worked out of the last one is forgotten."""
        self._document = document
        self._known: dict[int, Any] = {}
        self.__dict__.pop("_places", None)
        self.__dict__.pop("_uses", None)

    @property
    def text(self) -> str:
        """The whole file as it would be saved."""
        return (BOM if self._bom else "") + self._document.data.decode()

    # By key

    def has(self, key: str) -> bool:
        """Whether the file sets `key`."""
        try:
            self._document.find(self._path(key))
        except (Problem, NoSuchKey):
            return False
        return True

    def full_name(self, key: str) -> str:
        """`key` written out: ``model.lora.r`` for ``lora.r``."""
        return ".".join(self._path(key))

    def get(self, key: str) -> Any:
        """What `key` evaluates to; an expression that cannot be told is `Code`."""
        path = self._path(key)
        node = self._node(key)
        if len(path) > 1:  # a name there stands for all that was done to the variable
            return self._value(self._document.owner(path)[path[-1]].value)
        try:
            return self._variable(path[0])
        except (Unknown, RecursionError):
            return Code(self._document.code(node))

    def code(self, key: str) -> str:
        """The value of `key` as it is written where it is set."""
        return self._document.code(self._node(key))

    def line(self, key: str) -> int:
        """The line on which `key`'s value is set, from 1."""
        return self._document.line(self._node(key))

    def variable(self, key: str) -> str | None:
        """The top-level variable that `key`'s value is taken from; None when it stands there."""
        path = self._path(key)
        if len(path) == 1:
            found = self._document.definition(path[0])
            node = found.value if found else None
        else:
            member = self._document.owner(path).get(path[-1])
            node = member.value if member else None
        return node.id if isinstance(node, ast.Name) and self._is_variable(node) else None

    def knows(self, name: str) -> bool:
        """Whether `name` is a variable or an import of this file."""
        return name in self._document.imported or self._document.definition(name) is not None

    # Exact names: no variable is followed to complete one, no end of a key is enough

    def names(self) -> list[str]:
        """Every name that the file sets, written out, in file order."""
        return list(self._places)

    def line_of(self, name: str) -> int:
        """The line of one of `names`, from 1."""
        return self._document.line(self._places[name])

    def holds(self, name: str) -> bool:
        """Whether the whole name leads to a value, through variables too."""
        return self._at(name) is not None

    def is_block(self, name: str) -> bool:
        """Whether the value at a whole name is a ``dict(…)`` or a dict."""
        node = self._at(name)
        return node is not None and (is_dict_call(node) or isinstance(node, ast.Dict))

    def code_of(self, name: str) -> str:
        """The value at a whole name as it is written; "" where there is none."""
        node = self._at(name)
        return self._document.code(node) if node is not None else ""

    @property
    def imported(self) -> set[str]:
        """The names that the file imports."""
        return self._document.imported

    @property
    def augmented(self) -> set[str]:
        """The variables that a later line changes (``accumulative_counts *= 2``)."""
        return {one.name for one in self._document.assignments if one.operator != "="}

    def read_names(self) -> set[str]:
        """The names that the file uses anywhere."""
        return {
            node.id
            for node in ast.walk(self._document.module)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
        }

    def readers(self, key: str) -> list[str]:
        """The settings whose values come from the variable that `key` is (or is taken from)."""
        path = self._path(key)
        name = path[0] if len(path) == 1 else self.variable(key)
        if name is None:
            return []
        touched, found = {name}, []
        for one, uses in self._uses:
            if uses & touched:
                found.append(one)
                touched.add(one)  # nothing reads a name with a dot in it
        return [one for one in found if one != key]

    @cached_property
    def _places(self) -> dict[str, ast.expr]:
        return {".".join(path): node for path, node in self._document.walk()}

    @cached_property
    def _uses(self) -> list[tuple[str, set[str]]]:
        """The names that each value is written with; a block's members speak for it."""
        found = [
            (name, {one.id for one in ast.walk(node) if isinstance(one, ast.Name)})
            for name, node in self._places.items()
            if not self._document.children(node)
        ]
        return [(name, names) for name, names in found if names]

    def _at(self, name: str) -> ast.expr | None:
        try:
            return self._document.find(tuple(name.split(".")))
        except NoSuchKey:
            return None

    # Comparing

    def changes(self, other: ConfigReader) -> list[Change]:
        """What differs from `other` (the older one), value by value."""
        mine, theirs = self.leaves(), other.leaves()
        found = []
        for name in dict.fromkeys((*theirs, *mine)):
            before, after = theirs.get(name), mine.get(name)
            if (before and before[0]) != (after and after[0]):
                line = after[1] if after else 0
                found.append(
                    Change(name, before[0] if before else None, after[0] if after else None, line)
                )
        return found

    def diff(self, other: ConfigReader, name: str = "", other_name: str = "") -> list[str]:
        """The lines of a unified diff from `other` to this."""
        return [
            line.rstrip("\r\n")
            for line in difflib.unified_diff(
                other.text.splitlines(keepends=True),
                self.text.splitlines(keepends=True),
                other_name,
                name,
            )
        ]

    # Inside

    def _path(self, key: str) -> tuple[str, ...]:
        """`key` as a path from the top level; the end of one path is completed."""
        path = tuple(part for part in key.split(".") if part)
        if not path:
            raise Problem(_("A key is missing"), todo=_("Give a name such as lr or model.lora.r."))
        if self._document.definition(path[0]) is not None or path[0] in ADDABLE:
            return path
        ends = [full for full, _node in self._document.walk() if full[-len(path) :] == path]
        if not ends and len(path) > 1:
            owners = [
                full for full, _node in self._document.walk() if full[1 - len(path) :] == path[:-1]
            ]
            if len(owners) == 1 and len(owners[0]) > 1:
                return (*owners[0], path[-1])
        if len(ends) > 1:
            raise Problem(
                _("{key} stands for several settings").format(key=key),
                ", ".join(".".join(one) for one in ends[:5]),
                _("Give the whole name of one."),
            )
        return ends[0] if ends else path

    def _node(self, key: str) -> ast.expr:
        try:
            return self._document.find(self._path(key))
        except NoSuchKey:
            raise self._unknown(key) from None

    def _unknown(self, key: str) -> Problem:
        names = {".".join(path) for path, _node in self._document.walk()} | ADDABLE
        near = difflib.get_close_matches(key, sorted(names), n=1)
        return Problem(
            _("This config has no setting {key}").format(key=key),
            _("Did you mean {name}?").format(name=near[0]) if near else "",
            _("`tunedeck config show FILE` lists them."),
        )

    def _value(self, node: ast.expr) -> Any:
        try:
            return value_of(node, self._named, self._document.code)
        except (Unknown, RecursionError):
            return Code(self._document.code(node))

    def _named(self, name: ast.Name) -> Any:
        return self._variable(name.id, name)

    def _variable(self, name: str, at: ast.expr | None = None) -> Any:
        """The value of a variable at the place `at`, or at the end of the file."""
        history = self._document.history(name, at)
        if not history or history[0].operator != "=" or name in self._document.unsure:
            raise Unknown(name)
        last = id(history[-1])
        if last not in self._known:  # else names doubled over and over would take for ever
            self._known[last] = self._worked_out(history)
        return self._known[last]

    def _worked_out(self, history: list[Assignment]) -> Any:
        value = value_of(history[0].value, self._named, self._document.code)
        for later in history[1:]:
            right = value_of(later.value, self._named, self._document.code)
            value = augmented(later.operator, value, right)
        return value

    def _is_variable(self, node: ast.expr) -> bool:
        return isinstance(node, ast.Name) and self._document.definition(node.id) is not None

    def leaves(self) -> dict[str, tuple[str, int]]:
        """The code and the line of every value that has no members, by its whole name."""
        leaves = {}
        for path, node in self._document.walk():
            if not self._document.children(node):
                leaves[".".join(path)] = (self._document.code(node), self._document.line(node))
        return leaves
