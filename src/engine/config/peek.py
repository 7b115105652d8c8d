"""The first rows of a JSON file and which of XTuner's map functions they suit.

A glance for cheap checks; reading whole datasets is the work of the dataset
part.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from engine.errors import Problem
from engine.i18n import _

_HEAD = 1 << 20

MAP_FUNCTIONS = {
    "xtuner": None,
    "alpaca": "alpaca_map_fn",
    "openai": "openai_map_fn",
    "text": "pretrain_map_fn",
}
"""A row's shape → XTuner's dataset map function for it (None: no function needed)."""


class Head(msgspec.Struct, frozen=True):
    """The first rows of a file; `whole` when that is all of them."""

    rows: list[Any]
    whole: bool


def head(path: Path, count: int = 20) -> Head:
    """The first `count` rows of a JSON array or JSON Lines file.

    Raises `Problem` (with line and column) when it cannot be read or is broken
    in its first megabyte.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_HEAD)
            more = bool(file.read(1))
    except OSError as error:
        raise Problem(
            _("Cannot read the data {path}").format(path=path),
            _("It is a folder.") if path.is_dir() else (error.strerror or str(error)),
        ) from error
    try:
        text = data.decode("utf-8-sig", errors="ignore" if more else "strict")
    except UnicodeDecodeError as error:
        raise Problem(
            _("{path} is not UTF-8 text").format(path=path),
            _("Byte {byte} cannot be read.").format(byte=error.start),
        ) from error
    start = len(text) - len(text.lstrip())
    if start == len(text):
        return Head([], True)
    if text[start] == "[":
        return _array(path, text, start + 1, count, more)
    return _lines(path, text, count, more)


def _array(path: Path, text: str, at: int, count: int, more: bool) -> Head:
    decoder = json.JSONDecoder()
    rows: list[Any] = []
    while True:
        at = _skip(text, at)
        if at >= len(text) and more:
            return Head(rows, False)
        if text[at : at + 1] == "]" and not rows:
            return Head([], True)
        if len(rows) >= count:
            return Head(rows, False)
        try:
            row, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            if more and error.pos > len(text) - 64:
                return Head(rows, False)
            raise _broken(path, text, error.pos, error.msg) from error
        rows.append(row)
        at = _skip(text, at)
        following = text[at : at + 1]
        if following == "]":
            return Head(rows, True)
        if following != ",":
            if not following and more:
                return Head(rows, False)
            raise _broken(path, text, at, "Expecting ',' delimiter")
        at += 1


def _lines(path: Path, text: str, count: int, more: bool) -> Head:
    lines = text.split("\n")
    if more:
        lines = lines[:-1]
    rows: list[Any] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if len(rows) >= count:
            return Head(rows, False)
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise _broken(path, text, 0, error.msg, number, error.colno) from error
    return Head(rows, not more)


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at


def _broken(path: Path, text: str, at: int, reason: str, line: int = 0, column: int = 0) -> Problem:
    if not line:
        line = text.count("\n", 0, at) + 1
        column = at - (text.rfind("\n", 0, at) + 1) + 1
    return Problem(
        _("{path} is not valid JSON").format(path=path),
        _("line {line}, column {column}: {reason}").format(line=line, column=column, reason=reason),
        _("Correct that line, then try again."),
    )


def shape(rows: list[Any]) -> str | None:
    """The shape that the rows have, a key of `MAP_FUNCTIONS`; None for any other."""
    for row in rows[:1]:
        if not isinstance(row, dict):
            return None
        if isinstance(row.get("conversation"), list):
            return "xtuner"
        if isinstance(row.get("messages"), list):
            return "openai"
        if "instruction" in row and "output" in row:
            return "alpaca"
        if isinstance(row.get("text"), str):
            return "text"
    return None
