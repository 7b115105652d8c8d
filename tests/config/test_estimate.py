"""The first memory estimate against runs that were measured on an H100.

1.2B: TinyLlama's sizes with a vocabulary of 49152; 7.7B: InternLM2.5-7B's
sizes; r=64 on all linear layers, one packed sample of 2048 tokens, bf16.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.config import estimate
from engine.config.loaded import Loaded

SMALL = {
    "hidden_size": 2048,
    "num_hidden_layers": 22,
    "intermediate_size": 5632,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "vocab_size": 49152,
    "model_type": "llama",
}
BIG = {
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 92544,
    "model_type": "internlm2",
}
# sizes, 4-bit, ZeRO stage, checkpointing, MiB that NVML showed for the process
MEASURED = [
    (SMALL, False, 0, True, 8066),
    (SMALL, True, 0, True, 4896),
    (SMALL, False, 2, True, 8112),
    (SMALL, True, 2, True, 6698),
    (BIG, True, 0, True, 14622),
    (BIG, True, 2, True, 15590),
    (BIG, True, 0, False, 33670),
]


def config(quantised: bool, checkpointing: bool = True, **more: Any) -> Loaded:
    llm = {"quantization_config": {"load_in_4bit": True}} if quantised else {"trust": True}
    model = {"llm": llm, "lora": {"r": 64}, "use_activation_checkpointing": checkpointing}
    return Loaded({"values": {"model": model, **more}})


@pytest.mark.parametrize(("sizes", "quantised", "zero", "checkpointing", "mib"), MEASURED)
def test_the_estimate_is_near_what_was_measured(
    tmp_path: Path,
    sizes: dict[str, Any],
    quantised: bool,
    zero: int,
    checkpointing: bool,
    mib: int,
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(sizes))
    shape = estimate.shape(tmp_path)
    assert shape is not None
    found = estimate.memory(
        config(quantised, checkpointing),
        shape,
        kind=estimate.model_kind(tmp_path),
        tokens=2048,
        zero=zero,
    )
    assert found.gpu_bytes == sum(found.parts.values())
    assert found.gpu_bytes / 2**20 == pytest.approx(mib, rel=0.15)


def test_sizes_are_the_models_own(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(BIG))
    shape = estimate.shape(tmp_path)
    assert shape is not None
    assert shape.parameters == pytest.approx(7_737_708_544, rel=1e-3)


def test_a_checkpoint_takes_what_the_real_one_took(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(SMALL))
    (tmp_path / "model.safetensors").write_bytes(bytes(1000))
    shape = estimate.shape(tmp_path)
    assert shape is not None
    hooks = {"checkpoint": {"interval": 10, "max_keep_ckpts": 2}}
    needed = estimate.disk(config(False, default_hooks=hooks), shape, steps=100, folder=tmp_path)
    assert needed == pytest.approx(2 * 606e6 + 606e6 / 3 + 1000, rel=0.01)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"hidden_size": null}'])
def test_a_model_of_an_unknown_form_has_no_estimate(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    assert estimate.shape(tmp_path) is None
