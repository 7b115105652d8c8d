"""Worker: what an adapter on its base answers, and what the merged model answers.

Runs under the training interpreter. Requests: ``compare``, and ``answers`` for a model
that was trained whole.
"""

from __future__ import annotations

import gc
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from engine.machine import memory
from engine.worker.model_code import cache_max_length
from engine.worker.serve import Cancelled, Emit, serve


def compare(request: Mapping[str, Any], emit: Emit, cancelled: Cancelled) -> dict[str, Any]:
    """Ask both forms the same questions, greedily.

    Takes base, adapter, merged (paths), prompts, new_tokens, trust. Gives for
    each prompt both texts; the types that the base is given in and the merged model
    stored in; and the largest difference of the first token's logits: between the two
    forms (difference), between the base with and without its adapter (effect), between
    the adapter on its base and peft's own merge of them, rounded to the type stored
    (rounding), between that and the merged model (apart), between the base and the base
    rounded to the type stored (base), and between what the adapter changes of the one
    and what it changes of the other (lost).
    """
    trust = bool(request["trust"])
    tokenizer = AutoTokenizer.from_pretrained(request["merged"], trust_remote_code=trust)
    prompts = [_tokens(tokenizer, prompt) for prompt in request["prompts"]]
    total = 2 * len(prompts)
    model, stored = _load(request["merged"], trust)
    merged = []
    for tokens in prompts:
        merged.append(_ask(model, tokenizer, tokens, request["new_tokens"]))
        emit("progress", done=len(merged), total=total)
    computed = model.dtype
    del model
    _free()
    base, given = _load(request["base"], trust)
    model = PeftModel.from_pretrained(base, request["adapter"])
    model.eval()
    rows, firsts, bare, difference, effect = [], [], [], 0.0, 0.0
    for number, (prompt, tokens) in enumerate(zip(request["prompts"], prompts, strict=True)):
        text, logits = _ask(model, tokenizer, tokens, request["new_tokens"])
        firsts.append(logits)
        with model.disable_adapter():
            bare.append(_first(model, tokens))
        other_text, other = merged[number]
        difference = max(difference, _distance(logits, other))
        effect = max(effect, _distance(logits, bare[-1]))
        rows.append({"prompt": prompt, "adapter": text, "merged": other_text})
        emit("progress", done=len(merged) + number + 1, total=total)
    merge_as_peft(model, stored, computed)
    rounding, apart = 0.0, 0.0
    for logits, tokens, (_text, other) in zip(firsts, prompts, merged, strict=True):
        rounded = _first(model, tokens)
        rounding = max(rounding, _distance(logits, rounded))
        apart = max(apart, _distance(rounded, other))
    of_base, lost = 0.0, difference
    if stored not in (given, torch.float32):  # all that the adapter does not change is rounded, too
        del model, base
        _free()
        base, _given = _load(request["base"], trust)
        _round(base, stored, computed)
        coarse = [_first(base, tokens) for tokens in prompts]
        of_base = max(map(_distance, bare, coarse))
        wanted = map(_change, bare, firsts)
        kept = map(_change, coarse, (other for _text, other in merged))
        lost = max(map(_distance, wanted, kept))
    return {
        "prompts": rows,
        "difference": difference,
        "effect": effect,
        "rounding": rounding,
        "apart": apart,
        "base": of_base,
        "lost": lost,
        "given": str(given).removeprefix("torch."),
        "stored": str(stored).removeprefix("torch."),
    }


def merge_as_peft(model: Any, stored: torch.dtype, computed: torch.dtype) -> None:
    """Merge by peft, and round all weights to the type `stored`, to be computed in `computed`.

    What it does to the logits is what that rounding does to this model and adapter, and no
    rule tells it beforehand. Weights of a base that was stored in the type already keep none of
    a change that is less than half a unit of their last place, so the loss is not noise: an
    adapter's small changes go the same way in each row. Of a base that was stored in a wider
    type those weights are rounded too which no adapter changes.
    """
    uses = Counter(id(one) for _name, one in model.named_parameters(remove_duplicate=False))
    for layer in model.modules():
        if isinstance(layer, BaseTunerLayer):
            inner = layer.get_base_layer()
            if uses[id(inner.weight)] > 1:  # tied: the adapter changes one of the two
                inner.weight = torch.nn.Parameter(inner.weight.detach().clone())
            layer.float().merge()  # in float32, as our merge, whatever is computed in
            _round(layer, stored, computed)
    _round(model, stored, computed)


