"""Export where there is a GPU: DeepSpeed's real checkpoints, and a merge on the card.

$OUT names a folder to which a small checkpoint of each stage is saved, with the
weights that DeepSpeed's own zero_to_fp32 finds in it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from engine.export.artefact import newest
from engine.export.convert import convert, peft_name
from engine.export.merge import merge
from engine.machine import gpu
from engine.run import control, launch, planning
from engine.settings import Settings
from engine.workspace import Workspace
from tests.export.conftest import load, same, sums_hold
from tests.support import tiny_config
from tests.support.rank_exports import deepspeed_weights

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not gpu.read().available, reason="no GPU on this machine"),
    pytest.mark.timeout(400),
]

PEFT = """
import sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
from safetensors.torch import save_file
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
merged = PeftModel.from_pretrained(model, sys.argv[2]).merge_and_unload()
save_file({name: value.clone() for name, value in merged.state_dict().items()}, sys.argv[3])
"""


def python(code: str, *arguments: str | Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


@pytest.mark.parametrize("stage", ["deepspeed_zero2", "deepspeed_zero3"])
def test_checkpoints_of_deepspeed(tiny_model: Path, tmp_path: Path, stage: str) -> None:
    workspace = Workspace(tmp_path)
    workspace.configs.mkdir()
    config = tiny_config.write(workspace.configs, tiny_model)
    plan = planning.plan(
        config, workspace=workspace, settings=Settings(), gpus=[0], deepspeed=stage
    )
    run = launch.start(plan, Settings())
    if control.wait(run, 300).living:
        control.kill(run)
    assert run.state.state == "finished", run.log.read_text(errors="replace")[-3000:]
    checkpoint = newest(run.path)
    assert checkpoint is not None and checkpoint.is_dir()
    expected = tmp_path / "expected.safetensors"
    deepspeed_weights(checkpoint, expected)
    if os.environ.get("OUT"):
        kept = Path(os.environ["OUT"]) / f"export-{stage}"
        shutil.copytree(checkpoint, kept / "checkpoint")
        shutil.copy(expected, kept)
    made = convert(checkpoint, tmp_path / "adapter")
    mine = load(made.adapter / "adapter_model.safetensors")
    theirs = {peft_name(name): value for name, value in load(expected).items() if ".lora_" in name}
    assert mine and set(mine) == set(theirs)
    assert all(same(value, theirs[name]) for name, value in mine.items())

    for device in ("cpu", "cuda:0"):
        out = tmp_path / device.replace(":", "-")
        merged = merge(tiny_model, made.adapter, out, device=device)
        print(json.dumps({"device": merged.device, "seconds": merged.seconds}))
        assert (merged.device == "cpu") == (device == "cpu")
        sums_hold(out)
    python(PEFT, tiny_model, made.adapter, tmp_path / "peft.safetensors")
    exact = load(tmp_path / "peft.safetensors")
    results = [load(tmp_path / name / "model.safetensors") for name in ("cpu", "cuda-0")]
    different = 0
    for name, value in results[0].items():
        for one in (value, results[1][name]):
            wide = exact[name].astype("f8")
            assert (abs(one.astype("f8") - wide) <= abs(wide) * 2.0**-7 + 1e-9).all(), name
        different += int((value != results[1][name]).sum())
    print(f"{stage}: {different} weights differ in the last bit between CPU and GPU")
