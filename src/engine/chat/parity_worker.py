"""Worker: do XTuner's template and the tokenizer's own agree? No model is loaded.

``compare {model, trust}`` → the fields of `engine.chat.answer.Parity`, or ``agree`` null
where there are not two templates. Export asks it by name.
``trained {model, adapter, trust}`` → ``system`` (the training's text, or ""), ``parity`` (the
same fields, or null).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.chat import parity, prompt, templates
from engine.chat.prompt import Prompter
from engine.worker.serve import Cancelled, Emit, serve


def compare(request: Mapping[str, Any], _emit: Emit, _stop: Cancelled) -> dict[str, Any]:
    """The same conversation through both."""
    training = templates.for_model(Path(request["model"]))
    return _compared(request, training) or {"agree": None}


def trained(request: Mapping[str, Any], _emit: Emit, _stop: Cancelled) -> dict[str, Any]:
    """How a model was asked in training, for who serves it in another way."""
    adapter = Path(request["adapter"]) if request["adapter"] else None
    training = templates.for_model(Path(request["model"]), adapter)
    return {"system": prompt.system(None, training), "parity": _compared(request, training)}


def _compared(
    request: Mapping[str, Any], training: templates.Training | None
) -> dict[str, Any] | None:
    if training is None or training.template is None:
        return None
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(
        Path(request["model"]), trust_remote_code=request["trust"]
    )
    _name, template = prompt.resolve("", training, tokenizer)
    return parity.compare(Prompter(tokenizer, template))


if __name__ == "__main__":
    serve({"compare": compare, "trained": trained})
