"""DeepSpeed's pieces are put together as DeepSpeed's own zero_to_fp32 does, without torch.

The checkpoints are real, made on a CPU with DeepSpeed 0.19.8: ``adapter-2`` by
XTuner under ZeRO-3 with two processes, the others by DeepSpeed alone, with a
small Llama of uneven shapes on one or two processes (``frozen``: embeddings and
norms not trained, ``tied``: one tensor under two names). zero_to_fp32 made
``expected.safetensors``.
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
from tests.export.conftest import load, same
from tests.export.test_pickle_reader import zipped

FIXTURES = Path(__file__).parent.parent / "fixtures"
ZERO3 = FIXTURES / "zero3"


@pytest.mark.parametrize("name", ["adapter-2", "full-1", "full-2", "frozen-2", "tied-2"])
def test_it_is_bit_equal_to_zero_to_fp32(name: str) -> None:
    expected = load(ZERO3 / name / "expected.safetensors")
    assert artefact.identify(ZERO3 / name / "checkpoint").zero == 3
    with Checkpoint(ZERO3 / name / "checkpoint") as opened:
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
