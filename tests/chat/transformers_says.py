"""What plain transformers answers: the measure for the chat worker. Run as a program."""

from __future__ import annotations

import json
import sys


def main() -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    order = json.loads(sys.argv[1])
    tokenizer = AutoTokenizer.from_pretrained(order["model"])
    model = AutoModelForCausalLM.from_pretrained(order["model"], dtype=torch.float32)
    if order["adapter"]:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, order["adapter"])
    model.eval()
    answers = []
    for text in order["texts"]:
        ids = torch.tensor([tokenizer.encode(text, add_special_tokens=False)])
        made = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=order["tokens"],
            do_sample=False,
        )
        new = made[0, ids.shape[1] :]
        answers.append(tokenizer.decode(new, skip_special_tokens=True))
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
