"""What plain transformers and peft say: the measure for the chat worker.

Run as a program with a list of orders in JSON, each ``{model, adapter, texts, tokens,
trust}``; prints, for each text, the answer, its token ids and how likely each was.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def main() -> None:
    print(json.dumps([answers(order) for order in json.loads(sys.argv[1])]))


def answers(order: dict[str, Any]) -> list[dict[str, Any]]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, Cache

    if order.get("trust") and not hasattr(Cache, "get_max_length"):
        Cache.get_max_length = lambda _self: None  # InternLM2's code asks for it
    options = {"trust_remote_code": bool(order.get("trust"))}
    tokenizer = AutoTokenizer.from_pretrained(order["model"], **options)
    model = AutoModelForCausalLM.from_pretrained(order["model"], dtype=torch.float32, **options)
    if order.get("adapter"):
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, order["adapter"])
    model.eval()
    found = []
    for text in order["texts"]:
        ids = torch.tensor([tokenizer.encode(text, add_special_tokens=False)])
        made = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=order["tokens"],
            do_sample=False,
            return_dict_in_generate=True,
            output_logits=True,
        )
        new = made.sequences[0, ids.shape[1] :]
        likely = [
            float(logits[0].float().softmax(-1)[token])
            for token, logits in zip(new, made.logits, strict=True)
        ]
        answer = tokenizer.decode(new, skip_special_tokens=True)
        found.append({"answer": answer, "ids": new.tolist(), "likely": likely})
    return found


if __name__ == "__main__":
    main()