def _round(module: torch.nn.Module, stored: torch.dtype, computed: torch.dtype) -> None:
    for weight in module.parameters():
        weight.data = weight.data.to(stored).to(computed)


def answers(request: Mapping[str, Any], emit: Emit, _cancelled: Cancelled) -> dict[str, Any]:
    """Ask one model, greedily. Takes model (a path), prompts, new_tokens, trust.

    Gives for each prompt the text, whether all first logits are finite numbers, and
    the type stored.
    """
    trust = bool(request["trust"])
    tokenizer = AutoTokenizer.from_pretrained(request["model"], trust_remote_code=trust)
    model, stored = _load(request["model"], trust)
    rows, finite = [], True
    for prompt in request["prompts"]:
        tokens = _tokens(tokenizer, prompt)
        text, logits = _ask(model, tokenizer, tokens, request["new_tokens"])
        finite = finite and bool(torch.isfinite(logits).all())
        rows.append({"prompt": prompt, "text": text})
        emit("progress", done=len(rows), total=len(request["prompts"]))
    return {"prompts": rows, "finite": finite, "stored": str(stored).removeprefix("torch.")}


def _load(path: str, trust: bool) -> tuple[Any, torch.dtype]:
    """The model, and the type that its weights are stored in.

    It is computed in float32 where that fits: the rounding of the merged
    weights is then the only difference. (In bfloat16 the two forms, which add
    in another order, differed by 1.2 in a logit of a model that merged right.)
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if trust:
        cache_max_length()
    model = AutoModelForCausalLM.from_pretrained(
        path, dtype="auto", trust_remote_code=trust, low_cpu_mem_usage=True
    )
    stored = model.dtype
    wide = 6 * model.num_parameters() < _free_memory(device)
    # Widened there and not before: half as much is copied, and the host holds no float32.
    model = model.to(device)
    return (model.float() if wide else model).eval(), stored


def _free_memory(device: str) -> int:
    if device == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    return memory.left().free


def _tokens(tokenizer: Any, prompt: str) -> torch.Tensor:
    if tokenizer.chat_template:
        messages = [{"role": "user", "content": prompt}]
        prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        tokens = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)
    else:
        tokens = tokenizer(prompt, return_tensors="pt")
    ids: torch.Tensor = tokens.input_ids
    return ids


def _first(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    """The logits of the first new token, in float32."""
    with torch.inference_mode():
        logits: torch.Tensor = model(input_ids=tokens.to(model.device)).logits[0, -1]
        return logits.float().cpu()


def _ask(
    model: Any, tokenizer: Any, tokens: torch.Tensor, new_tokens: int
) -> tuple[str, torch.Tensor]:
    tokens = tokens.to(model.device)
    made = model.generate(
        input_ids=tokens,
        attention_mask=torch.ones_like(tokens),
        max_new_tokens=new_tokens,
        do_sample=False,
        temperature=None,
        top_p=None,
        top_k=None,
        pad_token_id=tokenizer.pad_token_id or tokenizer.eos_token_id or 0,
    )
    text: str = tokenizer.decode(made[0, tokens.shape[1] :], skip_special_tokens=True)
    return text, _first(model, tokens)


def _change(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    # A resized vocabulary leaves rows at the end that no token uses.
    length = min(len(one), len(other))
    return other[:length] - one[:length]


def _distance(one: torch.Tensor, other: torch.Tensor) -> float:
    """The largest difference; infinite where one is not a number, which no maximum would keep."""
    largest = float(_change(one, other).abs().max())
    return math.inf if math.isnan(largest) else largest


def _free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


if __name__ == "__main__":
    logging.set_verbosity_error()
    serve({"compare": compare, "answers": answers})
