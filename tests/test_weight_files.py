"""Whether a model's weights are all there: told from names, sizes and headers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from engine import weight_files
from engine.chat import sources
from engine.errors import Problem
from engine.export import handover, verify
from engine.export.base_model import BaseModel
from engine.settings import Settings
from tests.export.conftest import make_base, save

FIRST, SECOND = (f"model-0000{number}-of-00002.safetensors" for number in (1, 2))
INDEX = "model.safetensors.index.json"


def spoil(model: Path, name: str) -> None:
    """Do to `model` what befalls models."""
    last = model / SECOND
    if name == "nothing":
        return
    if name == "index":
        (model / INDEX).write_text("{")
    elif name == "less":
        save(last, {})
    else:
        content = last.read_bytes()
        last.unlink()
        if name == "link":
            last.symlink_to("/gone/blob")
        elif name == "folder":
            last.mkdir()
        elif name != "missing":
            kinds = {"empty": b"", "cut": content[:-1], "pointer": b"version https://git-lfs"}
            last.write_bytes(kinds.get(name, b"\xff" * 200))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nothing", ""),
        ("missing", f"Missing: {SECOND}"),
        ("link", f"Missing: {SECOND} → /gone/blob"),
        ("folder", f"Missing: {SECOND}"),
        ("empty", f"Not whole: {SECOND}"),
        ("cut", f"Not whole: {SECOND}"),
        ("garbage", f"Not whole: {SECOND}"),
        ("pointer", f"Never downloaded (Git LFS pointers): {SECOND}"),
        ("index", f"Its index cannot be read: {INDEX}"),
        ("less", "In no file, though its index names it: "),
    ],
)
def test_what_befalls_a_model_is_told_before_it_is_loaded(
    tmp_path: Path, name: str, says: str
) -> None:
    model = make_base(tmp_path / "model", shards=2)
    (model / "pytorch_model.bin").unlink()
    spoil(model, name)
    told = weight_files.fault(model)
    assert told.startswith(says) and bool(told) == bool(says)
    spec = sources.ModelSpec(str(model))
    if not says:
        sources.check(spec)
        assert handover.describe(model).commands
        return
    whole = make_base(tmp_path / "whole")
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    looks: list[Callable[[], object]] = [
        lambda: sources.check(spec),
        lambda: handover.describe(model),
        lambda: verify.verify(model, adapter, whole, settings=Settings()),
        lambda: verify.verify(whole, adapter, model, settings=Settings()),
        lambda: verify.verify_model(model, settings=Settings()),
    ]
    for look in looks:
        with pytest.raises(Problem) as caught:
            look()
        assert caught.value.why == told and caught.value.todo
    with pytest.raises(Problem, match="is not whole") as caught:
        verify.verify(whole, adapter, whole, settings=Settings())
    assert caught.value.why == weight_files.fault_of_adapter(adapter) != ""


@pytest.mark.parametrize("stale", [INDEX, "pytorch_model.bin.index.json"])
def test_an_index_beside_a_single_file_is_not_heeded(tmp_path: Path, stale: str) -> None:
    """As by transformers: a download without the other format's weights still has its index."""
    model = make_base(tmp_path / "model")
    (model / "pytorch_model.bin").unlink(missing_ok=True)
    (model / stale).write_text(json.dumps({"weight_map": {"norm.weight": "gone-1-of-2.bin"}}))
    assert weight_files.named(model) == ["model.safetensors"] and not weight_files.fault(model)
    sources.check(sources.ModelSpec(str(model)))
    assert handover.describe(model).commands
    with BaseModel(model) as base:
        assert list(base.shards) == ["model.safetensors"]


def test_weights_of_other_names_are_handed_over(tmp_path: Path) -> None:
    model = make_base(tmp_path / "model")
    for file in ("model.safetensors", "pytorch_model.bin"):
        (model / file).unlink()
    assert "no weights" in weight_files.fault(model)
    with pytest.raises(Problem, match="no weights"):
        handover.describe(model)
    (model / "consolidated.00.pth").write_bytes(b"x")
    assert handover.describe(model).commands


def test_a_config_that_is_none_is_told_before_a_model_is_loaded(tmp_path: Path) -> None:
    model = make_base(tmp_path / "model")
    (model / "config.json").write_text(json.dumps([]))
    with pytest.raises(Problem) as caught:
        sources.check(sources.ModelSpec(str(model)))
    assert "JSON object" in caught.value.why and caught.value.todo
