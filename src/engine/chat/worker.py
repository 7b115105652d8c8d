"""The chat worker: holds models and lets them answer, token by token.

    python .../worker/bootstrap.py engine.chat.worker   (requests on stdin)

``load {slot, model, adapter, dtype, device, template, system, trust}`` →
``{template, system, dtype, device, seconds, context}``
``generate {slot, messages, sampling}`` → events ``token {text}``, then
``{text, tokens, first_token_s, tokens_per_s, prompt, prompt_tokens, ended}``
``unload {slot}``

Runs under the training interpreter.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine import i18n
from engine.chat import prompt, templates
from engine.chat.decode import Ender, Pieces
from engine.chat.prompt import Prompter
from engine.errors import Failed, Problem
from engine.i18n import _
from engine.worker.serve import Cancelled, Emit, serve


class Slot:
    """One loaded model and how it is asked."""

    def __init__(self, model: Any, tokenizer: Any, prompter: Prompter, system: str) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.prompter = prompter
        self.system = system
        self.ends = _end_tokens(model, tokenizer, prompter)
        # Our sampling settings are all that counts, not defaults that came with the model.
        from transformers import GenerationConfig

        model.generation_config = GenerationConfig()

    @property
    def context(self) -> int | None:
        """The most tokens that prompt and answer may have together."""
        value = getattr(self.model.config, "max_position_embeddings", None)
        return value if isinstance(value, int) else None


class Worker:
    """Answers the requests; up to a few models stay loaded, by slot."""

    def __init__(self) -> None:
        self._slots: dict[str, Slot] = {}

    def unload(self, request: Mapping[str, Any], _emit: Emit, _stop: Cancelled) -> dict[str, Any]:
        """Forget a model and free its memory."""
        self._slots.pop(request["slot"], None)
        gc.collect()
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return {}

    def load(self, request: Mapping[str, Any], emit: Emit, stop: Cancelled) -> dict[str, Any]:
        """Load a model (and its adapter) into a slot; what was there goes first."""
        started = time.monotonic()
        self.unload(request, emit, stop)
        from transformers import AutoTokenizer

        folder = Path(request["model"])
        adapter = Path(request["adapter"]) if request["adapter"] else None
        training = templates.for_model(folder, adapter)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=request["trust"])
        name, template = prompt.resolve(request["template"], training, tokenizer)
        device, dtype = _place(request["device"], request["dtype"], request["bytes"])
        model = _model(folder, adapter, device, dtype, request["trust"])
        slot = Slot(
            model,
            tokenizer,
            Prompter(tokenizer, template),
            prompt.system(request["system"], training),
        )
        self._slots[request["slot"]] = slot
        return {
            "template": name,
            "system": slot.system,
            "dtype": str(next(model.parameters()).dtype).removeprefix("torch."),
            "device": str(model.device),
            "context": slot.context,
            "seconds": round(time.monotonic() - started, 3),
        }

    def generate(self, request: Mapping[str, Any], emit: Emit, stop: Cancelled) -> dict[str, Any]:
        """One answer to a conversation."""
        slot = self._slots.get(request["slot"])
        if slot is None:
            raise Problem(_("No model is loaded in {slot}").format(slot=request["slot"]))
        messages = list(request["messages"])
        if slot.system and messages and messages[0]["role"] != "system":
            messages.insert(0, {"role": "system", "content": slot.system})
        return _answer(slot, messages, request["sampling"], emit, stop)


def _place(device: str, dtype: str, size: int) -> tuple[str, Any]:
    """Where the model goes and as what: on a CPU float32 computes several times faster."""
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        free = [torch.cuda.mem_get_info(index)[0] for index in range(torch.cuda.device_count())]
        best = max(range(len(free)), key=free.__getitem__)
        # Too big for one card: accelerate spreads the layers over all of them.
        device = f"cuda:{best}" if size < free[best] or len(free) == 1 else "auto"
    if dtype != "auto":
        names = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
        return device, names[dtype]
    return device, torch.float32 if device == "cpu" else "auto"


def _model(folder: Path, adapter: Path | None, device: str, dtype: Any, trust: bool) -> Any:
    from transformers import AutoModelForCausalLM

    # The argument was called torch_dtype before transformers 4.56, and still may be.
    options: dict[str, Any] = {"torch_dtype": dtype, "trust_remote_code": trust}
    if device != "cpu":
        options["device_map"] = device if device == "auto" else {"": device}
    model = AutoModelForCausalLM.from_pretrained(folder, **options)
    if adapter is not None:
        from peft import PeftModel

        try:
            model = PeftModel.from_pretrained(model, adapter)
        except (RuntimeError, ValueError) as error:
            raise Failed(
                _("The adapter {adapter} does not fit {model}").format(
                    adapter=adapter, model=folder
                ),
                str(error).strip().splitlines()[0],
                _("Load it on the base model that it was trained on."),
                str(error),
            ) from error
    return model.eval()


def _end_tokens(model: Any, tokenizer: Any, prompter: Prompter) -> list[int]:
    """Tokens that end an answer: the model's, the tokenizer's, one-token stop words."""
    own = model.generation_config.eos_token_id
    ends = set(own if isinstance(own, list) else [own]) | {tokenizer.eos_token_id}
    for word in prompter.stop_words:
        ids = tokenizer.encode(word, add_special_tokens=False)
        ends |= set(ids) if len(ids) == 1 else set()
    return sorted(end for end in ends if end is not None)


def _config(slot: Slot, sampling: Mapping[str, Any], room: int) -> Any:
    from transformers import GenerationConfig

    pad = slot.tokenizer.pad_token_id
    values: dict[str, Any] = {
        "max_new_tokens": min(sampling["max_new_tokens"], room),
        "eos_token_id": slot.ends or None,
        "pad_token_id": pad if pad is not None else next(iter(slot.ends), 0),
        "repetition_penalty": sampling["repetition"],
        "do_sample": sampling["temperature"] > 0,
    }
    if sampling["temperature"] > 0:
        values |= {
            "temperature": sampling["temperature"],
            "top_p": sampling["top_p"],
            "top_k": sampling["top_k"],
        }
    return GenerationConfig(**values)


def _answer(
    slot: Slot,
    messages: list[dict[str, str]],
    sampling: Mapping[str, Any],
    emit: Emit,
    stop: Cancelled,
) -> dict[str, Any]:
    import torch

    ids = slot.prompter.ids(messages)
    room = (slot.context or 1 << 30) - len(ids)
    if room <= 0:
        raise Problem(
            _("The conversation is too long for this model"),
            _("It has {tokens} tokens; the model takes {most}.").format(
                tokens=len(ids), most=slot.context
            ),
            _("Begin a new one."),
        )
    if sampling["seed"] is not None:
        torch.manual_seed(sampling["seed"])
    pieces = Pieces(slot.tokenizer, emit, slot.ends, slot.prompter.stop_words)
    inputs = torch.tensor([ids], device=slot.model.device)
    with torch.inference_mode():
        slot.model.generate(
            input_ids=inputs,
            attention_mask=torch.ones_like(inputs),
            generation_config=_config(slot, sampling, room),
            streamer=pieces,
            stopping_criteria=[Ender(pieces, stop)],
        )
    return {
        **pieces.result(stopped=stop()),
        "prompt": slot.tokenizer.decode(ids, skip_special_tokens=False),
        "prompt_tokens": len(ids),
    }


if __name__ == "__main__":
    i18n.use(os.environ.get("TUNEDECK_LANGUAGE", ""))
    worker = Worker()
    serve({"load": worker.load, "generate": worker.generate, "unload": worker.unload})
