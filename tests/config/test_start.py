"""What depends on the machine: GPUs (as NVML would show them), versions, folders, disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.config.checks import deepspeed as check_deepspeed
from engine.config.checks import findings
from engine.config.checks import gpu as check_gpu
from engine.config.checks import lora as check_lora
from engine.config.checks import place as check_place
from engine.config.checks import rules as check_rules
from engine.config.checks import values as check_values
from engine.config.checks import versions as check_versions
from engine.config.checks.loaded import Loaded
from engine.config.checks.start import Start
from engine.config.checks.wiring import Wiring
from engine.config.memory.estimate import Estimate
from engine.machine import gpu, host, memory
from engine.machine.gpu import Gpu, Gpus
from engine.settings import Settings
from tests.config.test_estimate import BIG
from tests.support.nvml import Card, Instance, Nvml

GB = 1_000_000_000
H100 = Gpu(0, "NVIDIA H100", 1 * GB, 80 * GB, 0, 35, 72.0, [], (9, 0))
V100 = Gpu(1, "Tesla V100", 0, 16 * GB, 0, 35, 40.0, [], (7, 0))
M60 = Gpu(2, "Tesla M60", 7 * GB, 8 * GB, 0, 35, 40.0, None, (5, 2))
VERSIONS = {
    "accelerate": "1.15.0",
    "bitsandbytes": "0.50.2",
    "datasets": "4.8.5",
    "deepspeed": "0.19.8",
    "flash_attn": "2.8.0",
    "mmengine": "0.10.7",
    "peft": "0.21.2",
    "torch": "2.10.0+cu128",
    "transformers": "4.57.6",
    "xtuner": "0.2.0",
}


def start(
    values: dict[str, Any] | None = None,
    gpus: list[int] | None = None,
    machine: tuple[Gpu, ...] = (),
    versions: dict[str, str | None] | None = None,
    **more: Any,
) -> Start:
    answer = {"values": values or {}, "versions": VERSIONS | (versions or {})}
    return Start(Path("c.py"), Loaded(answer), Settings(), gpus, machine=Gpus([*machine]), **more)


def nested(**paths: Any) -> dict[str, Any]:
    """``nested(model__llm__x=1)`` is ``{"model": {"llm": {"x": 1}}}``."""
    tree: dict[str, Any] = {}
    for path, value in paths.items():
        *above, last = path.split("__")
        place = tree
        for part in above:
            place = place.setdefault(part, {})
        place[last] = value
    return tree


def codes(found: Any) -> list[str]:
    return [one.code for one in found]


AMP = {"type": {"$ref": "mmengine.optim:AmpOptimWrapper"}, "dtype": "bfloat16"}
QLORA = nested(model__llm__quantization_config__load_in_4bit=True, model__lora__r=64)
INT8 = nested(model__llm__quantization_config__load_in_8bit=True, model__lora__r=64)
FLASH = nested(model__llm__attn_implementation="flash_attention_2")


@pytest.mark.parametrize(
    ("values", "card", "expected"),
    [
        ({"optim_wrapper": AMP}, H100, []),
        ({"optim_wrapper": AMP}, V100, ["bf16-gpu"]),
        ({"optim_wrapper": AMP | {"dtype": "float16"}}, V100, []),
        (QLORA, H100, []),
        (QLORA, V100, []),
        (QLORA, M60, ["bits-gpu"]),
        (INT8, V100, ["bits-gpu"]),
        (FLASH, H100, []),
        (FLASH, V100, ["flash-gpu"]),
        (
            {"optim_wrapper": AMP} | nested(model__llm__torch_dtype={"$ref": "torch:float16"}),
            H100,
            ["fp16-weights"],
        ),
        (
            {"optim_wrapper": AMP} | nested(model__llm__torch_dtype={"$ref": "torch:bfloat16"}),
            H100,
            ["fp16-weights"],
        ),
        (
            {"optim_wrapper": AMP} | nested(model__llm__torch_dtype={"$ref": "torch:float32"}),
            H100,
            [],
        ),
        ({"optim_wrapper": AMP} | FLASH, H100, ["fp16-weights"]),
        (
            {"optim_wrapper": AMP}
            | nested(model__llm__attn_implementation="flash_attention_2", model__lora__r=64),
            H100,
            [],
        ),
        ({"optim_wrapper": AMP}, None, ["amp-cpu"]),
        (QLORA, None, ["quantised-cpu"]),
        (INT8, None, ["quantised-cpu"]),
        (FLASH, None, ["flash-cpu"]),
    ],
)
def test_what_a_device_cannot_do_is_said(
    values: dict[str, Any], card: Gpu | None, expected: list[str]
) -> None:
    machine = () if card is None else (card,)
    found = list(check_gpu.check(start(values, machine=machine)))
    assert codes(found) == expected
    assert all(one.what and one.todo for one in found if one.code != "quantised-cpu")


def test_the_asked_for_card_is_the_one_that_is_looked_at() -> None:
    cards = (H100, V100)
    assert codes(check_gpu.check(start({"optim_wrapper": AMP}, machine=cards))) == []
    assert codes(check_gpu.check(start({"optim_wrapper": AMP}, [1], cards))) == ["bf16-gpu"]
    both = list(check_gpu.check(start({"optim_wrapper": AMP}, [0, 7], cards)))
    assert codes(both) == ["gpu-missing"]
    assert "7" in both[0].what and "0, 1" in both[0].why
    assert codes(check_gpu.check(start({"optim_wrapper": AMP}, [], cards))) == ["amp-cpu"]


def test_the_cards_are_those_that_may_be_used(nvml: Nvml, monkeypatch: pytest.MonkeyPatch) -> None:
    nvml.set(Card(capability=(7, 0)), Card(), Card())
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,1")

    def alarms(*wanted: int) -> list[tuple[str, str]]:
        one = Start(Path("c.py"), Loaded({}), Settings(), wanted, machine=gpu.read())
        return [(found.code, found.why) for found in check_gpu.check(one)]

    assert alarms(1, 2) == [] and alarms(2, 1) == []
    [(code, why)] = alarms(0)
    assert code == "gpu-missing" and "GPUs here: 2, 1." in why and "'2,1'" in why
    assert [code for code, _why in alarms(1, 1)] == ["gpu-together"]


@pytest.mark.parametrize(
    ("need", "cards", "wanted", "expected"),
    [
        (20 * GB, (H100,), None, []),
        (100 * GB, (H100,), None, ["gpu-small"]),
        (79.5 * GB, (H100,), None, ["gpu-busy"]),
        (10 * GB, (H100, V100, M60), [0, 1, 2], ["gpu-small"]),
        (4 * GB, (M60,), None, ["gpu-busy"]),
        (4 * GB, (), None, []),
    ],
)
def test_a_card_without_room_is_found(
    need: float, cards: tuple[Gpu, ...], wanted: list[int] | None, expected: list[str]
) -> None:
    estimate = Estimate(int(need), {"weights": int(need)})
    assert codes(check_gpu.fits(start(None, wanted, cards), estimate)) == expected


def test_of_unequal_gpus_each_that_is_too_small_or_too_full_is_named() -> None:
    cards = (msgspec.structs.replace(H100, used=75 * GB), V100, M60)
    found = list(check_gpu.fits(start(None, [2, 1, 0], cards), Estimate(10 * GB, {})))
    assert [(one.code, one.what, one.why) for one in found] == [
        ("gpu-small", "GPU 2 is too small", "The estimate is 10.0 GB; it has 8.0 GB."),
        (
            "gpu-busy",
            "GPU 0 has too little free memory now",
            "The estimate is 10.0 GB; 5.0 GB are free.",
        ),
    ]


def test_an_instance_counts_with_its_own_memory(nvml: Nvml) -> None:
    nvml.set(Card(mig=True, instances=[Instance(), Instance("3g.40gb", 40 * GB)]))

    def small(*wanted: str) -> list[str]:
        one = Start(Path("c.py"), Loaded({}), Settings(), wanted, machine=gpu.read())
        found = [*check_gpu.check(one), *check_gpu.fits(one, Estimate(20 * GB, {}))]
        return [each.what for each in found]

    assert small("0:0") == ["GPU 0:0 is too small"]
    assert small("0:1") == []
    assert small("0:0", "0:1")[0] == "One run cannot have these GPUs together"


@pytest.mark.parametrize(
    ("versions", "values", "expected"),
    [
        ({}, {}, []),
        ({"transformers": "5.1.0"}, {}, ["versions"]),
        ({"transformers": "4.48.0"}, QLORA, ["versions"]),
        ({"transformers": "4.48.0"}, {}, []),
        ({"transformers": "4.48.0", "bitsandbytes": "0.45.0"}, {}, ["versions"]),  # no GPU
        ({"deepspeed": "0.16.2"}, {}, ["versions"]),
        ({"datasets": "5.0.0"}, {}, ["versions"]),
        ({"bitsandbytes": None}, QLORA, ["package-missing"]),
        ({"bitsandbytes": None}, {}, []),
        ({"torch": None}, {}, ["package-missing"]),
    ],
)
def test_versions_that_do_not_go_together_are_found(
    versions: dict[str, str | None], values: dict[str, Any], expected: list[str]
) -> None:
    assert codes(check_versions.check(start(values, versions=versions))) == expected


def test_deepspeed_that_is_not_installed_is_found() -> None:
    one = start(versions={"deepspeed": None}, deepspeed={"zero_optimization": {"stage": 2}})
    assert codes(check_versions.check(one)) == ["package-missing"]


def test_a_full_disk_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = host.Host(0, 2, 0, 1, disk_free=100 * GB, disk_total=200 * GB)
    monkeypatch.setattr(host, "read", lambda _folder: state)
    assert list(check_place.disk(50 * GB, tmp_path)) == []
    (near,) = check_place.disk(95 * GB, tmp_path)
    (over,) = check_place.disk(101 * GB, tmp_path / "not" / "there")
    assert (near.code, near.level) == ("disk", findings.WARNING)
    assert (over.code, over.level) == ("disk", findings.ERROR)


@pytest.mark.parametrize(
    ("free", "gpus", "offload", "expected"),
    [
        (200 * GB, [0], True, []),
        (120 * GB, [0], True, ["host-memory"]),
        (120 * GB, [0], False, []),
        (120 * GB, [], True, []),  # a CPU has it all anyway
    ],
)
def test_offload_that_the_hosts_memory_cannot_take_is_found(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    free: int,
    gpus: list[int],
    offload: bool,
    expected: list[str],
) -> None:
    """All of 7.7e9 weights: 18 bytes each, as DeepSpeed's offload of stage 2 has them."""
    monkeypatch.setattr(memory, "left", lambda: memory.Left(free, 256 * GB))
    (tmp_path / "config.json").write_text(json.dumps(BIG))
    values = nested(model__llm__pretrained_model_name_or_path=str(tmp_path))
    block = {"stage": 2} | ({"offload_optimizer": {"device": "cpu"}} if offload else {})
    one = start(values, gpus, (H100,), deepspeed={"zero_optimization": block})
    found = list(check_deepspeed.host(one))
    assert codes(found) == expected
    assert "host-memory" not in codes(check_deepspeed.check(one)), "that is asked of Slurm's too"
    assert all("139" in finding.why for finding in found), found


