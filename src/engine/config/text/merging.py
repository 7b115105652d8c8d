"""Two edits of one text made into one, where they do not touch.

The form, `$EDITOR` and someone else's window may all change a config. What one
did to the text the other began with is told word by word, so that edits on one
line, or on lines next to each other, do not stand in each other's way.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import NamedTuple

from engine.config.text.reader import ConfigReader
from engine.errors import Problem
from engine.i18n import _

_WORD = re.compile(r"\d[\d.]*[eE][+-]?\d+|\w+(?:\.\w+)*|\s+|.", re.S)
"""A number, a dotted name, space, or any other character."""


class Hunk(NamedTuple):
    """What an edit put in place of ``base[start:end]``."""

    start: int
    end: int
    text: str


class Touching(Exception):
    """The edits change the same place: `line` of the base, from 1; what each made of it."""

    def __init__(self, line: int, ours: str, theirs: str) -> None:
        super().__init__(line)
        self.line, self.ours, self.theirs = line, ours, theirs


def merge_configs(base: str, ours: str, theirs: str, name: str) -> str:
    """`merge` of a config called `name`, each value of which is then the one that was meant.

    Raises `Problem` where both edits change one place, and where the result
    would not be a config that says what both say.
    """
    try:
        ConfigReader(theirs, name)
    except Problem as broken:
        raise Problem(
            _("{name} was changed elsewhere, and is not valid Python now").format(name=name),
            broken.why,
            _("Nothing was written. Correct it there, then do this again."),
        ) from broken
    try:
        merged = merge(base, ours, theirs)
    except Touching as touching:
        raise Problem(
            _("{name} was changed elsewhere too, on line {line}").format(
                name=name, line=touching.line
            ),
            _("There: {theirs}   Here: {ours}").format(
                theirs=touching.theirs or "–", ours=touching.ours or "–"
            ),
            _("Nothing was written. As soon as it is shown as it is now, do it again."),
        ) from touching
    before, mine, other, result = (
        {key: code for key, (code, _line) in ConfigReader(text, name).leaves().items()}
        for text in (base, ours, theirs, merged)
    )
    for key in {*mine, *other, *result}:
        meant = mine if mine.get(key) != before.get(key) else other
        if result.get(key) != meant.get(key):
            raise Problem(
                _("{name} was changed elsewhere too").format(name=name),
                _("Both edits together would make {key} another than either meant.").format(
                    key=key
                ),
                _("Nothing was written. As soon as it is shown as it is now, do it again."),
            )
    return merged


def merge(base: str, ours: str, theirs: str) -> str:
    """`base` with both edits. Raises `Touching` where they change one place differently."""
    mine, other = list(hunks(base, ours)), list(hunks(base, theirs))
    for one in mine:
        for two in other:
            if one != two and one.start <= two.end and two.start <= one.end:
                line = base.count("\n", 0, min(one.start, two.start)) + 1
                raise Touching(line, _around(base, one), _around(base, two))
    result, at = [], 0
    for hunk in sorted({*mine, *other}):
        result += [base[at : hunk.start], hunk.text]
        at = hunk.end
    return "".join(result) + base[at:]


def _around(base: str, hunk: Hunk) -> str:
    """The line (or lines) of `base` that `hunk` changes, as it makes them."""
    start = base.rfind("\n", 0, hunk.start) + 1
    end = base.find("\n", hunk.end)
    return (
        base[start : hunk.start] + hunk.text + base[hunk.end : end if end >= 0 else None]
    ).strip()


def hunks(base: str, changed: str) -> Iterator[Hunk]:
    """The places in `base` where `changed` is another, in order, as small as words allow."""
    before, after = base.splitlines(keepends=True), changed.splitlines(keepends=True)
    offsets = _offsets(before)
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    for kind, first, last, other_first, other_last in matcher.get_opcodes():
        if kind == "equal":
            continue
        if last - first == other_last - other_first:  # line for line
            for number in range(last - first):
                yield from _in_line(
                    offsets[first + number], before[first + number], after[other_first + number]
                )
        else:
            yield Hunk(offsets[first], offsets[last], "".join(after[other_first:other_last]))


def _in_line(at: int, before: str, after: str) -> Iterator[Hunk]:
    """The changed words of a line that begins at `at`."""
    old, new = _WORD.findall(before), _WORD.findall(after)
    offsets = _offsets(old)
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    for kind, first, last, other_first, other_last in matcher.get_opcodes():
        if kind != "equal":
            text = "".join(new[other_first:other_last])
            yield Hunk(at + offsets[first], at + offsets[last], text)


def _offsets(parts: list[str]) -> list[int]:
    found = [0]
    for part in parts:
        found.append(found[-1] + len(part))
    return found
