"""A config file and edits to it that change the value meant, and no other character."""

from __future__ import annotations

import ast
import difflib
import hashlib
import os
import stat
from pathlib import Path
from typing import Any

import msgspec

from engine import files
from engine.config import splice
from engine.config.document import Assignment, Document, NoSuchKey, sections
from engine.config.field_table import ADDABLE, BY_NAME
from engine.config.values import Code, Unknown, augmented, is_name, parse, render, value_of
from engine.errors import Problem
from engine.i18n import _

BOM = "\ufeff"


class Field(msgspec.Struct, frozen=True):
    """A setting of a config, as a form shows it."""

    name: str
    """The key for `ConfigSource.get` and `set`: ``lr``, ``model.lora.r``."""
    value: Any
    """What it evaluates to; for an expression that cannot be told, its code."""
    line: int
    section: str
    help: str
    code: str
    """As it is written."""
    literal: bool
    """Whether `value` was evaluated (False: `value` is the code)."""


class Change(msgspec.Struct, frozen=True):
    """A value that differs between two versions of a config; None: not there."""

    name: str
    before: str | None
    after: str | None
    line: int


class ConfigSource:
    """The text of a config, its values by key, and lossless edits.

    A key is dotted into ``dict(…)`` calls, dicts and (by number) lists:
    ``optim_wrapper.optimizer.lr``. A value that is only a variable's name is
    followed to that variable: XTuner keeps its settings in PART 1. A key may be
    the unambiguous end of one (``lora.r`` for ``model.lora.r``).
    """

    def __init__(self, text: str, path: Path | None = None) -> None:
        self.path = path
        self._bom = text.startswith(BOM)
        self._document = Document(text.removeprefix(BOM), str(path or ""))
        self._known: dict[int, Any] = {}
        self._saved = _digest(text) if path is not None else ""

    @classmethod
    def open(cls, path: Path) -> ConfigSource:
        """Read a config file. Raises `Problem` when it is missing, no text or not Python."""
        try:
            text = path.read_bytes().decode()
        except UnicodeDecodeError as error:
            raise Problem(
                _("{path} is not UTF-8 text").format(path=path),
                _("Byte {byte} cannot be read.").format(byte=error.start),
                _("Save it as UTF-8: mmengine reads configs only so."),
            ) from error
        except OSError as error:
            raise Problem(
                _("Cannot read the config {path}").format(path=path),
                _("It is a folder.") if path.is_dir() else (error.strerror or str(error)),
                _("Give the path of a Python config, or copy one: tunedeck config copy NAME"),
            ) from error
        return cls(text, path)

    @property
    def text(self) -> str:
        """The whole file as it would be saved."""
        return (BOM if self._bom else "") + self._document.data.decode()

    def save(self, path: Path | None = None, force: bool = False) -> Path:
        """Write the text to `path`, by default where it was read.

        An edit that someone else made to that file meanwhile is not lost:
        `Problem`, unless `force`. Another existing file needs `force` too.
        """
        own = path is None or (self.path is not None and path.resolve() == self.path.resolve())
        target = self.path if path is None else path
        assert target is not None, "a config from text needs a path"
        target = target.resolve()
        mode = 0o600
        if target.exists():
            mode = stat.S_IMODE(target.stat().st_mode)
            if own and not force and _digest(target.read_bytes().decode()) != self._saved:
                raise Problem(
                    _("{path} was changed by someone else").format(path=target),
                    _("It is not as it was when it was read here."),
                    _("Open it again, or save with force to overwrite that edit."),
                )
            if not os.access(target, os.W_OK):
                raise Problem(
                    _("{path} is read-only").format(path=target),
                    todo=_("Make it writable, or save under another name."),
                )
        with files.replacing(target, force=own or force, mode=mode) as file:
            file.write(self.text.encode())
        self.path = target
        self._saved = _digest(self.text)
        return target

    # Reading

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
        if len(path) > 1:
            return self._value(node)
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
        member = self._document.children(self._document.find(path[:-1])).get(path[-1])
        if member is None or not self._is_variable(member.value):
            return None
        return member.value.id if isinstance(member.value, ast.Name) else None

    def knows(self, name: str) -> bool:
        """Whether `name` is a variable or an import of this file."""
        return name in self._document.imported or self._document.definition(name) is not None

    def fields(self) -> list[Field]:
        """PART 1, and the settings deeper in the file that the form knows, in file order."""
        headings = sections(self._document.data.decode())
        parts = any(part for _line, part, _title in headings)
        found = []
        for path, node in self._document.walk():
            name = ".".join(path)
            line = self._document.line(node)
            above = [one for one in headings if one[0] < line]
            part, title = above[-1][1:] if above else (0, "")
            known = BY_NAME.get(name)
            shown = part == 1 or not parts if len(path) == 1 else False
            # A bare name repeats a variable that is listed itself.
            if not (shown or known) or (len(path) > 1 and self._is_variable(node)):
                continue
            value = self.get(name) if len(path) == 1 else self._value(node)
            found.append(
                Field(
                    name=name,
                    value=value,
                    line=line,
                    section=_(known.section) if known else title,
                    help=_(known.help) if known else "",
                    code=self._document.code(node),
                    literal=not isinstance(value, Code),
                )
            )
        return sorted(found, key=lambda one: one.line)

    def changes(self, other: ConfigSource) -> list[Change]:
        """What differs from `other` (the older one), value by value."""
        mine, theirs = self._leaves(), other._leaves()
        found = []
        for name in dict.fromkeys((*theirs, *mine)):
            before, after = theirs.get(name), mine.get(name)
            if (before and before[0]) != (after and after[0]):
                line = after[1] if after else 0
                found.append(
                    Change(name, before[0] if before else None, after[0] if after else None, line)
                )
        return found

    def diff(self, other: ConfigSource, name: str = "", other_name: str = "") -> list[str]:
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

    # Editing

    def set(self, key: str, value: Any) -> None:
        """Give `key` the value `value`: a Python value, or `Code` written as it is.

        A key that is not there yet is added where its owner is a ``dict``, or at
        the end of the file when it is one that the trainer reads
        (``work_dir``, ``resume``, …). Raises `Problem` for any other key.
        """
        try:
            node = self._document.find(self._path(key))
        except NoSuchKey as missing:
            self._replace(self._added(key, missing, value))
            return
        start, end = self._document.span(node)
        old = self._document.code(node)
        new = render(value, old).encode()
        self._replace(self._document.data[:start] + new + self._document.data[end:])

    def set_own(self, key: str, value: Any) -> None:
        """`set`, but a variable's name standing at `key` is itself replaced, not followed."""
        path = self._path(key)
        member = self._document.children(self._document.find(path[:-1]))[path[-1]].value
        start, end = self._document.span(member)
        new = render(value, self._document.code(member)).encode()
        self._replace(self._document.data[:start] + new + self._document.data[end:])

    def assign(self, key: str, text: str) -> None:
        """`set` with a value as a person types it (see `values.parse`)."""
        current = self.get(key) if self.has(key) else None
        self.set(key, parse(text, current, self.knows))

    def unset(self, key: str) -> None:
        """Take `key` out of the ``dict`` it stands in, or its statement out of the file."""
        path = self._path(key)
        self._node(key)
        if len(path) == 1:
            found = self._document.definition(path[0])
            assert found is not None
            self._replace(splice.without_statement(self._document, found.statement))
            return
        owner = self._document.find(path[:-1])
        self._replace(splice.without_member(self._document, owner, path[-1]))

    def rename(self, key: str, name: str) -> None:
        """Give the last part of `key` another name (to put a misspelt one right)."""
        path = self._path(key)
        if not is_name(name):
            raise Problem(_("{name} is not a name").format(name=name))
        if len(path) == 1:
            self._replace(splice.renamed_variable(self._document, path[0], name))
            return
        owner = self._document.find(path[:-1])
        self._replace(splice.renamed_member(self._document, owner, path[-1], name))

    def ensure_import(self, module: str, name: str) -> None:
        """Add ``from module import name`` after the other imports, unless `name` is there."""
        if not self.knows(name):
            self._replace(splice.with_import(self._document, f"from {module} import {name}"))

    def note(self, comment: str) -> None:
        """Put a comment line at the top of the file."""
        self._replace(
            f"# {comment}".encode() + splice.newline(self._document) + self._document.data
        )

    # Inside

    def _replace(self, data: bytes) -> None:
        try:
            self._document, self._known = Document(data.decode(), str(self.path or "")), {}
        except Problem as problem:
            raise Problem(
                _("That value would break the config"),
                problem.why,
                _("Give a value in Python's form: text in quotes, True, 2e-4, (0.9, 0.999)."),
            ) from problem

    def _added(self, key: str, missing: NoSuchKey, value: Any) -> bytes:
        path = self._path(key)
        if missing.owner is None:
            if path[0] not in ADDABLE or len(path) > 1:
                raise self._unknown(key)
            return splice.with_statement(self._document, f"{path[0]} = {render(value)}")
        for name in reversed(missing.rest[1:]):
            value = {name: value}
        added = splice.with_member(self._document, missing.owner, missing.rest[0], render(value))
        if added is None:
            raise self._unknown(key)
        return added

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

    def _leaves(self) -> dict[str, tuple[str, int]]:
        leaves = {}
        for path, node in self._document.walk():
            if not self._document.children(node):
                leaves[".".join(path)] = (self._document.code(node), self._document.line(node))
        return leaves


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
