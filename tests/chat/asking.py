"""Questions to a session, and what plain transformers says to the same."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from engine.chat.session import Answer, ChatSession, Sampling, Token

HERE = Path(__file__).parent


def ask(
    session: ChatSession, slot: str, question: str | list[dict[str, str]], **sampling: Any
) -> tuple[list[str], Answer]:
    """The pieces as they came, and the answer."""
    messages = question if isinstance(question, list) else [{"role": "user", "content": question}]
    *tokens, answer = session.generate(slot, messages, Sampling(**sampling))
    assert isinstance(answer, Answer) and all(isinstance(one, Token) for one in tokens)
    return [one.text for one in tokens if isinstance(one, Token)], answer


def chatml(question: str, system: str = "") -> str:
    """A question in ChatML, up to where the answer begins."""
    head = f"<|im_start|>system\n{system}<|im_end|>\n" if system else ""
    return f"{head}<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"


def transformers_says(orders: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Answers of plain transformers; all orders in one process."""
    program = HERE / "transformers_says.py"
    done = subprocess.run(
        [sys.executable, program, json.dumps(orders)], capture_output=True, text=True, check=True
    )
    said: list[list[dict[str, Any]]] = json.loads(
        done.stdout.splitlines()[-1]
    )  # libraries print, too
    return said
