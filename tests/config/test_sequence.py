"""Several GPUs share a sample: who reads what, and what it takes, as XTuner has it."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.config.checks import schedule, sequence
from engine.config.checks.loaded import Loaded
from engine.config.checks.start import Start
from engine.config.memory import estimate
from engine.joined.effective_batch import Batch
from engine.settings import Settings
from tests.config.test_estimate import SMALL

CASES = [
    (samples, processes, size, batch)
    for samples, processes, size, batch in itertools.product(
        (1, 7, 64, 101), (2, 4, 8), (1, 2, 4), (1, 3)
    )
    if processes % size == 0
]
HEADS = list(itertools.product((4, 6, 32), (16, 64), (2, 3, 4, 8)))
"""Heads, their width, GPUs that share them."""
ASKED = """
import json, sys
import torch
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils.data import DataLoader
from xtuner.parallel.sequence import SequenceParallelSampler, init_sequence_parallel
from xtuner.parallel.sequence import setup_distributed as groups
from xtuner.parallel.sequence.attention import (
    post_process_for_sequence_parallel_attn, pre_process_for_sequence_parallel_attn,
)

def forget():
    dist.destroy_process_group()
    for name in dir(groups):
        if name.startswith("_") and name.isupper():
            setattr(groups, name, None)

found, shared = [], []
for samples, processes, size, batch in json.loads(sys.argv[1]):
    dist.init_process_group("fake", rank=processes - 1, world_size=processes, store=FakeStore())
    init_sequence_parallel(size)
    sampler = SequenceParallelSampler(range(samples), seed=0)
    loader = DataLoader(range(samples), batch_size=batch, sampler=sampler)
    found.append([len(loader), sampler.world_size])
    forget()
# Shapes are all that is asked, and XTuner wants no CPU: nothing travels.
dist.all_to_all = dist.all_gather = lambda *_tensors, **_options: None
for heads, width, size in json.loads(sys.argv[2]):
    dist.init_process_group("fake", rank=0, world_size=size, store=FakeStore())
    init_sequence_parallel(size)
    part = torch.zeros(1, 4, heads, width, device="meta")
    try:
        query, *_others = pre_process_for_sequence_parallel_attn(part, part, part)
        post_process_for_sequence_parallel_attn(query)
        shared.append(True)
    except (RuntimeError, AssertionError):
        shared.append(False)
    forget()
print(json.dumps([found, shared]))
"""
"""XTuner's own sampler as the last process of each case sees it, and its own way to share
heads; torch's `fake` stands in for the other processes."""


def start(processes: int, **values: Any) -> Start:
    config = Loaded({"values": values, "versions": {"flash_attn": "2.8.0"}})
    return Start(Path("c.py"), config, Settings(), [], side_by_side=processes)


@pytest.fixture(scope="module")
def said() -> Any:
    """What XTuner makes of `CASES` and of `HEADS`."""
    asked = [json.dumps(CASES), json.dumps(HEADS)]
    done = subprocess.run([sys.executable, "-c", ASKED, *asked], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_steps_and_readers_are_those_of_xtuners_sampler(said: Any) -> None:
    assert len(said[0]) == len(CASES) > 30
    for (samples, processes, size, batch), (steps, readers) in zip(CASES, said[0], strict=True):
        one = start(processes, sequence_parallel_size=size, train_dataloader={"batch_size": batch})
        mine = sequence.readers(one)
        assert mine == readers
        assert schedule.plan(one.config, samples, mine).per_epoch == steps
        assert Batch(batch, 1, processes, size).effective == batch * readers


def test_heads_can_be_shared_where_xtuners_attention_shares_them(said: Any, tmp_path: Path) -> None:
    assert {True, False} == set(said[1])
    for (heads, width, size), works in zip(HEADS, said[1], strict=True):
        config = {
            "model_type": "llama", "hidden_size": heads * width, "num_attention_heads": heads,
            "num_hidden_layers": 1, "intermediate_size": 8, "vocab_size": 8,
        }  # fmt: skip
        (tmp_path / "config.json").write_text(json.dumps(config))
        llm = {"pretrained_model_name_or_path": str(tmp_path)}
        one = start(size, sequence_parallel_size=size, model={"llm": llm})
        codes = {found.code for found in sequence.check(one)}
        assert ("sequence-heads" not in codes) == works, (heads, width, size)
        assert "sequence-model" not in codes


def test_a_shared_sample_takes_its_part_of_the_memory() -> None:
    llm = {"attn_implementation": "flash_attention_2"}
    model = estimate.Shape(
        hidden=2048, layers=22, intermediate=5632, heads=32, kv_heads=4, head_size=64,
        vocabulary=49152, tied=False, kind="llama",
    )  # fmt: skip
    assert model.hidden == SMALL["hidden_size"]
    values = {"model": {"llm": llm, "lora": {"r": 64}}}
    plain, shared = (
        estimate.memory(
            Loaded({"values": {**values, **more}}), model, tokens=32768, zero=2, processes=4
        )
        for more in ({}, {"sequence_parallel_size": 4})
    )
    for part in ("logits", "activations"):
        assert shared.parts[part] == pytest.approx(plain.parts[part] / 4)
    # DeepSpeed shares among all GPUs, whoever has which tokens.
    for part in ("weights", "adapter", "optimizer"):
        assert shared.parts[part] == plain.parts[part]


def test_what_xtuner_accepts_raises_no_alarm() -> None:
    for sampler in ("SequenceParallelSampler", "InternRepoSampler"):
        good = start(
            4,
            sequence_parallel_size=2,
            train_dataloader={"sampler": {"type": {"$ref": f"xtuner:{sampler}"}}},
        )
        good = Start(**{**vars(good), "deepspeed": {"zero_optimization": {"stage": 2}}})
        assert not list(sequence.check(good))
