"""A dataset_map_fn for XTuner: one question and one answer a row, from columns.

Written by Tunedeck. Keep this file beside the config, which uses it so:

    from THIS_MODULE import map_fn
    ...
    dataset_map_fn=map_fn

Change the constants to change what is trained on; `tunedeck data show FILE
--map THIS_FILE` shows what comes out.
"""

from __future__ import annotations

from typing import Any

QUESTION: str = "question"
"""The column that holds what a person asks; "" for none."""
EXTRA: tuple[str, ...] = ()
"""Columns that belong to the question: those with a text follow it on lines of their own."""
ANSWER: str = "answer"
"""The column that holds what the model is to answer."""
SYSTEM: str = ""
"""The column that holds the system text; "" for none."""
SYSTEM_TEXT: str = ""
"""The system text of every row that has none of its own; "" for none."""


def map_fn(example: dict[str, Any]) -> dict[str, Any]:
    """The row as XTuner's ``conversation``; empty, which XTuner drops, without an answer."""
    answer = text(example[ANSWER], ANSWER)
    if not answer:
        return {"conversation": []}
    question = [text(example[QUESTION], QUESTION)] if QUESTION else []
    question += [more for name in EXTRA if (more := text(example.get(name), name))]
    system = text(example.get(SYSTEM), SYSTEM) or SYSTEM_TEXT
    turn = {"system": system, "input": "\n".join(question), "output": answer}
    return {"conversation": [turn]}


def text(value: Any, column: str) -> str:
    """What a column holds: a number as it is written, nothing for null."""
    if value is None:
        return ""
    if isinstance(value, (str, int, float)):
        return str(value)
    raise TypeError(f"the column {column} holds a {type(value).__name__}, not a text")
