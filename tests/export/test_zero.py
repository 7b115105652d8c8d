"""DeepSpeed's pieces are put together as DeepSpeed's own zero_to_fp32 does, without torch.

The checkpoints are real, made on a CPU with DeepSpeed 0.19.8: ``adapter-2`` by
XTuner under ZeRO-3 with two processes, the others of ``zero3`` by DeepSpeed alone, with
a small Llama of uneven shapes on one or two processes (``frozen``: embeddings and
norms not trained, ``tied``: one tensor under two names); those of ``zero-ranks`` by
``make_zero.py``. zero_to_fp32 made ``expected.safetensors``.
"""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path

import pytest

from engine.errors import Problem
from engine.export import artefact
from engine.export.checkpoint import Checkpoint
from engine.export.convert import convert, peft_name
from engine.export.dtypes import numpy_dtype
from tests.export import make_zero
from tests.export.conftest import load, same
from tests.export.test_pickle_reader import zipped

FIXTURES = Path(__file__).parent.parent / "fixtures"
ZERO3 = FIXTURES / "zero3"
RANKS = FIXTURES / "zero-ranks"
MADE = [ZERO3 / name for name in ("adapter-2", "full-1", "full-2", "frozen-2", "tied-2")]
MADE += sorted(RANKS.iterdir())


def test_all_stages_methods_and_numbers_of_ranks_are_there() -> None:
    assert {one.name for one in RANKS.iterdir()} == set(make_zero.CASES)


@pytest.mark.parametrize("folder", MADE, ids=lambda folder: folder.name)
def test_it_is_bit_equal_to_zero_to_fp32(folder: Path) -> None:
    expected = {
        name: value
        for name, value in load(folder / "expected.safetensors").items()
        # XTuner leaves an adapter's base out; zero_to_fp32 finds what of it was saved.
        if folder.name.startswith(("full", "frozen", "tied")) or "full" in folder.name
        or ".lora_" in name or "modules_to_save" in name
    }  # fmt: skip
    split = "zero3" in str(folder)
    assert artefact.identify(folder / "checkpoint").zero == (3 if split else 2)
    with Checkpoint(folder / "checkpoint") as opened:
        weights = {weight.entry.name: weight for weight in opened.weights}
        assert set(weights) == set(expected)
        for key, value in expected.items():
            entry = weights[key].entry
            assert (entry.shape, numpy_dtype(entry.dtype)) == (value.shape, value.dtype)
            whole = value.tobytes()
            assert weights[key].read() == whole, key
            # Any stretch of it, across the borders of the ranks' pieces.
            for begin in range(0, len(whole), 52):
                end = min(begin + 8, len(whole))
                assert weights[key].read(begin, end) == whole[begin:end]


def test_an_adapter_comes_out_whole(tmp_path: Path) -> None:
    made = convert(ZERO3 / "adapter-2" / "checkpoint", tmp_path / "adapter")
    expected = load(ZERO3 / "adapter-2" / "expected.safetensors")
    weights = load(made.adapter / "adapter_model.safetensors")
    assert {peft_name(name) for name in expected} == set(weights)
    assert all(same(weights[peft_name(name)], value) for name, value in expected.items())


@pytest.mark.parametrize(("name", "stage"), [("zero2", 2), ("zero3", 3)])
def test_what_a_gpu_trained_is_converted_without_one(tmp_path: Path, name: str, stage: int) -> None:
    """Made on one H100 by XTuner through `launch` (tests/gpu/test_export.py), bfloat16."""
    folder = FIXTURES / "zero-gpu" / name
    assert artefact.identify(folder / "checkpoint").zero == stage
    made = convert(folder / "checkpoint", tmp_path / "adapter")
    expected = load(folder / "expected.safetensors")
    weights = load(made.adapter / "adapter_model.safetensors")
    assert {peft_name(key) for key in expected if ".lora_" in key} == set(weights)
    for key, value in expected.items():
        if ".lora_" in key:
            assert same(weights[peft_name(key)], value)


ADAPTERS = [name for name, case in make_zero.CASES.items() if case.method != "full"]


@pytest.mark.parametrize("name", ADAPTERS)
def test_adapters_of_all_kinds_come_out_whole(tmp_path: Path, name: str) -> None:
    made = convert(RANKS / name / "checkpoint", tmp_path / "adapter")
    weights = load(made.adapter / "adapter_model.safetensors")
    expected = {
        peft_name(key): value
        for key, value in load(RANKS / name / "expected.safetensors").items()
        if ".lora_" in key or "modules_to_save" in key
    }
    assert set(weights) == set(expected)
    assert all(same(weights[key], value) for key, value in expected.items())


