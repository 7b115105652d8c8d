"""The chat worker: holds models and lets them answer, token by token.

    python .../worker/bootstrap.py engine.chat.worker   (requests on stdin)

``load {slot, model, adapter, dtype, device, bits, bytes, template, system, trust, merge}`` →
the fields of `engine.chat.answer.Loaded`
``generate {slot, messages, sampling}`` → events ``begun`` and ``token {text}``, then the
fields of `Answer`
``prompt {slot, messages, wanted}`` → the fields of `Prompt`
``unload {slot}``

Runs under the training interpreter.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine import i18n
from engine.chat import answering, models, parity, prompt, running_out, templates
from engine.chat.models import Models, Slot
from engine.chat.prompt import Prompter
from engine.errors import Problem
from engine.i18n import _
from engine.worker.serve import Cancelled, Emit, serve


class Worker:
    """Answers the requests; a few models stay loaded, by slot."""

    def __init__(self) -> None:
        self._models = Models()

    def unload(self, request: Mapping[str, Any], _emit: Emit, _stop: Cancelled) -> dict[str, Any]:
        """Forget a slot and free its memory."""
        self._models.unload(request["slot"])
        return {}

    def load(self, request: Mapping[str, Any], _emit: Emit, _stop: Cancelled) -> dict[str, Any]:
        """Load a model (and its adapter) into a slot; what was there goes, unless it is used.

        A slot that could not be loaded is empty.
        """
        there = False
        try:
            loaded = running_out.loading(lambda: self._load(request), request["model"])
            there = True
        finally:
            if not there:
                self._models.unload(request["slot"])
        return loaded

    def _load(self, request: Mapping[str, Any]) -> dict[str, Any]:
        started = time.monotonic()
        folder = Path(request["model"])
        adapter = Path(request["adapter"]) if request["adapter"] else None
        training = templates.for_model(folder, adapter)
        tokenizer = models.tokenizer(folder, request["trust"])
        name, template = prompt.resolve(request["template"], training, tokenizer)
        prompter = Prompter(tokenizer, template)
        base, key = self._base(request, folder)
        if adapter is not None:
            base.add(adapter)
        system = prompt.system(request["system"], training)
        ends = models.end_tokens(base, prompter)
        slot = Slot(key, base, adapter, prompter, system, ends)
        slot.merge = request["merge"]
        self._models.slots[request["slot"]] = slot
        return {
            "template": name,
            "system": slot.system,
            "dtype": _dtype(base.model, request["bits"]),
            "device": str(slot.device),
            "context": slot.context,
            "shared": self._models.shared(request["slot"]),
            "parity": parity.compare(prompter),
            "seconds": round(time.monotonic() - started, 3),
        }

    def _base(
        self, request: Mapping[str, Any], folder: Path
    ) -> tuple[models.Base, tuple[Any, ...]]:
        """The weights for a slot. Its old ones go before new ones come: both may not fit."""
        bits, trust = request["bits"], request["trust"]
        key = (folder, request["device"], request["dtype"], bits, trust)
        old = self._models.slots.get(request["slot"])
        if old is not None and old.key != key:
            self._models.unload(request["slot"])
        device, dtype = models.place(request["device"], request["dtype"], request["bytes"])
        options = {"device": device, "dtype": dtype, "bits": bits, "trust": trust}
        return self._models.base(key, {"folder": folder, **options}), key

    def generate(self, request: Mapping[str, Any], emit: Emit, stop: Cancelled) -> dict[str, Any]:
        """One answer to a conversation."""
        emit("begun")
        slot = self._slot(request)
        messages, sampling = request["messages"], request["sampling"]

        def answer() -> dict[str, Any]:
            self._models.settle(request["slot"])
            return answering.answer(slot, messages, sampling, emit, stop)

        return running_out.answering(answer)

    def prompt(self, request: Mapping[str, Any], _emit: Emit, _stop: Cancelled) -> dict[str, Any]:
        """What the model would be given."""
        return answering.explain(self._slot(request), request["messages"], request["wanted"])

    def _slot(self, request: Mapping[str, Any]) -> Slot:
        slot = self._models.slots.get(request["slot"])
        if slot is None:
            raise Problem(_("No model is loaded in {slot}").format(slot=request["slot"]))
        return slot


def _dtype(model: Any, bits: int) -> str:
    if bits:
        return f"{bits}-bit"
    return str(next(model.parameters()).dtype).removeprefix("torch.")


if __name__ == "__main__":
    i18n.use(os.environ.get("TUNEDECK_LANGUAGE", ""))
    worker = Worker()
    serve(
        {
            "load": worker.load,
            "generate": worker.generate,
            "prompt": worker.prompt,
            "unload": worker.unload,
        }
    )