@pytest.mark.parametrize("number", [float("inf"), float("nan")])
def test_a_number_that_nothing_can_count_ends_no_check(number: float) -> None:
    values = nested(sequence_parallel_size=number, train_dataloader__batch_size=number)
    one = start(values, deepspeed={"zero_optimization": {"stage": 2}})
    assert codes(check_values.check(one)).count("wrong-type") == 2
    assert "sequence-gpus" not in codes(check_rules.check(one))
    assert list(check_deepspeed.check(one)) == []


def test_a_new_folder_in_a_writable_place_is_fine(tmp_path: Path) -> None:
    assert list(check_place.check(start(work_dir=tmp_path / "runs" / "a"))) == []
    (tmp_path / "empty").mkdir()
    assert list(check_place.check(start(work_dir=tmp_path / "empty"))) == []


def test_a_place_that_may_not_be_written_to_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_place.os, "access", lambda *_asked: False)  # tests may run as root
    (found,) = check_place.check(start(work_dir=tmp_path / "runs" / "a"))
    assert found.code == "work-dir-write"
    assert str(tmp_path) in found.why


@pytest.mark.parametrize(
    ("setting", "values", "expected"),
    [
        ({}, {}, []),
        ({"gradient_accumulation_steps": "auto"}, {}, []),
        ({"gradient_accumulation_steps": 4}, {}, ["deepspeed-batch"]),
        ({"train_batch_size": 1}, {}, []),
        ({"train_batch_size": 2}, {}, ["deepspeed-total"]),
        ({}, nested(optim_wrapper__paramwise_cfg={"norm_decay_mult": 0}), ["deepspeed-paramwise"]),
    ],
)
def test_a_deepspeed_file_and_the_config_go_together(
    setting: dict[str, Any], values: dict[str, Any], expected: list[str]
) -> None:
    content = {"zero_optimization": {"stage": 2}} | setting
    assert codes(check_deepspeed.check(start(values, deepspeed=content))) == expected


