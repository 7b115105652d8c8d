"""A config file and edits to it that change the value meant, and no other character."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine import files
from engine.config.known.field_table import ADDABLE
from engine.config.text import splice, textfile
from engine.config.text.document import Document, NoSuchKey
from engine.config.text.reader import Change, ConfigReader
from engine.config.text.values import is_name, parse, render
from engine.errors import Problem
from engine.i18n import _

__all__ = ["Change", "ConfigSource"]


class ConfigSource(ConfigReader):
    """A config that can be edited; see `ConfigReader` for what a key is."""

    def __init__(self, text: str, path: Path | None = None) -> None:
        super().__init__(text, str(path or ""))
        self.path = path
        self._saved = text

    @classmethod
    def open(cls, path: Path) -> ConfigSource:
        """Read a config file. Raises `Problem` when it is missing, no text or not Python."""
        return cls(textfile.read(path), path)

    def save(self, path: Path | None = None, force: bool = False) -> Path:
        """Write the text to `path`, by default where it was read.

        An edit that someone else made to that file meanwhile is not lost:
        `Problem`, unless `force`. Another existing file needs `force` too.
        """
        own = path is None or (self.path is not None and path.resolve() == self.path.resolve())
        target = self.path if path is None else path
        assert target is not None, "a config from text needs a path"
        with files.alone(target.resolve().parent):  # or two could look at once, then write
            if own and not force and target.exists() and textfile.now(target) != self._saved:
                raise Problem(
                    _("{path} was changed by someone else").format(path=target),
                    _("It is not as it was when it was read here."),
                    _("Open it again, or save with force to overwrite that edit."),
                )
            self.path = textfile.write(target, self.text, force=own or force)
        self._saved = self.text
        return self.path

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
        member = self._document.owner(path)[path[-1]].value
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
            self._show(Document(data.decode(), str(self.path or "")))
        except Problem as problem:
            raise Problem(
                _("That value would break the config"),
                problem.why,
                _("Give a value in Python's form: text in quotes, True, 2e-4, (0.9, 0.999)."),
            ) from problem

    def _added(self, key: str, missing: NoSuchKey, value: Any) -> bytes:
        path = self._path(key)
        if missing.owner is None:
            if path[0] not in ADDABLE:
                raise self._unknown(key)
            for name in reversed(path[1:]):
                value = {name: value}
            return splice.with_statement(self._document, f"{path[0]} = {render(value)}")
        for name in reversed(missing.rest[1:]):
            value = {name: value}
        added = splice.with_member(self._document, missing.owner, missing.rest[0], render(value))
        if added is None:
            raise self._unknown(key)
        return added
