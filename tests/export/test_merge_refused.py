"""What cannot be merged is refused in words, and a merge that breaks off leaves nothing."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from engine.errors import Failed, Problem
from engine.export import artefact, handover
from engine.export.merge import merge
from tests.export.conftest import LAYER, change, load, make_base, save, weights

HERE = Path(__file__).parent
CONFIG = """
lr = 2e-4
max_length = 512
optim_type = AdamW
betas = [{betas}]
files = ['data/数据.json', 'data/lines.json', 'data/table.csv', 'data/gone.jsonl']
"""


def test_what_does_not_fit_fp16_is_refused(base: Path, adapter: Path, tmp_path: Path) -> None:
    tensors = weights()
    tensors["model.norm.weight"][2] = 1e6
    save(base / "model.safetensors", tensors)
    with pytest.raises(Failed, match=r"model\.norm\.weight does not fit into fp16"):
        merge(base, adapter, tmp_path / "out", dtype="fp16")
    assert not (tmp_path / "out").exists()


def rename(folder: Path, names: Callable[[str], str]) -> None:
    path = folder / "adapter_model.safetensors"
    save(path, {names(name): value for name, value in load(path).items()})


def test_every_weight_must_have_a_place(base: Path, adapter: Path, tmp_path: Path) -> None:
    rename(adapter, lambda name: name.replace("down_proj", "up_proj"))
    with pytest.raises(Failed, match=r"1 of its weights .*up_proj"):
        merge(base, adapter, tmp_path / "out")
    rename(adapter, lambda name: name.replace("up_proj.lora_B", "x.lora_B"))
    with pytest.raises(Problem, match="do not fit each other"):
        merge(base, adapter, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_another_base_is_noticed(base: Path, adapter: Path, tmp_path: Path) -> None:
    tensors = weights()
    tensors[f"{LAYER}.mlp.down_proj.weight"] = np.zeros((6, 7), ml_dtypes.bfloat16)
    save(base / "model.safetensors", tensors)
    with pytest.raises(Failed, match=r"\[6, 7\] in the base and \[6, 5\] in the adapter"):
        merge(base, adapter, tmp_path / "out")


def test_a_broken_adapter_is_not_merged(base: Path, adapter: Path, tmp_path: Path) -> None:
    path = adapter / "adapter_model.safetensors"
    tensors = {name: value.copy() for name, value in load(path).items()}
    next(iter(tensors.values()))[0, 0] = np.nan
    save(path, tensors)
    with pytest.raises(Failed, match="NaN"):
        merge(base, adapter, tmp_path / "out")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["adapter", "base"]


@pytest.mark.parametrize(
    "values",
    [
        {"lora_alpha": None}, {"lora_alpha": "x"}, {"lora_alpha": float("inf")}, {"r": []},
        {"alpha_pattern": "x"}, {"rank_pattern": [None]}, {"alpha_pattern": {"q_proj": "x"}},
    ],
)  # fmt: skip
def test_numbers_that_are_none(
    base: Path, adapter: Path, tmp_path: Path, values: dict[str, Any]
) -> None:
    change(adapter, **values)
    with pytest.raises(Problem, match="Cannot merge the adapter") as caught:
        merge(base, adapter, tmp_path / "out")
    assert caught.value.status == 2 and caught.value.todo


@pytest.mark.parametrize(
    "values",
    [
        {"peft_type": "LOHA"},
        {"init_lora_weights": "pissa_niter_4"}, {"trainable_token_indices": [3]},
        {"something_new": 1},
    ],
)  # fmt: skip
def test_other_methods_are_refused(
    base: Path, adapter: Path, tmp_path: Path, values: dict[str, Any]
) -> None:
    change(adapter, **values)
    with pytest.raises(Problem) as caught:
        merge(base, adapter, tmp_path / "out")
    assert str(next(iter(values.values()))) in caught.value.why or next(iter(values)) in str(
        caught.value
    )


def test_bases_that_cannot_be_used(adapter: Path, tmp_path: Path) -> None:
    def broken(name: str, **config: Any) -> Path:
        return make_base(tmp_path / name, **config)

    quantized = broken("quantized", quantization_config={"load_in_4bit": True})
    pickled = broken("pickled")
    (pickled / "model.safetensors").unlink()
    empty = broken("empty")
    (empty / "model.safetensors").unlink()
    (empty / "pytorch_model.bin").unlink()
    torn = broken("torn")
    (torn / "model.safetensors").write_bytes((torn / "model.safetensors").read_bytes()[:-1])
    pointer = broken("pointer")
    (pointer / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    shard = broken("shard", shards=2)
    next(iter(sorted(shard.glob("*.safetensors")))).unlink()
    link = broken("link", shards=2)
    linked = max(link.glob("*.safetensors"))
    linked.unlink()
    linked.symlink_to(tmp_path / "blob")
    empty_shard = broken("empty-shard", shards=2)
    max(empty_shard.glob("*.safetensors")).write_bytes(b"")
    index = broken("index", shards=2)
    (index / "model.safetensors.index.json").write_text("{")
    files = broken("files", shards=2)
    (files / "model.safetensors.index.json").write_text('{"weight_map": ["a"]}')
    less = broken("less", shards=2)
    save(min(less.glob("*.safetensors")), {})
    config = broken("config")
    (config / "config.json").write_text("[]")
    said = set()
    bases = [quantized, pickled, empty, torn, pointer, shard, link, empty_shard, index, files, less,
             config, tmp_path / "none", adapter, pickled / "LICENSE"]  # fmt: skip
    for base in bases:
        with pytest.raises(Problem) as caught:
            merge(base, adapter, tmp_path / "out")
        assert caught.value.status == 2 and caught.value.todo
        said.add(tuple(caught.value.lines()))
        if base not in (quantized, pickled):
            with pytest.raises(Problem):
                handover.describe(base)
    assert len(said) == len(bases)
    assert not (tmp_path / "out").exists()
    assert handover.describe(quantized).commands, "its weights are all there"


@pytest.mark.parametrize("where", ["config", "adapter", "beside", "cache"])
def test_a_quantized_base_leads_to_its_original(
    adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    cache = tmp_path / "home" / "hub" / "models--some--model" / "snapshots" / "abc"
    cache.parent.mkdir(parents=True)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    names = {"beside": tmp_path / "model", "cache": cache}
    original = make_base(names.get(where, tmp_path / "original"))
    told = {"config": str(original), "cache": "some/model-GPTQ-Int4"}.get(where, "")
    quantized = make_base(
        tmp_path / "model-bnb-4bit", quantization_config={"quant_method": "x"}, _name_or_path=told
    )
    change(adapter, base_model_name_or_path=str(original) if where == "adapter" else "")
    made = merge(quantized, adapter, tmp_path / "out")
    assert made.base.samefile(original)
    plain = merge(original, adapter, tmp_path / "plain").out
    assert (made.out / "config.json").read_bytes() == (plain / "config.json").read_bytes()
    weights_of = [(one / "model.safetensors").read_bytes() for one in (made.out, plain)]
    assert weights_of[0] == weights_of[1]


def test_too_little_memory_is_seen_before(
    base: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    psutil = pytest.importorskip("psutil")
    now = psutil.virtual_memory()._replace(available=1 << 20)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: now)
    with pytest.raises(Failed, match="not enough memory"):
        merge(base, adapter, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_result_never_replaces_what_is_merged(base: Path, adapter: Path) -> None:
    for out in (base, adapter, base.parent):
        with pytest.raises(Problem, match="cannot be the result"):
            merge(base, adapter, out, force=True)
    assert load(base / "model.safetensors")


def test_an_existing_target_is_refused(base: Path, adapter: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").touch()
    with pytest.raises(Problem, match="exists already"):
        merge(base, adapter, out)
    assert (out / "mine").exists()
    merge(base, adapter, out, force=True)
    assert not (out / "mine").exists()


def test_cancel_and_kill_leave_nothing(base: Path, adapter: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    with pytest.raises(Failed, match="cancelled"):
        merge(base, adapter, tmp_path / "out", cancelled=lambda: True)
    assert sorted(tmp_path.iterdir()) == before
    code = (
        "import sys, time; from pathlib import Path; from engine.export.merge import merge;"
        "merge(*map(Path, sys.argv[1:]),"
        "progress=lambda *_: print('on', flush=True) or time.sleep(60))"
    )
    arguments = [sys.executable, "-c", code, base, adapter, tmp_path / "out"]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "on\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert not (tmp_path / "out").exists()
    merge(base, adapter, tmp_path / "out")
    assert sorted(tmp_path.iterdir()) == sorted([*before, tmp_path / "out"])


def test_what_paths_are(base: Path, adapter: Path, torch_files: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for step in (5, 12):
        shutil.copy(torch_files / "iter_12.pth", run / f"iter_{step}.pth")
    whole = (run / "iter_12.pth").read_bytes()
    (run / "iter_3.pth").write_bytes(whole[: len(whole) // 2])
    (run / "iter_4.pth").touch()
    (run / "iter_6.pth").mkdir()
    (run / "iter_6.pth" / "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt").touch()
    zero2 = HERE.parent / "fixtures/zero2/checkpoint"
    kinds = {
        run / "iter_3.pth": artefact.TORN,
        run / "iter_4.pth": artefact.TORN,
        run / "iter_6.pth": artefact.TORN,
        zero2: artefact.CHECKPOINT_DEEPSPEED,
        zero2 / "mp_rank_00_model_states.pt": artefact.DEEPSPEED_PART,
        base / "config.json": artefact.MODEL,
        adapter / "adapter_model.safetensors": artefact.ADAPTER,
        base: artefact.MODEL,
        adapter: artefact.ADAPTER,
        run: artefact.RUN,
        run / "iter_5.pth": artefact.CHECKPOINT_FILE,
        adapter / "xtuner_config.py": artefact.CONFIG,
        base / "LICENSE": artefact.UNKNOWN,
    }
    assert {path: artefact.identify(path).kind for path in kinds} == kinds
    assert str(run / "iter_12.pth") in artefact.identify(run).hint
    hint = artefact.identify(run / "iter_3.pth").hint
    assert "iter_12.pth, iter_6.pth, iter_5.pth" in hint, "the newest, and no more of hundreds"
    assert "iter_12.pth" in artefact.identify(run / "iter_3.pth").hint
    assert str(zero2) in artefact.identify(zero2 / "mp_rank_00_model_states.pt").hint
    for path in kinds:  # each says something of its own, and what to do
        found = artefact.identify(path)
        assert found.words and found.hint and "{" not in found.hint
    with pytest.raises(Problem, match="does not exist"):
        artefact.identify(tmp_path / "none")