def test_the_effective_batch_is_told_for_all_gpus() -> None:
    values = nested(train_dataloader__batch_size=2, optim_wrapper__accumulative_counts=8)
    content = {"zero_optimization": {"stage": 2}, "gradient_accumulation_steps": 1}
    (found,) = check_deepspeed.check(start(values, [0, 1], (H100, V100), deepspeed=content))
    assert "32" in found.why


def test_a_base_that_is_cast_to_float32_is_told() -> None:
    half = nested(model__llm__torch_dtype={"$ref": "torch:bfloat16"}, model__lora__r=8)
    assert codes(check_lora.check(start(half))) == ["lora-float32"]
    assert codes(check_lora.check(start(half, deepspeed={}))) == []
    assert codes(check_lora.check(start(nested(model__lora__r=8)))) == []


def test_a_machine_with_no_driver_is_the_cpu(nvml: Nvml) -> None:
    nvml.absent()
    one = Start(Path("c.py"), Loaded({}), Settings(), [3], machine=gpu.read())
    (found,) = check_gpu.check(one)
    assert (found.code, found.why) == ("gpu-missing", "No NVIDIA driver on this machine.")


# Where a value is set


TEXT = """
batch_size = 4
size = batch_size
steps = 10
steps *= 2
train_dataloader = dict(batch_size=size, num_workers=0, dataset=dict(files=[{"train": "a.json"}]))
optim_wrapper = {"accumulative_counts": steps, "optimizer": dict(lr=2e-4)}
end = 0.1 * steps
param_scheduler = [dict(end=end), dict(begin=0.1 * steps)]
"""


