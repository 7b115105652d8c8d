"""The whole way on a run of the real XTuner: convert as its own tool does, merge, verify."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.cli import export_verbs
from engine.errors import Failed, Problem
from engine.export import verify as module
from engine.export.artefact import newest
from engine.export.convert import convert
from engine.export.merge import merge
from engine.export.verify import Verified, verify
from engine.run.folder import RunFolder
from engine.settings import Settings
from tests.conftest import ROOT
from tests.export.conftest import load, save
from tests.export.test_convert import command


@pytest.fixture(scope="module")
def checkpoint(trained_run: RunFolder) -> Path:
    found = newest(trained_run.path)
    assert found is not None
    return found


@pytest.mark.slow
def test_convert_equals_xtuner(trained_run: RunFolder, checkpoint: Path) -> None:
    program = [sys.executable, ROOT / "benchmarks/convert.py", checkpoint, trained_run.config]
    done = subprocess.run([*program, "--runs", "1", "--alone"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^[1-9]\d* keys, bit-equal", done.stdout, re.MULTILINE), done.stdout


@pytest.mark.slow
def test_merged_and_adapter_agree(tiny_model: Path, checkpoint: Path, tmp_path: Path) -> None:
    # Twelve steps teach little: make what was learnt plain to see.
    adapter = convert(checkpoint, tmp_path / "adapter").adapter
    weights = load(adapter / "adapter_model.safetensors")
    random = np.random.default_rng(0)
    save(
        adapter / "adapter_model.safetensors",
        {
            name: value + random.normal(0, 0.2, value.shape).astype("f4")
            for name, value in weights.items()
        },
    )
    out = merge(tiny_model, adapter, tmp_path / "merged").out
    heard: list[tuple[int, int]] = []
    found = verify(
        tiny_model,
        adapter,
        out,
        settings=Settings(),
        prompts=["Who are you?", "你是谁？"],
        progress=lambda *now: heard.append(now),
    )
    assert found.agree
    assert found.max_logit_diff <= found.tolerance < found.adapter_effect
    assert (found.adapter_loss, found.base_rounding) == (found.max_logit_diff, 0)
    assert [one.prompt for one in found.prompts] == ["Who are you?", "你是谁？"]
    assert heard[-1] == (4, 4)
    # The base is not the merged model, and that is said.
    done = command("verify", tiny_model, adapter, tiny_model, "--prompt", "Who are you?", "--json")
    assert done.returncode == 1, done.stderr
    said = json.loads(done.stdout)
    assert said["agree"] is False and said["max_logit_diff"] > found.tolerance
    assert set(said["prompts"][0]) == {"prompt", "adapter", "merged"}


@pytest.mark.slow
def test_what_a_wider_base_loses_of_itself_is_not_taken_from_the_adapter(
    tiny_model: Path, checkpoint: Path, tmp_path: Path
) -> None:
    adapter = convert(checkpoint, tmp_path / "adapter").adapter
    small = load(adapter / "adapter_model.safetensors")
    small |= {name: value / 1000 for name, value in small.items() if "lora_B" in name}
    save(adapter / "adapter_model.safetensors", small)
    base = as_float32(tiny_model, tmp_path / "base")
    out = merge(base, adapter, tmp_path / "merged", dtype="bf16").out
    found = verify(base, adapter, out, settings=Settings(), prompts=["Who are you?"])
    assert found.agree and found.coarse and found.learned
    assert found.adapter_loss < 0.7 * found.max_logit_diff < found.base_rounding
    assert "The base itself, which is float32, loses" in found.why


def as_float32(model: Path, copy: Path) -> Path:
    """A copy of a bfloat16 model whose float32 weights round to the model's."""
    shutil.copytree(model, copy)
    random, weights = np.random.default_rng(0), {}
    for name, value in load(model / "model.safetensors").items():
        unit = np.spacing(np.abs(value)).astype("f4")
        weights[name] = value.astype("f4") + unit * random.uniform(-0.5, 0.5, value.shape)
    save(copy / "model.safetensors", {name: one.astype("f4") for name, one in weights.items()})
    config = json.loads((copy / "config.json").read_text())
    config["dtype" if "dtype" in config else "torch_dtype"] = "float32"
    (copy / "config.json").write_text(json.dumps(config))
    return copy


