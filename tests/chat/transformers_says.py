"""What plain transformers and peft say: the measure for the chat worker.

Run as a program with a list of orders in JSON, each ``{model, adapter, texts, tokens,
trust}``; prints, for each text, the answer, its token ids and how likely each was. A model
that is not there is made first, a tiny one of ``kind``; an adapter that is not, by peft.
(All in one process: it imports for seconds what it works with for less.)
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from support import tiny


def main() -> None:
    print(json.dumps([answers(order) for order in json.loads(sys.argv[1])]))


def answers(order: dict[str, Any]) -> list[dict[str, Any]]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, Cache

    if order.get("trust") and not hasattr(Cache, "get_max_length"):
        Cache.get_max_length = lambda _self: None  # InternLM2's code asks for it
    if not Path(order["model"]).exists():
        tiny.build(Path(order["model"]), order["kind"])
    options = {"trust_remote_code": bool(order.get("trust"))}
    tokenizer = AutoTokenizer.from_pretrained(order["model"], **options)
    model = AutoModelForCausalLM.from_pretrained(order["model"], dtype=torch.float32, **options)
    if order.get("adapter"):
        from peft import PeftModel

        if not Path(order["adapter"]).exists():
            _make_adapter(order["model"], order["adapter"])
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


def _make_adapter(model: str, folder: str) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(2)
    config = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    made = get_peft_model(AutoModelForCausalLM.from_pretrained(model), config)
    with torch.no_grad():
        for name, values in made.named_parameters():
            if "lora_" in name:
                values.normal_(0, 0.3)
    made.save_pretrained(folder)


if __name__ == "__main__":
    main()
