"""Whether the template that a model was trained with is the one that servers will use.

The templates are the chat's; its worker is asked by name.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from engine.errors import Problem
from engine.settings import Settings
from engine.worker.client import WorkerClient

WORKER = "engine.chat.parity_worker"


class Templates(msgspec.Struct, frozen=True):
    """The same conversation in both templates.

    `agree` is None when there are not two to compare (or `why` says what stood in the way).
    """

    agree: bool | None
    trained: str = ""
    tokenizer: str = ""
    why: str = ""


def compare(model: Path, settings: Settings, *, trust: bool = False) -> Templates:
    """Compare them, in a worker of the training interpreter (some seconds).

    Args:
        model: a whole model's folder, with the config that it was trained with in it.
        settings: say which interpreter.
        trust: whether the tokenizer may bring code of its own.

    A comparison that fails is an answer, too: nothing is raised.
    """
    try:
        with WorkerClient(WORKER, settings) as worker:
            found = worker.result("compare", model=str(model.resolve()), trust=trust)
    except Problem as problem:
        return Templates(None, why=problem.why or problem.what)
    if found.get("agree") is None:
        return Templates(None)
    return msgspec.convert(
        {key: found[key] for key in Templates.__struct_fields__ if key in found}, Templates
    )
