"""What can be loaded, what is said about anything else, and whether it fits."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from engine.chat import fit, sources
from engine.chat.session import ChatSession, ModelSpec
from engine.errors import Failed, Problem
from engine.settings import Settings
from tests.support.nvml import Card, Nvml


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The outside of a model: 3 MB of bf16 weights."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"dtype": "bfloat16"}')
    (folder / "model.safetensors").write_bytes((struct.pack("<Q", 2) + b"{}").ljust(3_000_000))
    return folder


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", 2) + b"{}")
    return folder


def test_an_adapter_as_model_says_use_adapter(adapter: Path) -> None:
    with pytest.raises(Problem) as caught:
        sources.check(ModelSpec(str(adapter)))
    assert "It is an adapter." in caught.value.lines()
    assert f"--adapter {adapter}" in caught.value.todo
    assert caught.value.status == 2


def test_an_adapter_that_is_not_whole_says_so(model: Path, adapter: Path) -> None:
    spec = ModelSpec(str(model), adapter=str(adapter))
    sources.check(spec)
    weights = adapter / "adapter_model.safetensors"
    header = b'{"x": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}'
    weights.write_bytes(struct.pack("<Q", len(header)) + header + bytes(15))
    with pytest.raises(Problem, match="is not whole") as caught:
        sources.check(spec)
    assert caught.value.why == "Not whole: adapter_model.safetensors"
    weights.unlink()
    with pytest.raises(Problem, match="is not whole") as caught:
        sources.check(spec)
    assert caught.value.why == "It has no weights (adapter_model.safetensors)."
    assert "convert its checkpoint anew" in caught.value.todo
    (adapter / "adapter_model.bin").write_bytes(b"PK")  # PEFT takes that, too
    sources.check(spec)


def test_a_model_as_adapter_says_so(model: Path) -> None:
    with pytest.raises(Problem, match="It is a whole model"):
        sources.check(ModelSpec(str(model), adapter=str(model)))


def test_other_things_are_named(tmp_path: Path, model: Path) -> None:
    run, empty = tmp_path / "run", tmp_path / "empty"
    run.mkdir()
    empty.mkdir()
    (run / "iter_20.pth").write_bytes(b"x")
    for path, words in (
        (tmp_path / "nothing", "nothing there"),
        (run / "iter_20.pth", "tunedeck convert"),
        (run, "folder of a training run"),
        (empty, "no config.json"),
        (model / "config.json", "Give the folder"),
    ):
        with pytest.raises(Problem, match=words):
            sources.check(ModelSpec(str(path)))


def test_a_model_without_weights_or_with_a_broken_config(model: Path) -> None:
    (model / "config.json").write_text('{"dtype": ')
    with pytest.raises(Problem, match="line 1 column 11"):
        fit.read(ModelSpec(str(model)))
    (model / "model.safetensors").unlink()
    (model / "config.json").write_text("{}")
    with pytest.raises(Problem, match="no weights"):
        sources.check(ModelSpec(str(model)))


def test_needs_follow_the_type(model: Path, nvml: Nvml) -> None:
    assert fit.read(ModelSpec(str(model))).needs == pytest.approx(6_000_000 * fit.ROOM)
    assert fit.read(ModelSpec(str(model), dtype="bf16")).needs == pytest.approx(3e6 * fit.ROOM)
    assert fit.read(ModelSpec(str(model))).fits


@pytest.mark.parametrize("device", ["cuda:1", "cuda", "tpu"])
def test_a_device_that_is_not_there_is_told_before_anything_starts(
    model: Path, nvml: Nvml, device: str
) -> None:
    if device != "cuda":
        nvml.set(Card())
    with pytest.raises(Problem, match=f"There is no device {device}"):
        fit.read(ModelSpec(str(model), device=device))


def test_a_model_too_big_is_refused_before_anything_starts(
    model: Path, nvml: Nvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit, "_host_free", lambda: 1_000_000)
    session = ChatSession(Settings())
    with pytest.raises(Failed, match=r"needs about 6.6 MB of 1.0 MB free \(memory\)"):
        session.load("A", ModelSpec(str(model)))
    assert session.dead, "no process was started for it"


def test_the_emptiest_gpu_counts_or_all_of_them(model: Path, nvml: Nvml) -> None:
    needs = 3_300_000 + fit._CUDA
    nvml.set(Card(used=10, total=20), Card(total=needs + 1))
    found = fit.read(ModelSpec(str(model)))
    assert (found.where, found.needs, found.fits) == ("GPU 1", needs, True)
    nvml.set(Card(total=needs - 1), Card(total=needs - 1))
    found = fit.read(ModelSpec(str(model)))
    assert (found.where, found.fits) == ("2 GPUs", True)
    assert fit.read(ModelSpec(str(model), device="cuda:0")).fits is False
    assert fit.read(ModelSpec(str(model), device="cpu")).where == "memory"


def test_code_of_the_models_own_needs_somebodys_word(model: Path) -> None:
    from engine.chat.session import _trust

    assert _trust(ModelSpec(str(model), trust=True)) is False, "there is nothing to trust"
    (model / "config.json").write_text(json.dumps({"auto_map": {"AutoModel": "x.Y"}}))
    with pytest.raises(Problem, match="Read that code"):
        _trust(ModelSpec(str(model)))
    assert _trust(ModelSpec(str(model), trust=True))
    (model / "xtuner_config.py").write_text("model = dict(llm=dict(trust_remote_code=True))")
    assert _trust(ModelSpec(str(model)))
