"""The table of a prompt set as a file: JSON, CSV or Markdown, by the file's suffix."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from engine import files
from engine.chat.set_table import Cell, Table, result
from engine.errors import Problem
from engine.i18n import _
from engine.text import clean, one_line

SUFFIXES = (".json", ".csv", ".md")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def check(path: Path) -> None:
    """Raise `Problem` for a name that says no format that can be written."""
    if path.suffix.lower() not in SUFFIXES:
        raise Problem(
            _("Cannot write {path}").format(path=path),
            _("The answers are written as {suffixes}.").format(suffixes=", ".join(SUFFIXES)),
            _("Give the file one of these suffixes."),
        )


def write(path: Path, table: Table, force: bool = False) -> None:
    """Write `table`; raises `Problem` when `path` is there already, but for `force`."""
    check(path)
    files.refuse_existing(path, force)
    suffix = path.suffix.lower()
    if suffix == ".json":
        files.write_json(path, result(table))
        return
    text = markdown(table) if suffix == ".md" else _csv(table)
    with files.replacing(path) as file:
        file.write(text.encode("utf-8", "replace"))


def markdown(table: Table) -> str:
    """The table to read: the score, then each question with the answers to it."""
    return "\n".join(_markdown(table)) + "\n"


def mark(cell: Cell) -> str:
    """✓ right, ✗ wrong, ≠ unlike the first model's answer; "" where there is nothing to say."""
    told = "" if cell.right is None else "✓" if cell.right else "✗"
    return told + ("≠" if cell.differs else "")


def score(table: Table, slot: str) -> str:
    """A model's score: "3/4", or "" where nothing says what is right."""
    counted = table.score(slot)
    return f"{counted.right}/{counted.of}" if counted.of else ""


def _markdown(table: Table) -> Iterator[str]:
    yield f"# {one_line(table.name)}\n"
    yield "| | " + " | ".join(_escaped(name) for name in table.models.values()) + " |"
    yield "| --- |" + " --- |" * len(table.models)
    yield f"| {_('right')} | " + " | ".join(score(table, slot) for slot in table.models) + " |"
    for number, item in enumerate(table.items):
        cells = [table.cell(number, slot) for slot in table.models]
        yield f"| {_escaped(item.question)} | " + " | ".join(map(_cell, cells)) + " |"


def _cell(cell: Cell | None) -> str:
    if cell is None:
        return ""
    return f"{mark(cell)} {_escaped(cell.error or cell.answer)}".strip()


def _escaped(text: str) -> str:
    """`text` inside a cell of a Markdown table: nothing in it is markup."""
    line = "<br>".join(clean(text).strip().replace("<", "&lt;").split("\n"))
    for sign in "\\`*_[]|":
        line = line.replace(sign, f"\\{sign}")
    return line


def _csv(table: Table) -> str:
    """One line for each question and model; what a spreadsheet would compute is kept text."""
    out = io.StringIO()
    writer = csv.writer(out)
    names = (
        "id question expected pattern model answer right differs tokens tokens_per_s ended error"
    )
    writer.writerow(names.split())
    for number, item in enumerate(table.items):
        for cell in table.row(number):
            right = "" if cell.right is None else str(cell.right).lower()
            row = [item.id, item.question, item.expected, item.pattern, table.models[cell.slot]]
            row += [cell.answer, right, str(cell.differs).lower(), str(cell.tokens)]
            row += [f"{cell.tokens_per_s:.1f}", cell.ended, cell.error]
            writer.writerow([_text(one) for one in row])
    return out.getvalue()


def _text(value: str) -> str:
    return f"'{value}" if value.startswith(_FORMULA) else value
