"""Text found and replaced in one row after the other, byte for byte faithful around it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import msgspec

from engine.dataset.editing.literals import literals, spell, substitute
from engine.dataset.editing.needles import Needles
from engine.dataset.files.decode import BadRow, decode, not_utf8
from engine.errors import Problem
from engine.i18n import _


class Edit(NamedTuple):
    """A text that changes: the field it is in, how it reads before and after."""

    field: str
    before: str
    after: str
    times: int


class Wanted:
    """What to look for, what to put there, and in which fields.

    `text` is what is looked for and `new` what is put there; None for a pattern.
    """

    def __init__(self, old: str, new: str, regex: bool, fields: Sequence[str]) -> None:
        if not old:
            raise Problem(_("Nothing to look for"), todo=_("Say what to replace."))
        self.fields = frozenset(fields)
        self.text: str | None = None if regex else old
        self.new: str | None = None if regex else new
        self.put: Callable[[re.Match[str]], str]
        if regex:
            self.pattern = _compile(old)
            _check_template(self.pattern, new)
            self.put = lambda match: match.expand(new)
        else:
            self.pattern = re.compile(re.escape(old))
            self.put = lambda _match: new

    def field(self, keys: Sequence[str]) -> bool:
        """Whether texts under these names are to be changed."""
        if not self.fields:
            return True
        return ".".join(keys) in self.fields or not self.fields.isdisjoint(keys)

    def replace(self, text: str) -> tuple[str, int]:
        """`text` with what was found in it replaced, and how often that was."""
        return self.pattern.subn(self.put, text)


class RowEditor(Protocol):
    """Edits the rows of one format."""

    def places(self, piece: bytes) -> list[int] | None:
        """Where in `piece`, some rows, something may change; None when anywhere."""

    def edit(self, content: bytes) -> tuple[bytes, list[Edit]]:
        """A row's new bytes and what was changed. Raises `BadRow` for a broken one."""


class JsonEditor:
    """Rows that are JSON values."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._needles = None if wanted.text is None else Needles(wanted.text)

    def places(self, piece: bytes) -> list[int] | None:
        """See `RowEditor`."""
        return None if self._needles is None else self._needles.places(piece)

    def edit(self, content: bytes) -> tuple[bytes, list[Edit]]:
        """See `RowEditor`."""
        check(content)
        text = content.decode("utf-8")
        escape = "\\u" in text and text.isascii()
        pieces: list[str] = []
        edits: list[Edit] = []
        done = 0
        for literal in literals(text):
            if not self._wanted.field(literal.keys):
                continue
            raw = text[literal.start : literal.end]
            change = substitute(raw, self._wanted.pattern, self._wanted.put, escape)
            if change is not None and change.raw != raw:
                pieces += [text[done : literal.start], change.raw]
                done = literal.end
                edits.append(Edit(literal.field, change.before, change.after, change.times))
        if not edits:
            return content, []
        pieces.append(text[done:])
        return "".join(pieces).encode("utf-8"), edits


class QuickEditor:
    """JSON rows in which a plain text is replaced in every field, without parsing them.

    Where a row spells something in a way that needs a closer look, `JsonEditor`
    takes it. Its edits say how often, not where.
    """

    def __init__(self, wanted: Wanted, old: str, new: str) -> None:
        self._careful = JsonEditor(wanted)
        self._old = old.encode()
        self._new = spell(new, False).encode()

    @staticmethod
    def takes(old: str, new: str) -> bool:
        """Whether `old` can stand in texts and names only, spelled in one way but for ``\\u``."""
        plain = not any(character in '"\\/' or character < " " for character in old)
        return plain and old != new and _IN_STRINGS.search(old) is not None

    def places(self, piece: bytes) -> list[int] | None:
        """See `RowEditor`."""
        return self._careful.places(piece)

    def edit(self, content: bytes) -> tuple[bytes, list[Edit]]:
        """See `RowEditor`; the row is right JSON."""
        if b"\\u" in content:
            return self._careful.edit(content)
        pieces: list[bytes] = []
        done, known, name = 0, -1, False
        place = content.find(self._old)
        while place >= 0:
            if b"\\" in content[max(0, place - 2) : place]:
                return self._careful.edit(content)  # its first letter may belong to an escape
            behind = place + len(self._old)
            if place > known:  # another string than the last one
                end = _END.match(content, behind)
                known = end.end() if end is not None else len(content)
                name = _COLON.match(content, known) is not None
            if not name:
                pieces.append(content[done:place])
                done = behind
            place = content.find(self._old, behind)
        if not pieces:
            return content, []
        edited = self._new.join([*pieces, content[done:]])
        return edited, [Edit("", "", "", len(pieces))]


_IN_STRINGS = re.compile("[^-+.0-9 \t\r\n{}\\[\\]:,EINaefilnrstuy]|[^\x00-\x7f]")
"""A character that JSON has in strings only (beside those of null, NaN, Infinity and the like)."""
_END = re.compile(rb'[^"\\]*(?:\\.[^"\\]*)*"', re.S)
"""The rest of a string."""
_COLON = re.compile(rb"[ \t\r\n]*:")
"""What stands behind a string that is an object's name."""


