"""Replace text in a dataset, into a new file that is otherwise the same to the byte."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

import msgspec

from engine import files
from engine.dataset.decode import BadRow, decode
from engine.dataset.literals import Change, Literal, literals, substitute
from engine.dataset.offsets import Progress
from engine.dataset.reader import Dataset
from engine.errors import Problem
from engine.i18n import _
from engine.text import whole

_ESCAPED = frozenset('"\\/') | {chr(code) for code in range(0x20)}


class Place(msgspec.Struct, frozen=True):
    """A text that changes: where it is, and how it reads before and after."""

    row: int
    line: int
    field: str
    before: str
    after: str
    count: int


def excerpt(place: Place, width: int = 60) -> tuple[str, str]:
    """`before` and `after` around the first place where they differ, about `width` characters."""
    before, after = place.before, place.after
    same = next(
        (at for at, (old, new) in enumerate(zip(before, after, strict=False)) if old != new),
        min(len(before), len(after)),
    )
    start = max(0, same - width // 3)

    def around(text: str) -> str:
        head, tail = "…" if start else "", "…" if len(text) > start + width else ""
        return head + text[start : start + width] + tail

    return around(before), around(after)


class Replaced(msgspec.Struct, frozen=True):
    """What was replaced. `places` are listed by a dry run only.

    `broken` are rows of a JSON Lines file that are no JSON: they are copied as
    they are.
    """

    rows: int
    rows_changed: int
    replacements: int
    out: str | None
    places: list[Place]
    broken: list[int]


def replace(
    path: Path | str,
    old: str,
    new: str,
    *,
    regex: bool = False,
    fields: Sequence[str] = (),
    out: Path | str | None = None,
    dry_run: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> Replaced:
    """Write `path` to `out` with `new` for `old` in its string values.

    Args:
        old: text, or with `regex` a pattern of Python's ``re``.
        new: text, or with `regex` a template (``\\1`` is the first group).
        fields: only strings under these names (``output``, or from the top
            ``conversation.output``); empty for all strings.
        out: the new file; may be left out with `dry_run`, which writes nothing.

    Names of columns are never changed, numbers neither. Raises `Problem` for input
    that cannot be read, and for an `out` that exists (without `force`) or is `path`.
    """
    editor = _Editor(old, new, regex, fields)
    target = None if out is None else Path(out)
    if target is None and not dry_run:
        raise Problem(_("No file to write to"), todo=_("Name it with -o, or add --dry-run."))
    with Dataset.open(path) as dataset:
        if target is not None:
            _refuse(dataset.path, target, force or dry_run)
        with contextlib.ExitStack() as stack:
            sink: IO[bytes] | None = None
            if target is not None and not dry_run:
                sink = stack.enter_context(files.replacing(target, force=force))
            return _run(dataset, editor, sink, target, dry_run, progress)


def _refuse(source: Path, target: Path, force: bool) -> None:
    if target.exists():
        if target.samefile(source):
            raise Problem(
                _("{path} is the file that is read").format(path=target),
                _("The original is never changed."),
                _("Name another file with -o."),
            )
        if not target.is_file():
            raise Problem(
                _("Cannot write {path}").format(path=target),
                _("It is a folder.") if target.is_dir() else _("It is not a regular file."),
                _("Name a file with -o."),
            )
    files.refuse_existing(target, force)


def _run(
    dataset: Dataset,
    editor: _Editor,
    sink: IO[bytes] | None,
    target: Path | None,
    dry_run: bool,
    progress: Progress | None,
) -> Replaced:
    changed = replacements = done = 0
    places: list[Place] = []
    broken: list[int] = []
    if sink is not None:
        sink.write(dataset.head())
    for index, span in dataset.spans():
        content = dataset.content(span)
        try:
            text, changes = editor.edit(content)
        except BadRow:
            if dataset.format == "json":
                raise dataset.unreadable(dataset.page(index, 1)[0].problem or "") from None
            broken.append(index)
            text, changes = content, []
        if changes:
            changed += 1
            replacements += sum(change.times for _literal, change in changes)
        if dry_run:
            places += [
                Place(
                    index,
                    dataset.line(index) or 0,
                    whole(where.field),
                    whole(it.before),
                    whole(it.after),
                    it.times,
                )
                for where, it in changes
            ]
        if sink is not None:
            sink.write(text + span[len(content) :] if changes else span)
        done += len(span)
        if progress is not None and index % 1000 == 0:
            progress(done, dataset.size)
    rows = dataset.index()
    for _row, reason in dataset.faults():
        raise dataset.unreadable(reason)
    if sink is not None:
        sink.write(dataset.tail())
    if progress is not None:
        progress(dataset.size, dataset.size)
    name = None if target is None else str(target)
    return Replaced(rows, changed, replacements, name, places, broken)


class _Editor:
    """Finds and replaces in the bytes of one row after the other."""

    def __init__(self, old: str, new: str, regex: bool, fields: Sequence[str]) -> None:
        if not old:
            raise Problem(_("Nothing to look for"), todo=_("Say with --from what to replace."))
        self._fields = frozenset(fields)
        self._new: Callable[[re.Match[str]], str]
        if regex:
            self._pattern = _compile(old)
            _check_template(self._pattern, new)
            self._new = lambda match: match.expand(new)
            self._bytes = b""
        else:
            self._pattern = re.compile(re.escape(old))
            self._new = lambda _match: new
            self._bytes = old.encode("utf-8", "surrogatepass")
        self._may_be_escaped = bool(_ESCAPED.intersection(old))

    def edit(self, content: bytes) -> tuple[bytes, list[tuple[Literal, Change]]]:
        """The row's new bytes and what was changed. Raises `BadRow` for broken JSON."""
        check(content)
        if not self._may_hold(content):
            return content, []
        text = content.decode("utf-8")
        escape = "\\u" in text and text.isascii()
        pieces: list[str] = []
        changes: list[tuple[Literal, Change]] = []
        done = 0
        for literal in literals(text):
            if not self._wanted(literal):
                continue
            raw = text[literal.start : literal.end]
            change = substitute(raw, self._pattern, self._new, escape)
            if change is not None and change.raw != raw:
                pieces += [text[done : literal.start], change.raw]
                done = literal.end
                changes.append((literal, change))
        if not changes:
            return content, []
        pieces.append(text[done:])
        return "".join(pieces).encode("utf-8"), changes

    def _may_hold(self, content: bytes) -> bool:
        """Whether the text looked for may be in this row, spelled in any way."""
        if self._bytes in content:  # always so for a pattern
            return True
        return b"\\u" in content or (self._may_be_escaped and b"\\" in content)

    def _wanted(self, literal: Literal) -> bool:
        if not self._fields:
            return True
        keys = literal.keys
        return ".".join(keys) in self._fields or not self._fields.isdisjoint(keys)


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
            _("Correct it, or leave out --regex to look for the text as it is."),
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
            _("\\1 is the first group of --from; write \\\\ for a backslash."),
        ) from error