@pytest.mark.parametrize(
    ("key", "setting", "line"),
    [
        ("train_dataloader.batch_size", "batch_size", 2),
        ("train_dataloader.num_workers", "train_dataloader.num_workers", 6),
        ("train_dataloader.dataset.files.0.train", "train_dataloader.dataset.files.0.train", 6),
        ("optim_wrapper.accumulative_counts", "steps", 4),
        ("optim_wrapper.optimizer.lr", "optim_wrapper.optimizer.lr", 7),
        ("param_scheduler.0.end", "end", 8),
        ("param_scheduler.1.begin", "param_scheduler.1.begin", 9),
        ("nothing.here", "nothing.here", None),
    ],
)
def test_a_finding_names_the_setting_at_the_top(key: str, setting: str, line: int | None) -> None:
    wiring = Wiring(TEXT)
    assert wiring.setting(key) == setting
    assert wiring.line(key) == line


def test_a_config_that_turns_in_a_circle_ends() -> None:
    assert Wiring("a = b\nb = a\nc = dict(x=a)").setting("c.x") in ("a", "b")


HALF = nested(model__llm__torch_dtype={"$ref": "torch:bfloat16"})


@pytest.mark.parametrize(
    ("values", "field", "value"),
    [
        (HALF, "model.llm.torch_dtype", "float32"),
        (FLASH, "model.llm.attn_implementation", "sdpa"),
    ],
)
def test_weights_in_16_bits_have_a_fix(values: dict[str, Any], field: str, value: str) -> None:
    (found,) = check_gpu.check(start({"optim_wrapper": AMP} | values, [0], (H100,)))
    assert found.fix is not None
    assert (found.code, found.fix.field, found.fix.value) == ("fp16-weights", field, value)


def test_weights_in_16_bits_are_told_once_and_not_under_deepspeed() -> None:
    values, two = {"optim_wrapper": AMP} | HALF, (H100, msgspec.structs.replace(H100, index=1))
    assert codes(check_gpu.check(start(values, [0, 1], two))) == ["fp16-weights"]
    assert not codes(check_gpu.check(start(values, [0], (H100,), deepspeed={})))


@pytest.mark.parametrize(("kind", "expected"), [("llama", ["fp16-weights"]), ("qwen3", [])])
def test_xtuner_takes_an_installed_flash_attn_by_itself(
    tmp_path: Path, kind: str, expected: list[str]
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}), encoding="utf-8")
    model = nested(model__llm__pretrained_model_name_or_path=str(tmp_path))
    values = {"optim_wrapper": AMP} | model
    assert codes(check_gpu.check(start(values, [0], (H100,)))) == expected
    assert not codes(check_gpu.check(start(values, [0], (H100,), {"flash_attn": None})))