class LineEditor:
    """Rows that are lines of plain text, in the one column that `datasets` makes of them."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted

    def places(self, piece: bytes) -> list[int] | None:
        """See `RowEditor`."""
        if self._wanted.text is None:
            return None
        return [0] if self._wanted.text.encode("utf-8", "surrogatepass") in piece else []

    def edit(self, content: bytes) -> tuple[bytes, list[Edit]]:
        """See `RowEditor`. A byte that is not UTF-8 stays what it is."""
        if not self._wanted.field(("text",)):
            return content, []
        before = content.decode("utf-8", "surrogateescape")
        after, times = self._wanted.replace(before)
        if after == before:
            return content, []
        _one_line(after)
        return after.encode("utf-8", "surrogateescape"), [Edit("text", before, after, times)]


class CellEditor:
    """Rows of CSV or TSV. A cell keeps its quotes; it gets some where it comes to need them."""

    def __init__(self, wanted: Wanted, columns: Sequence[str], separator: str) -> None:
        self._wanted = wanted
        self._columns = columns
        self._separator = separator
        bare = f'[^{re.escape(separator)}"\r\n][^{re.escape(separator)}\r\n]*|'
        self._cell = re.compile(f'"(?P<quoted>(?:[^"]|"")*)"|(?P<bare>{bare})')

    def places(self, piece: bytes) -> list[int] | None:
        """See `RowEditor`."""
        if self._wanted.text is None:
            return None
        text = self._wanted.text
        spelled = {text, text.replace('"', '""')}
        return [0] if any(one.encode("utf-8", "replace") in piece for one in spelled) else []

    def edit(self, content: bytes) -> tuple[bytes, list[Edit]]:
        """See `RowEditor`."""
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise not_utf8(error) from error
        pieces: list[str] = []
        edits: list[Edit] = []
        at = 0
        for number, name in enumerate(self._columns):
            cell = self._cell.match(text, at)
            if cell is None:
                raise BadRow(_("a quoted cell that is not closed"), at)
            quoted = cell["quoted"] is not None
            before = cell["quoted"].replace('""', '"') if quoted else cell["bare"]
            after, times = self._wanted.replace(before) if self._wanted.field((name,)) else ("", 0)
            changed = bool(times) and after != before
            pieces.append(self._spelled(after, quoted) if changed else cell[0])
            if changed:
                edits.append(Edit(name, before, after, times))
            at = cell.end()
            more = text.startswith(self._separator, at)
            if more != (number + 1 < len(self._columns)) or (not more and at < len(text)):
                raise BadRow(_("it has not as many cells as the header"), at)
            if more:
                pieces.append(self._separator)
                at += len(self._separator)
        return ("".join(pieces).encode("utf-8"), edits) if edits else (content, [])

    def _spelled(self, cell: str, quoted: bool) -> str:
        needs = any(mark in cell for mark in (self._separator, '"', "\n", "\r"))
        if quoted or needs or cell != cell.strip(" \t"):
            return '"' + cell.replace('"', '""') + '"'
        return cell


def _one_line(text: str) -> None:
    if "\n" in text or "\r" in text:
        raise Problem(
            _("The new text has a line break"),
            _("In a plain text file each line is a row: it would make two rows of one."),
            _("Leave the line break out."),
        )


def check(content: bytes) -> None:
    """Raise `BadRow` unless `content` is right JSON in UTF-8."""
    try:
        content.decode("utf-8")
        msgspec.json.decode(content, type=msgspec.Raw)
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError):
        decode(content)  # says where; and takes what Python's json takes (NaN, lone surrogates)


def _compile(pattern: str) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise Problem(
            _("{pattern} is not a regular expression").format(pattern=pattern),
            str(error),
            _("Correct it, or look for the text as it is."),
            ways=("regex",),
        ) from error
    if compiled.search("") is not None:
        raise Problem(
            _("{pattern} also matches nothing at all").format(pattern=pattern),
            _("The new text would be put between all characters."),
            _("Use a pattern that needs at least one character."),
        )
    return compiled


def _check_template(pattern: re.Pattern[str], new: str) -> None:
    """Raise `Problem` when `new` names a group that `pattern` does not have."""
    try:
        re.compile(f"(?:{pattern.pattern})|", pattern.flags).sub(new, "")
    except (re.error, IndexError) as error:
        raise Problem(
            _("{text} cannot be put in").format(text=new),
            str(error),
            _("\\1 is the first group of the pattern; write \\\\ for a backslash."),
        ) from error
