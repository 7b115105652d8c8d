"""Write a LoRA adapter with random weights for a model. Run as a program: MODEL OUT [SEED]."""

from __future__ import annotations

import sys


def main() -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
    torch.manual_seed(int(sys.argv[3]) if len(sys.argv) > 3 else 1)
    config = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(model, config)
    with torch.no_grad():
        for name, values in model.named_parameters():
            if "lora_" in name:
                values.normal_(0, 0.3)
    model.save_pretrained(sys.argv[2])


if __name__ == "__main__":
    main()
