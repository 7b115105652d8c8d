"""A checkpoint of full fine-tuning becomes a model's folder that transformers can load."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from engine.errors import Problem
from engine.export import full_model
from engine.export.convert import convert
from tests.export.conftest import load, same, sums_hold

FIXTURES = Path(__file__).parent.parent / "fixtures"
ZERO3 = FIXTURES / "zero3"
RANKS = FIXTURES / "zero-ranks"
MADE = [ZERO3 / name for name in ("full-2", "frozen-2", "tied-2")]
MADE += [RANKS / name for name in ("zero1-full-3", "zero2-full-2", "zero3-full-3")]
CONFIG = """
model = dict(
    type="xtuner.model.SupervisedFinetune",
    llm=dict(
        type="transformers.AutoModelForCausalLM.from_pretrained",
        pretrained_model_name_or_path="{base}",
    ),
)
"""


def make_base(folder: Path, tied: bool) -> Path:
    """The folder of the model that the fixtures began with (its weights are not needed)."""
    folder.mkdir()
    config = {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 60,
        "hidden_size": 16, "intermediate_size": 23, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 1, "tie_word_embeddings": tied,
        "torch_dtype": "bfloat16",
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "generation_config.json", "chat_template.jinja", "own_code.py"):
        (folder / name).write_text("{}")
    (folder / "model.safetensors").touch()
    return folder


@pytest.mark.parametrize("trained", MADE, ids=lambda folder: folder.name)
def test_it_is_the_trained_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: Path
) -> None:
    monkeypatch.setattr(full_model, "_SHARD", 6000)
    tied = "tied" in trained.name
    base = make_base(tmp_path / "base", tied)
    config = tmp_path / "config.py"
    config.write_text(CONFIG.format(base=base))
    made = convert(trained / "checkpoint", tmp_path / "out", config=config, base=base)
    expected = {
        key.removeprefix("llm."): value
        for key, value in load(trained / "expected.safetensors").items()
    }
    if tied:
        del expected["lm_head.weight"]
    assert (made.kind, made.keys) == ("model", len(expected))
    shards = sorted(made.adapter.glob("*.safetensors"))
    assert [one.name for one in shards] == [
        f"model-{n + 1:05}-of-{len(shards):05}.safetensors" for n in range(len(shards))
    ]
    assert len(shards) > 1
    index = json.loads((made.adapter / "model.safetensors.index.json").read_text())["weight_map"]
    for file in shards:
        for key, value in load(file).items():
            assert index.pop(key) == file.name
            assert same(value, expected.pop(key)), key
    assert not index and not expected
    config = json.loads((made.adapter / "config.json").read_text())
    # What the weights are decides, not what the base was.
    assert (config["torch_dtype"], config["vocab_size"]) == ("float32", 61)
    for file in ("tokenizer.json", "generation_config.json", "chat_template.jinja", "own_code.py"):
        assert (made.adapter / file).is_file()
    assert (made.adapter / "xtuner_config.py").is_file()
    card = (made.adapter / "README.md").read_text()
    assert f"All weights of `{base}`, fine-tuned" in card and "## Config" in card
    sums_hold(made.adapter)


def test_a_missing_base_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="Give that model's folder"):
        convert(ZERO3 / "full-1" / "checkpoint", tmp_path / "out")
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_transformers_loads_it(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", tied=False)
    out = convert(
        ZERO3 / "full-2" / "checkpoint", tmp_path / "out", base=base, dtype="bf16"
    ).adapter
    (out / "generation_config.json").unlink()
    code = (
        "import sys, torch; from transformers import AutoModelForCausalLM as A;"
        "m, said = A.from_pretrained(sys.argv[1], dtype='auto', output_loading_info=True);"
        "assert not any(said.values()), said; assert m.dtype == torch.bfloat16"
    )
    done = subprocess.run([sys.executable, "-c", code, out], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
