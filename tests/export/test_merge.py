"""The merged model is the base with the adapter in it: nothing more, nothing less, whole or not."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import ml_dtypes
import numpy as np
import pytest

from engine import __version__
from engine.errors import Failed
from engine.export import gpu_merge
from engine.export import merge as module
from engine.export.adapter import Adapter
from engine.export.base_model import BaseModel
from engine.export.convert import convert
from engine.export.gpu_merge import GpuMerge
from engine.export.merge import merge
from engine.settings import Settings
from tests.export.conftest import LAYER, change, load, make_base, same, sums_hold, weights
from tests.export.test_convert import command

HERE = Path(__file__).parent


def test_weights(base: Path, adapter: Path, tmp_path: Path) -> None:
    made = merge(base, adapter, tmp_path / "out")
    result, before = load(tmp_path / "out/model.safetensors"), weights()
    lora = load(adapter / "adapter_model.safetensors")
    assert list(result) == list(before)
    for name in (f"{LAYER}.self_attn.q_proj", f"{LAYER}.mlp.down_proj"):
        a, b = (lora[f"base_model.model.{name}.lora_{part}.weight"] for part in "AB")
        exact = before[f"{name}.weight"].astype("f8") + 4.0 * (b.astype("f8") @ a.astype("f8"))
        ulp = 2.0 ** (np.frexp(exact)[1] - 8)
        assert np.all(np.abs(result[f"{name}.weight"].astype("f8") - exact) <= ulp * 0.51)
        assert not same(result[f"{name}.weight"], before[f"{name}.weight"])
    saved = lora["base_model.model.lm_head.weight"].astype(ml_dtypes.bfloat16)
    assert same(result["lm_head.weight"], saved)
    for name in ("model.embed_tokens.weight", "model.norm.weight"):
        assert same(result[name], before[name])
    assert (made.dtype, made.out) == ("bf16", tmp_path / "out")
    assert made.bytes == (tmp_path / "out/model.safetensors").stat().st_size
    assert made.peak_bytes > 1 << 20


def test_what_belongs_to_the_model_travels(base: Path, adapter: Path, tmp_path: Path) -> None:
    out = merge(base, adapter, tmp_path / "out").out
    assert sorted(one.name for one in out.iterdir()) == [
        "LICENSE", "README.md", "SHA256SUMS", "chat_template.jinja", "config.json",
        "generation_config.json", "model.safetensors", "modeling_own.py", "tokenizer.json",
        "training.json", "xtuner_config.py",
    ]  # fmt: skip
    assert (out / "config.json").read_bytes() == (base / "config.json").read_bytes()
    assert (out / "xtuner_config.py").read_text() == (adapter / "xtuner_config.py").read_text()
    assert not any(one.stat().st_mode & 0o077 for one in (out, *out.iterdir()))
    sums_hold(out)


CONFIG = """
lr = 2e-4
max_length = 512
optim_type = AdamW
betas = [{betas}]
files = ['data/数据.json', 'data/lines.json', 'data/table.csv', 'data/gone.jsonl']
"""


def test_the_card_says_what_it_was_made_of(base: Path, torch_files: Path, tmp_path: Path) -> None:
    run, data = tmp_path / "runs" / "assistant-01", tmp_path / "data"
    data.mkdir()
    (data / "数据.json").write_text('[{"a": "]"}, {"a": [2]}\n,3 ]')
    (data / "lines.json").write_text('{"a": 1}\n\n{"a": 2}\n{"a": 3}')
    (data / "table.csv").write_text("a,b\n1,2\n")
    for start, losses in (
        ("20260101_000000", {1: 8.5, 2: 4.5, 3: 99.0}),
        ("20260101_000001", {3: float("nan"), 12: 0.25, 15: 77.0}),  # resumed at 2
    ):
        (run / start / "vis_data").mkdir(parents=True)
        lines = [json.dumps({"loss": loss, "step": step}) for step, loss in losses.items()]
        (run / start / "vis_data" / "scalars.json").write_text("\n".join(lines) + '\n{"loss')
    versions = {"torch": "2.10", "peft": "0.21.2"}
    record = {"run": "assistant-01", "workspace": str(tmp_path), "versions": versions}
    (run / "run.json").write_text(json.dumps(record))
    checkpoint = Path(shutil.copy(torch_files / "iter_12.pth", run))
    adapter = convert(checkpoint, tmp_path / "adapter").adapter
    config = adapter / "xtuner_config.py"
    config.write_text(config.read_text() + CONFIG.format(betas="0.9, " * 40))

    out = merge(base, adapter, tmp_path / "out").out
    card = (out / "README.md").read_text()
    assert 'base_model: "/models/base"' in card and "Rank 4, alpha 16" in card
    assert "Run `assistant-01`, checkpoint `iter_12.pth` of step 12." in card
    assert "Loss 8.5 at the start, 0.25 at the end." in card
    for file, rows in (("数据.json", 3), ("lines.json", 3), ("table.csv", "?")):
        digest = hashlib.sha256((data / file).read_bytes()).hexdigest()
        assert f"| `{file}` | {rows} | `{digest}` |" in card
    assert "| `gone.jsonl` | ? | the file was not there |" in card
    for name, value in {**versions, "tunedeck": __version__}.items():
        assert f"| {name} | `{value}` |" in card
    assert "| lr | `0.0002` |\n" in card and "| optim_type | `AdamW` |" in card
    assert "| betas |" not in card and config.read_text().rstrip() in card
    assert "](loss.svg)" in card
    picture = ElementTree.parse(out / "loss.svg")
    words = [one.text for one in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert words == [
        "2",
        "4",
        "6",
        "8",
        "2",
        "4",
        "6",
        "8",
        "10",
        "12",
        "loss",
    ]  # not what came later
    sums_hold(out)

    # Trained on further, the model is a base: what was said of it is not carried over.
    again = merge(out, adapter, tmp_path / "again").out
    assert (again / "xtuner_config.py").read_text() == config.read_text()
    shutil.rmtree(run)
    later = merge(out, adapter, tmp_path / "later").out
    assert "](loss.svg)" not in (later / "README.md").read_text()
    assert not (later / "loss.svg").exists()


def test_shards_keep_their_layout(adapter: Path, tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", shards=3)
    heard: list[tuple[int, int]] = []
    out = merge(base, adapter, tmp_path / "out", progress=lambda *now: heard.append(now)).out
    whole = merge(make_base(tmp_path / "one"), adapter, tmp_path / "out1").out
    single = load(whole / "model.safetensors")
    index = json.loads((out / "model.safetensors.index.json").read_text())
    assert index["weight_map"] == json.loads(
        (base / "model.safetensors.index.json").read_text()
    ).get("weight_map")
    assert index["metadata"]["total_size"] == sum(one.nbytes for one in single.values())
    for file in base.glob("*.safetensors"):
        assert list(load(out / file.name)) == list(load(file))
        assert all(same(value, single[name]) for name, value in load(out / file.name).items())
    assert heard[-1][0] == heard[-1][1] >= index["metadata"]["total_size"]


def test_a_tied_head_that_was_trained_is_untied(adapter: Path, tmp_path: Path) -> None:
    # Some bases store the head although the embedding stands in for it.
    base = make_base(tmp_path / "base", tie_word_embeddings=True)
    out = merge(base, adapter, tmp_path / "out").out
    result, lora = load(out / "model.safetensors"), load(adapter / "adapter_model.safetensors")
    saved = lora["base_model.model.lm_head.weight"].astype(ml_dtypes.bfloat16)
    assert same(result["lm_head.weight"], saved)
    assert same(result["model.embed_tokens.weight"], weights()["model.embed_tokens.weight"])
    assert json.loads((out / "config.json").read_text())["tie_word_embeddings"] is False


def test_another_dtype(base: Path, adapter: Path, tmp_path: Path) -> None:
    made = merge(base, adapter, tmp_path / "out", dtype="fp32")
    assert made.dtype == "fp32"
    result = load(made.out / "model.safetensors")
    assert {str(one.dtype) for one in result.values()} == {"float32"}
    assert same(result["model.norm.weight"], weights()["model.norm.weight"].astype("f4"))
    assert json.loads((made.out / "config.json").read_text())["torch_dtype"] == "float32"


def test_a_checkpoint_merges_as_its_adapter_does(
    base: Path, adapter: Path, torch_files: Path, tmp_path: Path
) -> None:
    one = merge(base, adapter, tmp_path / "one").out
    other = merge(base, torch_files / "iter_12.pth", tmp_path / "other").out
    names = sorted(file.name for file in one.iterdir())
    assert names == sorted(file.name for file in other.iterdir())
    assert all((one / name).read_bytes() == (other / name).read_bytes() for name in names)


def test_an_adapter_as_xtuner_writes_it(
    base: Path, adapter: Path, torch_files: Path, tmp_path: Path
) -> None:
    one = merge(base, adapter, tmp_path / "one").out
    code = (
        "import sys, torch; from safetensors.torch import load_file;"
        "torch.save(load_file(sys.argv[1]), sys.argv[2])"
    )
    file = adapter / "adapter_model.safetensors"
    subprocess.run([sys.executable, "-c", code, file, adapter / "adapter_model.bin"], check=True)
    file.unlink()
    other = merge(base, adapter, tmp_path / "other").out
    assert (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_the_gpu_worker_computes_the_same(
    base: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch on the CPU does what it would do on a card."""
    one = load(merge(base, adapter, tmp_path / "one").out / "model.safetensors")

    def on_cpu(settings: Settings, _device: str, changed: int) -> GpuMerge:
        assert changed == 8 * 6 + 6 * 5
        return GpuMerge(settings, "cpu")

    monkeypatch.setattr(gpu_merge, "start", on_cpu)
    other = load(merge(base, adapter, tmp_path / "other").out / "model.safetensors")
    for name, value in one.items():
        near = np.abs(value.astype("f4") - other[name].astype("f4"))
        assert np.all(near <= np.abs(value.astype("f4")) * 2.0**-7), name
    with pytest.raises(Failed, match="does not fit into fp16"):
        change(adapter, lora_alpha=1e7)
        merge(base, adapter, tmp_path / "large", dtype="fp16")
    assert not (tmp_path / "large").exists()


