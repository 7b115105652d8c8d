"""Whether XTuner's template and the tokenizer's own agree. Inside the worker.

A model trained with one and asked with the other looks broken: engines that
serve it later (vLLM, LMDeploy, ollama) know only the tokenizer's.
"""

from __future__ import annotations

from typing import Any

from engine.chat.prompt import Prompter
from engine.errors import Problem

SAMPLE = (
    {"role": "system", "content": "You are kind."},
    {"role": "user", "content": "Who are you?"},
    {"role": "assistant", "content": "A model."},
    {"role": "user", "content": "你好！"},
)


def compare(prompter: Prompter) -> dict[str, Any] | None:
    """The fields of `engine.chat.answer.Parity`; None where there are no two templates."""
    tokenizer = prompter.tokenizer
    if prompter.template is None or not tokenizer.chat_template:
        return None
    trained = prompter.ids(SAMPLE)
    try:
        own = Prompter(tokenizer, None).ids(SAMPLE)
    except Problem as problem:
        why = problem.why
        return {"agree": False, "trained": _text(tokenizer, trained), "tokenizer": "", "why": why}
    return {
        "agree": trained == own,
        "trained": _text(tokenizer, trained),
        "tokenizer": _text(tokenizer, own),
    }


def _text(tokenizer: Any, ids: list[int]) -> str:
    text: str = tokenizer.decode(ids, skip_special_tokens=False)
    return text
