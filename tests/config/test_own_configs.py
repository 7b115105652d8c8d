"""Tunedeck's own configs: one form, good defaults, and every one of them trains."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from engine import resources
from engine.config.stock.outline import Outline
from engine.config.stock.reading import read
from engine.settings import Settings
from engine.worker.client import environment
from tests.conftest import ROOT
from tests.support import train_configs

OWN = sorted(resources.configs().glob("*_custom_sft_e3.py"))
QLORA, LORA, FULL = "qlora", "lora", "full"


def parts(path: Path) -> list[str]:
    """The text between the headings of the parts: before PART 1, then each part."""
    return re.split(r"^#+\n# +PART \d .*#\n#+\n", path.read_text(), flags=re.M)


def test_the_models_and_methods_that_are_there() -> None:
    made = {(entry.family, entry.size, entry.method) for entry in map(read, OWN) if entry}
    assert made == {
        ("internlm2.5", "7b", QLORA),
        ("internlm2.5", "7b", LORA),
        ("qwen2.5", "7b", QLORA),
        ("qwen2.5", "7b", LORA),
        ("qwen2.5", "7b", FULL),
        ("qwen2.5", "1.5b", LORA),
        ("llama3", "8b", QLORA),
        ("llama3", "8b", LORA),
    }


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.stem)
def test_a_config_is_named_for_what_it_does_and_has_good_defaults(path: Path) -> None:
    entry = read(path)
    assert entry is not None
    assert path.stem.endswith(f"_{entry.tuning}_custom_sft_e{entry.epochs}")
    assert entry.template and entry.dataset == "" and entry.about
    outline = Outline(path.read_text())
    llm = outline.get("model")["llm"]
    assert llm["attn_implementation"] == "sdpa"
    assert str(llm["torch_dtype"]) == "torch.bfloat16"
    if entry.tuning == QLORA:
        assert str(llm["quantization_config"]["bnb_4bit_compute_dtype"]) == "torch.bfloat16"
    assert outline.get("optim_wrapper")["dtype"] == "bfloat16"
    assert outline.get("train_dataset")["map_num_proc"] == 1  # packed as a whole
    assert outline.get("save_total_limit") >= 2
    warmup, _cosine = outline.get("param_scheduler")
    assert warmup["by_epoch"] is False and warmup["end"] >= 2  # whatever the data's size
    trusted = entry.family == "internlm2.5"  # which brings its own code
    assert llm["trust_remote_code"] is outline.get("tokenizer")["trust_remote_code"] is trusted
    assert f"tunedeck config copy {path.stem} " in outline.about


def test_what_holds_for_all_is_written_alike() -> None:
    """Parts 3 to 5 do not differ; nor does PART 1 but for what model and method ask."""
    first = parts(OWN[0])
    assert len(first) == 6
    own = {"pretrained_model_name_or_path", "prompt_template", "lr"}
    for path in OWN:
        assert parts(path)[3:] == first[3:], path.name
        settings = [
            [line for line in one.splitlines() if line.partition(" = ")[0] not in own]
            for one in (parts(path)[1], first[1])
        ]
        words = [[line for line in one if not line.startswith("#")] for one in settings]
        assert words[0] == words[1], path.name


@pytest.mark.slow
@pytest.mark.trains
def test_every_one_of_them_trains_once_it_is_copied(tmp_path: Path) -> None:
    """And three of XTuner's: in one process, on a CPU, with tiny models and every kind of data."""
    variables = {"PYTHONPATH": str(ROOT), "HF_MODULES_CACHE": str(tmp_path / "modules")}
    ran = subprocess.run(
        [sys.executable, ROOT / "tests/support/train_configs.py", tmp_path],
        env={**environment(Settings()), **os.environ, **variables, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    lines = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith('{"case"')]
    results = {one["case"]: one for one in lines}
    assert results.keys() == {case.config for case in train_configs.CASES}, ran.stderr[-3000:]
    assert {path.stem for path in OWN} < results.keys()
    for name, one in results.items():
        assert one["error"] is None, (name, one["error"])
        assert one["checkpoint"], name
        assert one["losses"] and all(map(math.isfinite, one["losses"])), name
        if "lora" in name:
            assert one["moved"] > 0, name
        if name == train_configs.IN_BF16.config:
            assert one["base"] == ["torch.bfloat16"], "XTuner would have made it float32"
        if name in {path.stem for path in OWN}:  # the warm-up has begun to rise
            assert one["rates"][1] > 5 * one["rates"][0], name
