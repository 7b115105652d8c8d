"""A dataset_map_fn for XTuner: conversations, from a column that holds lists of messages.

Written by Tunedeck. Keep this file beside the config, which uses it so:

    from THIS_MODULE import map_fn
    ...
    dataset_map_fn=map_fn

Change the constants to change what is trained on; `tunedeck data show FILE
--map THIS_FILE` shows what comes out.

Messages of one side that follow one another are joined by a line break, an
answer before the first question and a question after the last answer are left
out: there is nothing to train on in them.
"""

from __future__ import annotations

from typing import Any

MESSAGES: str = "messages"
"""The column that holds a row's messages, in their order."""
ROLE: str = "role"
"""The key that says whose a message is."""
TEXT: str = "content"
"""The key that holds what it says."""
ROLES: dict[str, str] = {
    "system": "system",
    "user": "question",
    "assistant": "answer",
}
"""Whose words those of a role are: "system", "question" or "answer"; any other is an error."""
LOSS: str = ""
"""The key that says whether an answer is trained on (missing or null: yes); "" for none."""
SYSTEM: str = ""
"""The column that holds the system text; "" for none."""
SYSTEM_TEXT: str = ""
"""The system text of every row that has none of its own; "" for none."""


def map_fn(example: dict[str, Any]) -> dict[str, Any]:
    """The row as XTuner's ``conversation``; empty, which XTuner drops, without an answer."""
    systems = [text(example.get(SYSTEM))] if SYSTEM else []
    questions: list[str] = []
    conversation: list[dict[str, Any]] = []
    for message in example[MESSAGES] or []:
        side, words = ROLES[message[ROLE]], text(message[TEXT])
        if side == "system":
            systems.append(words)
        elif side == "question":
            questions.append(words)
        elif questions:
            conversation.append(turn(systems, questions, words, message))
            systems, questions = [], []
        elif conversation:
            conversation[-1]["output"] += "\n" + words
    if conversation and not conversation[0]["system"]:
        conversation[0]["system"] = SYSTEM_TEXT
    return {"conversation": conversation}


def turn(
    systems: list[str], questions: list[str], answer: str, message: dict[str, Any]
) -> dict[str, Any]:
    """One question and its answer, with the system texts that came before."""
    loss = message.get(LOSS) if LOSS else None
    return {
        "system": "\n".join(filter(None, systems)),
        "input": "\n".join(questions),
        "output": answer,
        "output_with_loss": loss is None or str(loss).lower() == "true",
    }


def text(value: Any) -> str:
    """What a message says: a text, nothing for null, or the texts of its parts in a row."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(part["type"] == "text" for part in value):
        return "".join(part["text"] for part in value)
    raise TypeError(f"a message holds what is not text: {value!r:.80}")
