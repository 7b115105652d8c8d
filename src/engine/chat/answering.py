"""One answer of a loaded model: the prompt cut to fit, tokens as they come, their chances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from engine.chat.decode import Ender, Pieces
from engine.chat.models import Slot
from engine.errors import Problem
from engine.i18n import _
from engine.worker.serve import Cancelled, Emit

Message = Mapping[str, str]

ROOM = 4
"""The part of the context (one in so many) that is kept free for the answer, at most."""


def fitted(slot: Slot, messages: Sequence[Message], wanted: int) -> tuple[list[int], int]:
    """The prompt's ids, and how many of the oldest messages were left out to make it fit.

    The rule: the system text and the last question always stay; the oldest
    question goes with its answer, until `wanted` tokens (at most a quarter of
    the context) are free for the new answer.
    """
    talk = list(messages)
    if slot.system and talk and talk[0]["role"] != "system":
        talk.insert(0, {"role": "system", "content": slot.system})
    head = talk[:1] if talk and talk[0]["role"] == "system" else []
    rest = talk[len(head) :]
    ids = slot.prompter.ids(talk)
    context = slot.context
    if context is None:
        return ids, 0
    most = context - min(wanted, context // ROOM)
    dropped = 0
    while len(ids) > most and len(rest) > 2:
        dropped += 2
        rest = rest[2:]
        ids = slot.prompter.ids([*head, *rest])
    if len(ids) >= context:
        raise Problem(
            _("The question is too long for this model"),
            _("It has {tokens} tokens with its template; the model takes {most}.").format(
                tokens=len(ids), most=context
            ),
            _("Ask something shorter."),
        )
    return ids, dropped


def answer(
    slot: Slot,
    messages: Sequence[Message],
    sampling: Mapping[str, Any],
    emit: Emit,
    stop: Cancelled,
) -> dict[str, Any]:
    """Generate; the fields of `engine.chat.answer.Answer`."""
    import torch
    from transformers import LogitsProcessorList

    ids, dropped = fitted(slot, messages, sampling["max_new_tokens"])
    tokenizer = slot.prompter.tokenizer
    if sampling["seed"] is not None:
        torch.manual_seed(sampling["seed"])
    pieces = Pieces(tokenizer, emit, slot.ends, slot.prompter.stop_words)
    chances = _Chances(tokenizer, sampling["chances"]) if sampling["chances"] else None
    inputs = torch.tensor([ids], device=slot.device)
    room = (slot.context or 1 << 30) - len(ids)
    with torch.inference_mode(), slot.base.with_adapter(slot.adapter) as model:
        made = model.generate(
            input_ids=inputs,
            attention_mask=torch.ones_like(inputs),
            generation_config=_config(slot, sampling, room),
            streamer=pieces,
            stopping_criteria=[Ender(pieces, stop)],
            logits_processor=LogitsProcessorList([chances] if chances else []),
        )
    return {
        **pieces.result(stopped=stop()),
        "prompt": tokenizer.decode(ids, skip_special_tokens=False),
        "prompt_tokens": len(ids),
        "dropped": dropped,
        "chances": chances.of(made[0, len(ids) :].tolist()) if chances else [],
    }


def explain(slot: Slot, messages: Sequence[Message], wanted: int) -> dict[str, Any]:
    """The exact prompt: the fields of `engine.chat.answer.Prompt`."""
    ids, dropped = fitted(slot, messages, wanted)
    tokenizer = slot.prompter.tokenizer
    return {
        "text": tokenizer.decode(ids, skip_special_tokens=False),
        "ids": ids,
        "tokens": [tokenizer.decode([one], skip_special_tokens=False) for one in ids],
        "dropped": dropped,
    }


def _config(slot: Slot, sampling: Mapping[str, Any], room: int) -> Any:
    from transformers import GenerationConfig

    pad = slot.prompter.tokenizer.pad_token_id
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


class _Chances:
    """A logits processor that changes nothing and notes how likely each token was.

    It runs before temperature, top-p and top-k: these say how to draw, not
    what the model believes.
    """

    def __init__(self, tokenizer: Any, count: int) -> None:
        self._tokenizer = tokenizer
        self._count = count
        self._logs: Any = None
        """Of the place whose token is not drawn yet."""
        self._seen: list[dict[str, Any]] = []

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        if self._logs is not None:
            self._note(int(input_ids[0, -1]))
        self._logs = scores[0].float().log_softmax(dim=-1)
        return scores

    def of(self, ids: Sequence[int]) -> list[dict[str, Any]]:
        """The chances of the tokens that were drawn: the fields of `Chance`."""
        if self._logs is not None and len(self._seen) < len(ids):
            self._note(ids[-1])
        return self._seen

    def _note(self, drawn: int) -> None:
        best = self._logs.topk(min(self._count, self._logs.shape[-1]))
        others = zip(best.indices.tolist(), best.values.exp().tolist(), strict=True)
        self._seen.append(
            {
                "token": self._text(drawn),
                "p": float(self._logs[drawn].exp()),
                "others": [(self._text(token), chance) for token, chance in others],
            }
        )

    def _text(self, token: int) -> str:
        text: str = self._tokenizer.decode([token], skip_special_tokens=False)
        return text
