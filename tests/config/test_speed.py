"""What preflight knows to be faster, and that the trainer does it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.cli.main import main
from engine.config.checks import compiling, gpu, lora, speed
from engine.config.checks.findings import Finding, apply
from engine.config.checks.loaded import Loaded
from engine.config.checks.start import Start
from engine.config.memory import activations, sizing
from engine.config.text.source import ConfigSource
from engine.machine.gpu import Gpu, Gpus
from engine.settings import Settings
from tests.config.test_estimate import BIG

GB = 1_000_000_000
UNKNOWN: dict[str, Any] = {"steps": None, "longest": None, "runs": None, "worker": None}


def start(
    folder: Path,
    card: int,
    *,
    quantised: bool = False,
    checkpointing: bool = True,
    kept: bool = False,
    used: int = 0,
    compiled: bool | None = True,
    packed: bool = True,
    torch: str = "2.11.0+cu130",
    triton: str | None = "3.6.0",
    stage: int = 0,
) -> Start:
    """A training of a 7B model with 2048 tokens, on a GPU with `card` GB."""
    model = folder / "model"
    model.mkdir(exist_ok=True)
    (model / "config.json").write_text(str(BIG).replace("'", '"'))
    llm = {"pretrained_model_name_or_path": str(model), "attn_implementation": "sdpa"}
    values = {
        "model": {
            "type": {"$ref": "xtuner.model:SupervisedFinetune"},
            "llm": llm | {"torch_dtype": {"$ref": "torch:bfloat16"}},
            "lora": {"r": 64, "lora_dropout": 0.1},
            "use_activation_checkpointing": checkpointing,
        },
        "optim_wrapper": {"type": {"$ref": "mmengine.optim:AmpOptimWrapper"}},
        "train_dataloader": {
            "batch_size": 1,
            "dataset": {"max_length": 2048, "pack_to_max_length": packed},
        },
    }
    if compiled is not None:
        values["compile_layers"] = compiled
    if quantised:
        values["model"]["llm"]["quantization_config"] = {  # type: ignore[index]
            "load_in_4bit": True,
            "bnb_4bit_use_double_quant": True,
        }
    if kept:
        values["keep_base_dtype"] = True
    gpu = Gpu(0, "H100", used * GB, card * GB, 0, 30, 70.0, [])
    loaded = Loaded({"values": values, "versions": {"torch": torch, "triton": triton}})
    deepspeed = {"zero_optimization": {"stage": stage}} if stage else None
    return Start(folder / "c.py", loaded, Settings(), [0], deepspeed=deepspeed, machine=Gpus([gpu]))


def codes(begin: Start) -> list[str]:
    return [one.code for one in speed.check(begin)]


def test_a_card_with_room_is_told_what_would_be_faster(tmp_path: Path) -> None:
    assert codes(start(tmp_path, 80)) == ["checkpointing-spare"]
    assert codes(start(tmp_path, 80, kept=True)) == ["checkpointing-spare"]
    assert codes(start(tmp_path, 80, kept=True, checkpointing=False)) == []


def test_a_card_that_is_too_small_is_told_what_would_fit(tmp_path: Path) -> None:
    def told(begin: Start) -> list[Finding]:
        return list(gpu.fits(begin, sizing.of(begin, **UNKNOWN).estimate))

    [keeps] = told(start(tmp_path, 30, kept=True, checkpointing=False))
    assert keeps.code == "gpu-small" and keeps.fix is not None
    assert (keeps.fix.field, keeps.fix.value) == (activations.SETTING, True)
    assert told(start(tmp_path, 30, kept=True)) == [], "with that it fits"
    for checkpointing in (True, False):  # computing twice would not be enough
        [small] = told(start(tmp_path, 12, kept=True, checkpointing=checkpointing))
        assert small.code == "gpu-small" and small.fix is None


@pytest.fixture
def gcc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine on which all that there is is a C compiler; empty it to have none."""
    found = tmp_path / "bin" / "gcc"
    found.parent.mkdir()
    found.write_text("#!/bin/sh\n")
    found.chmod(0o755)
    monkeypatch.setenv("PATH", str(found.parent))
    monkeypatch.delenv("CC", raising=False)
    return found


def test_layers_that_torch_could_compile_are_told(tmp_path: Path, gcc: Path) -> None:
    def told(**more: Any) -> bool:
        return "compile-spare" in codes(start(tmp_path, 24, **{"compiled": None, **more}))

    assert told()
    assert told(compiled=False)
    assert told(stage=2)
    assert not told(compiled=True), "it is set"
    assert not told(packed=False)
    assert not told(stage=3)
    assert told(quantised=True)
    assert not told(triton=None)
    assert not told(torch="2.13.0+cu130")
    gcc.unlink()
    assert not told()


def test_what_torch_could_not_compile_is_told_before_the_start(tmp_path: Path, gcc: Path) -> None:
    def told(**more: Any) -> list[str]:
        return [one.code for one in compiling.check(start(tmp_path, 24, **more))]

    assert told() == []
    assert told(torch="2.12.1") == []
    assert told(compiled=False, packed=False) == []
    assert told(packed=False) == ["compile-unfit"]
    assert told(stage=3) == ["compile-unfit"]
    assert told(triton=None) == ["compile-missing"]
    assert told(torch="2.13.0") == told(torch="3.0.0a0") == ["compile-missing"]
    gcc.unlink()
    [found] = compiling.check(start(tmp_path, 24))
    assert "gcc" in found.why and found.fix is not None


def test_a_card_without_room_is_not(tmp_path: Path) -> None:
    assert codes(start(tmp_path, 24, kept=True)) == []
    assert codes(start(tmp_path, 80, kept=True, used=50)) == []  # others hold it now


@pytest.mark.parametrize(("card", "told"), [(16, False), (24, True)])
def test_four_bits_are_for_cards_that_need_them(tmp_path: Path, card: int, told: bool) -> None:
    assert ("quantised-spare" in codes(start(tmp_path, card, quantised=True, kept=True))) is told


def test_the_fix_adds_the_line_that_our_trainer_reads(tmp_path: Path) -> None:
    path = tmp_path / "config.py"
    path.write_text("lr = 1e-4\n")
    source = ConfigSource.open(path)
    [found] = lora.check(start(tmp_path, 24))
    assert found.code == "lora-float32" and found.fix is not None
    apply(source, found.fix)
    assert source.text == "lr = 1e-4\nkeep_base_dtype = True\n"
    assert not list(lora.check(start(tmp_path, 24, kept=True)))


@pytest.mark.parametrize(
    ("method", "card", "kept"),
    [("lora", 24, False), ("lora", 48, True), ("qlora", 24, False), ("qlora", 40, True)],
)
def test_a_copy_keeps_activations_where_the_card_has_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, card: int, kept: bool
) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps(BIG))
    monkeypatch.chdir(tmp_path)
    name = f"internlm2_5_chat_7b_{method}_custom_sft_e3"
    arguments = ["config", "copy", name, "mine.py", "--model", str(model), "--card", str(card)]
    assert main([*arguments, "--json"]) == 0
    text = (tmp_path / "mine.py").read_text()
    assert f"use_activation_checkpointing = {not kept}\n" in text
