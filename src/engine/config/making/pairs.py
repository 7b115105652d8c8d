"""Rows with a better and a worse answer, for DPO, ORPO and reward models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

PREFERENCE = "xtuner.dataset.preference_dataset"
QUESTIONS = ("prompt", "question", "instruction")

_MODULE = '''\
"""A dataset_map_fn for XTuner's preference training: texts made into messages.

Written by Tunedeck. Keep this file beside the config.
"""

QUESTION = {question!r}
"""The column that holds what a person asks."""
EXTRA = {extra!r}
"""The column whose text follows the question, where there is one; "" for none."""
SYSTEM = {system!r}
"""The column that holds the system text; "" for none."""


def map_fn(example):
    """The row as XTuner's ``prompt``, ``chosen`` and ``rejected``: lists of messages."""
    question = example[QUESTION]
    if EXTRA and example.get(EXTRA):
        question += "\\n" + example[EXTRA]
    prompt = [dict(role="user", content=question)]
    if SYSTEM and example.get(SYSTEM):
        prompt.insert(0, dict(role="system", content=example[SYSTEM]))
    return dict(
        prompt=prompt,
        chosen=[dict(role="assistant", content=example["chosen"])],
        rejected=[dict(role="assistant", content=example["rejected"])],
    )
'''


class NoPairs(Exception):
    """The rows hold no better and worse answers that XTuner could take."""


def is_pair(row: Any) -> bool:
    """Whether the row holds a better and a worse answer."""
    return isinstance(row, dict) and {"chosen", "rejected"} <= row.keys()


def mapping(rows: Sequence[Any]) -> tuple[tuple[str, str] | None, str]:
    """The map function for such rows, and the text of its module ("": it is XTuner's own).

    None where the rows need no function. Raises `NoPairs`.
    """
    row = rows[0] if rows else None
    if not isinstance(row, dict) or not is_pair(row):
        raise NoPairs
    if _messages(row["chosen"]) and _messages(row["rejected"]):
        if _messages(row.get("prompt")):
            return None, ""
        if len(row["chosen"]) > 1 and len(row["chosen"]) == len(row["rejected"]):
            return (PREFERENCE, "orpo_dpo_mix_40k_map_fn"), ""
        raise NoPairs
    question = next((one for one in QUESTIONS if isinstance(row.get(one), str)), None)
    if question is None or not all(isinstance(row[one], str) for one in ("chosen", "rejected")):
        raise NoPairs
    extra = "input" if isinstance(row.get("input"), str) else ""
    system = "system" if isinstance(row.get("system"), str) else ""
    text = _MODULE.format(question=question, extra=extra, system=system)
    return ("", "map_fn"), text


def _messages(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(one, dict) and {"role", "content"} <= one.keys() for one in value)
    )