@pytest.mark.parametrize("mixed", ["later", "other"])
@pytest.mark.parametrize("name", ["zero2-lora-2", "zero3-lora-2"])
def test_files_that_were_not_saved_together_are_told(tmp_path: Path, name: str, mixed: str) -> None:
    folder = tmp_path / "iter_3.pth"
    shutil.copytree(RANKS / name / "checkpoint", folder)
    swapped = sorted((RANKS / name / mixed).iterdir())
    assert swapped and all("_rank_1_" in one.name for one in swapped)
    for file in swapped:
        assert (folder / file.name).is_file()
        shutil.copy(file, folder)
    words = "saved together" if mixed == "later" or "zero3" in name else "another training"
    with pytest.raises(Problem, match=words) as told:
        convert(folder, tmp_path / "adapter")
    assert "rank_1" in str(told.value.why) and "Copy the whole folder" in told.value.todo
    assert not (tmp_path / "adapter").exists()


def test_a_file_of_more_ranks_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "iter_3.pth"
    shutil.copytree(RANKS / "zero2-lora-2" / "checkpoint", folder)
    [file] = (RANKS / "zero2-lora-3" / "checkpoint").glob("*_rank_1_*_optim_states.pt")
    shutil.copy(file, folder)
    with pytest.raises(Problem, match="training with 3 processes, not 2"):
        Checkpoint(folder)


@pytest.mark.parametrize("stage", ["zero2", "zero3"])
def test_what_an_earlier_save_left_is_no_part_of_it(tmp_path: Path, stage: str) -> None:
    folder = tmp_path / "iter_3.pth"
    shutil.copytree(RANKS / f"{stage}-lora-2" / "checkpoint", folder)
    left = sorted((RANKS / f"{stage}-lora-3" / "checkpoint").glob("*_rank_2_*"))
    assert len(left) == (2 if stage == "zero3" else 1)
    for file in left:
        shutil.copy(file, folder)
    expected = load(RANKS / f"{stage}-lora-2" / "expected.safetensors")
    with Checkpoint(folder) as opened:
        for weight in opened.weights:
            assert weight.read() == expected[weight.entry.name].tobytes()


def test_a_lost_share_of_zero2_is_told_and_none_at_all_is_not(tmp_path: Path) -> None:
    folder = tmp_path / "iter_3.pth"
    shutil.copytree(RANKS / "zero2-lora-3" / "checkpoint", folder)
    shares = sorted(folder.glob("*_optim_states.pt"))
    shares[1].unlink()
    with pytest.raises(Problem, match="2 of 3 processes are there, not that of rank 1") as told:
        Checkpoint(folder)
    assert "rounded" in told.value.todo
    shares[0].unlink()
    shares[2].unlink()
    with Checkpoint(folder) as opened:
        assert {weight.entry.dtype for weight in opened.weights} == {"BF16"}


@pytest.mark.parametrize("lost", ["*rank_1*_optim_states.pt", "*rank_1*_model_states.pt"])
def test_a_missing_rank_is_named(tmp_path: Path, lost: str) -> None:
    folder = tmp_path / "iter_2.pth"
    shutil.copytree(ZERO3 / "full-2" / "checkpoint", folder)
    next(folder.glob(lost)).unlink()
    with pytest.raises(Problem, match="Files of 1 of 2 processes"):
        Checkpoint(folder)


def test_files_of_another_run_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "iter_2.pth"
    shutil.copytree(ZERO3 / "full-2" / "checkpoint", folder)
    small = next((ZERO3 / "frozen-2" / "checkpoint").glob("*rank_1*_optim_states.pt"))
    shutil.copy(small, folder)
    with pytest.raises(Problem, match="smaller than the weights"):
        Checkpoint(folder)


HOSTILE = [
    {},
    {"param_shapes": [{"llm.a": "xx"}]},
    {"param_shapes": [{"llm.a": (1 << 60,)}]},
    {"param_shapes": [{"llm.a": (-4,)}]},
    {"param_shapes": [{"llm.a": (2, 2.5)}]},
    {"param_shapes": [[1]]},
    {"param_shapes": {"llm.a": (2,)}},
    {"param_shapes": [{"llm.a": (2,)}], "frozen_param_shapes": {"llm.b": (3,)}},
]


@pytest.mark.parametrize("said", HOSTILE)
@pytest.mark.parametrize("stage3", [True, False])
def test_what_a_hostile_folder_says_ends_in_words(
    tmp_path: Path, said: dict[str, object], stage3: bool
) -> None:
    folder = tmp_path / "iter_1.pth"
    folder.mkdir()
    model = "zero_pp_rank_0_mp_rank_00_model_states.pt" if stage3 else "mp_rank_00_model_states.pt"
    zipped(folder / model, pickle.dumps({"module": {}, "dp_world_size": 1, **said}, 2))
    key = "fp32_flat_groups" if stage3 else "single_partition_of_fp32_groups"
    state = {"optimizer_state_dict": {key: [None, os.getpid]}}
    zipped(folder / "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt", pickle.dumps(state, 2))
    with pytest.raises(Problem, match="iter_1"):
        Checkpoint(folder)