@pytest.mark.slow
def test_a_merged_model_whose_answers_are_no_numbers_does_not_agree(
    tiny_model: Path, checkpoint: Path, tmp_path: Path
) -> None:
    out = merge(tiny_model, checkpoint, tmp_path / "merged").out
    weights = load(out / "model.safetensors")
    broken = weights["model.norm.weight"].copy()
    broken[0] = np.nan
    save(out / "model.safetensors", weights | {"model.norm.weight": broken})
    with pytest.raises(Failed, match="NaN"):
        verify(tiny_model, checkpoint, out, settings=Settings(), prompts=["Who are you?"])


def judged(
    difference: float,
    effect: float,
    apart: float = 0.01,
    same: bool = True,
    rounding: float = 0.04,
    base: float = 0.0,
    lost: float | None = None,
) -> Verified:
    found: dict[str, Any] = {
        "difference": difference, "effect": effect, "rounding": rounding, "apart": apart,
        "base": base, "lost": difference if lost is None else lost,
        "given": "float32" if base else "bfloat16", "stored": "bfloat16",
        "prompts": [{"prompt": "?", "adapter": "a", "merged": "a" if same else "b"}],
    }  # fmt: skip
    return module._judge(found)


def test_what_counts_as_agreeing() -> None:
    right = judged(0.05, 5)
    assert right.agree and right.learned and not right.why
    near_tie = judged(0.05, 5, same=False)  # a choice fell the other way
    assert near_tie.agree and "as likely" in near_tie.why
    wrong = judged(0.5, 5, apart=0.5)  # peft's merge, rounded as well, is elsewhere
    assert not wrong.agree and "something else differs" in wrong.why
    bare = judged(5, 5, apart=5)  # as far from the adapter as the bare base
    assert not bare.agree and "nearer to the base" in bare.why
    coarse = judged(0.7, 6, rounding=0.7)  # rounding itself does that, to peft's merge too
    assert coarse.agree and "12%" in coarse.why
    assert coarse.coarse and not near_tie.coarse
    # The flag is the command line's to name: the pane has a key for it.
    assert "--dtype" not in coarse.why and "--dtype" in "\n".join(export_verbs._verified(coarse))
    based = judged(0.7, 6, rounding=0.7, base=0.65, lost=0.1)  # the base alone does that
    assert based.agree and based.coarse and "rounding took" not in based.why
    assert "which is float32" in based.why and "11%" in based.why
    both = judged(0.9, 2, rounding=0.9, base=0.5, lost=0.6)
    assert "rounding took 30%" in both.why and "25%" in both.why
    faint = judged(0.3, 0.25, rounding=0.3, base=0.3, lost=0.01)  # less than the base's own
    assert faint.learned and not judged(0.3, 0, rounding=0.3, base=0.3, lost=0.0).learned
    idle = judged(0.0, 0, apart=0.0, rounding=0.0)  # an adapter that does nothing
    assert idle.agree and not idle.learned
    with pytest.raises(Failed, match="NaN"):
        judged(float("nan"), 5)


def test_code_of_the_model_needs_trust(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"auto_map": {"AutoModel": "x.Y"}}))
    save(tmp_path / "model.safetensors", {"weight": np.zeros(1, "f4")})
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    save(adapter / "adapter_model.safetensors", {"weight": np.zeros(1, "f4")})
    with pytest.raises(Problem, match="trust_remote_code"):
        verify(tmp_path, adapter, tmp_path, settings=Settings())


def test_wrong_paths_are_named_before_anything_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="does not exist"):
        verify(tmp_path / "a", tmp_path / "b", tmp_path / "c", settings=Settings())
    with pytest.raises(Problem, match="is not a model's folder"):
        verify(tmp_path, tmp_path, tmp_path, settings=Settings())