def test_any_stretch_of_a_file_can_be_made_alone(adapter: Path, tmp_path: Path) -> None:
    """Chunks end anywhere: within the header, a row, an element."""
    base = make_base(tmp_path / "base")
    whole = (merge(base, adapter, tmp_path / "out").out / "model.safetensors").read_bytes()
    with BaseModel(base) as model, Adapter(adapter) as change_:
        file = module._plan(model, change_, None)["model.safetensors"]
        for step in (1, 3, 7, 64, len(whole)):
            made = bytearray(len(whole))
            for begin in reversed(range(0, len(whole), step)):
                file.into(begin, memoryview(made)[begin : begin + step])
            assert made == whole, step


def test_the_verb(base: Path, adapter: Path, tmp_path: Path) -> None:
    done = command("merge", base, adapter, tmp_path / "out", "--json", "--dtype", "fp16")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["dtype"] == "fp16"
    assert set(json.loads(done.stdout)) == {
        "out", "dtype", "bytes", "seconds", "peak_bytes", "base", "device",
    }  # fmt: skip
    wrong = command("merge", adapter, base, tmp_path / "out2")
    assert wrong.returncode == 2 and len(wrong.stderr.splitlines()) <= 3
    assert not (tmp_path / "out2").exists()
    assert command("merge", base, adapter, tmp_path / "out2", "--device", "cuda:0").returncode == 2


@pytest.fixture(scope="module")
def peft_says(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("peft")
    program = [sys.executable, HERE / "peft_says.py", folder]
    done = subprocess.run(program, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    said: dict[str, dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return said


CASES = ["plain", "patterns", "rslora", "wide base", "pickles", "dora", "dora conv1d", "internlm2",
         "internlm2 saved", "biases", "lora bias", "conv1d", "saved", "embedding",
         "tied head", "tied embedding", "tied saved"]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_it_equals_peft(peft_says: dict[str, dict[str, Any]], case: str) -> None:
    said = peft_says[case]
    assert said["effect"] > 0.1 and said["shards"] > 1
    assert said["logits"] < 1e-5
    assert max(said["apart"], said["apart_bf16"]) < 1e-4, "verify would find a fault"
    # peft merges LoRA on one of two tied layers into both; the adapter on its
    # base changes one only, and so do we.
    if case not in ("tied head", "tied embedding"):
        assert said["ulps"] <= 1
        assert set(said["names"]) <= {"lm_head.weight"}
