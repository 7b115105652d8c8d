"""Rows with one question and one answer in columns: Alpaca, and what a mapping makes such."""

from __future__ import annotations

from typing import Any

from engine.dataset.mapping import Mapping
from engine.dataset.shapes.base import (
    WARNING,
    Found,
    Shape,
    Turn,
    as_text,
    half_character,
    kind,
    missing,
    nothing_to_train_on,
    text_problem,
)
from engine.i18n import _

NO_OUTPUT = "<nooutput>"
"""What XTuner's alpaca_map_fn takes for a row to leave out."""


def column_turns(row: dict[str, Any], mapping: Mapping) -> list[Turn]:
    """The turn in `row`, as far as it can be read."""
    question = [_written(row.get(name)) for name in (mapping.question, *mapping.extra)]
    system = _written(row.get(mapping.system)) or mapping.system_text
    return [Turn("\n".join(filter(None, question)), _written(row.get(mapping.answer)), system)]


def column_problems(row: dict[str, Any], mapping: Mapping) -> list[Found]:
    """What a map module of ours cannot take in `row`, or leaves out."""
    found = [missing(row, name, name) for name in mapping.columns if name not in row]
    for name in filter(None, (mapping.question, *mapping.extra, mapping.answer, mapping.system)):
        value = row.get(name)
        if isinstance(value, list | dict):
            reason = _("'{key}' is {kind}, not a text").format(key=name, kind=kind(value))
            found.append(Found(name, reason, _("Write a text there, or remove the row.")))
        elif isinstance(value, str) and (half := half_character(value, name, name)):
            found.append(half)
    if not found and not _written(row[mapping.answer]):
        found.append(nothing_to_train_on(mapping.answer))
    return found


def _written(value: Any) -> str:
    return str(value) if isinstance(value, str | int | float) else ""


def _alpaca_problems(row: dict[str, Any]) -> list[Found]:
    """What XTuner's own alpaca_map_fn cannot take, or leaves out."""
    named = ((key, text_problem(row, key, key)) for key in ("instruction", "output"))
    found = [problem for _key, problem in named if problem is not None]
    if row.get("input") is None:
        reason = _("'input' is missing: XTuner's alpaca_map_fn fails, or asks about \"None\"")
        remedy = _('Add "input": "" to the row, or choose the shape {shape}.')
        found.append(Found("input", reason, remedy.format(shape=ALPACA_OWN.name)))
    elif problem := text_problem(row, "input", "input"):
        found.append(problem)
    if row.get("output") == NO_OUTPUT:
        found.append(nothing_to_train_on("output"))
    if as_text(row.get("system")):
        reason = _("XTuner's alpaca_map_fn leaves 'system' out")
        remedy = _("Choose the shape {shape}, which keeps it.").format(shape=ALPACA_OWN.name)
        found.append(Found("system", reason, remedy, WARNING))
    return found


_MAPPING = Mapping(question="instruction", extra=("input",), answer="output", system="system")
_COLUMNS = ("instruction", "output")

ALPACA = Shape(
    "alpaca",
    "Alpaca",
    _COLUMNS,
    lambda row: column_turns(row, _MAPPING),
    _alpaca_problems,
    recognise=lambda row: row.get("input") is not None and not row.get("system"),
    map_fn="alpaca_map_fn",
)
ALPACA_OWN = Shape(
    "alpaca_own",
    "Alpaca, input optional",
    _COLUMNS,
    lambda row: column_turns(row, _MAPPING),
    lambda row: column_problems(row, _MAPPING),
    mapping=_MAPPING,
    covers=("alpaca",),
)
