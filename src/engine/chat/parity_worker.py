"""Worker: do XTuner's template and the tokenizer's own agree? No model is loaded.

``compare {model, trust}`` → the fields of `engine.chat.answer.Parity`, or ``agree`` null
where there are not two templates. Export asks it by name.
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
    folder = Path(request["model"])
    training = templates.for_model(folder, None)
    if training is None or training.template is None:
        return {"agree": None}
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=request["trust"])
    _name, template = prompt.resolve("", training, tokenizer)
    return parity.compare(Prompter(tokenizer, template)) or {"agree": None}


if __name__ == "__main__":
    serve({"compare": compare})
