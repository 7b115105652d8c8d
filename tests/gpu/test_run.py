"""Runs on a real GPU: interrupted equals uninterrupted, kill leaves nothing.

All that can runs side by side on the one card: most of a start is imports (about 100 s in all).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.joined import resuming
from engine.machine import gpu
from engine.run import control, processes, state
from engine.run.folder import RunFolder
from engine.settings import Settings
from engine.workspace import Workspace
from tests.support import card, gpu_runs

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not gpu.read().available, reason="no GPU on this machine"),
    pytest.mark.timeout(600),
]

STEPS = 48
CHANGES = {
    **gpu_runs.ON_GPU,
    "lora_dropout=0.0": "lora_dropout=0.1",
    "accumulative_counts = 1": "accumulative_counts = 3",
    "lr = 5e-3": "lr = 5e-4",
}
QLORA = {
    "import AutoModelForCausalLM, AutoTokenizer": (
        "import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig"
    ),
    "torch_dtype=torch.float32,": (
        "torch_dtype=torch.float16, quantization_config=dict(type=BitsAndBytesConfig,"
        ' load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,'
        " bnb_4bit_compute_dtype=torch.float16),"
    ),
}
PAGED = {
    "from torch.optim import AdamW": "from bitsandbytes.optim import PagedAdamW32bit",
    "optim_type = AdamW": "optim_type = PagedAdamW32bit",
}
CASES: dict[str, tuple[dict[str, str], str]] = {
    "lora": ({}, ""),
    "qlora-paged": ({**QLORA, **PAGED}, ""),
    "lora-zero2": ({}, "2"),
    "qlora-zero2": (QLORA, "2"),
}


def begin(workspace: Workspace, model: Path, name: str, case: str, epochs: int = 4) -> RunFolder:
    changes, deepspeed = CASES[case]
    return gpu_runs.begin(
        workspace,
        model,
        name,
        {**CHANGES, **changes},
        epochs=epochs,
        save=10 if epochs == 4 else 100000,
        gpus=[0],
        deepspeed=deepspeed,
    )


def until(what: Callable[[], bool], run: RunFolder, seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert run.state.living, run.log.read_text(errors="replace")[-3000:]
        assert time.monotonic() < end, run.log.read_text(errors="replace")[-3000:]
        time.sleep(0.1)


def test_stopped_and_resumed_equals_uninterrupted_and_kill_leaves_nothing(
    workspace: Workspace, llama: Path
) -> None:
    began = time.monotonic()
    endless = begin(workspace, llama, "endless", "lora", epochs=10000)
    whole = {case: begin(workspace, llama, f"whole-{case}", case) for case in CASES}
    parts = {case: begin(workspace, llama, f"parts-{case}", case) for case in CASES}
    for run in parts.values():
        until(lambda run=run: run.progress().step >= 12, run)  # type: ignore[misc]
        control.stop(run)
    for case, run in parts.items():
        assert control.wait(run, 120).state == "stopped", run.log.read_text()[-3000:]
        saved = run.last_checkpoint()
        assert saved is not None and saved.kind == ("deepspeed" if "zero" in case else "file")
        assert saved.step < STEPS, "it was stopped too late"
        assert resuming.resume_differences(run).differences == []
        resuming.resume(run, Settings())
        print(f"{case}: stopped after step {saved.step}")
    for run in (*whole.values(), *parts.values()):
        assert control.wait(run, 240).state == "finished", run.log.read_text()[-3000:]
    for case, run in parts.items():
        ours, theirs = run.progress().history, whole[case].progress().history
        assert list(ours.step) == list(theirs.step) == list(range(1, STEPS + 1))
        worst = max(abs(a / b - 1) for a, b in zip(ours["loss"], theirs["loss"], strict=True))
        print(f"{case}: largest difference of the loss {worst:.1e}, {theirs['loss'][-1]:.4f}")
        assert list(ours["lr"]) == pytest.approx(list(theirs["lr"]), rel=1e-9)
        assert list(ours["loss"]) == pytest.approx(list(theirs["loss"]), rel=5e-3)
        assert ours["tokens"][-1] == theirs["tokens"][-1]
        _sampled(run)

    until(lambda: endless.progress().step >= 2, endless)
    _kill(endless)
    print(f"{time.monotonic() - began:.0f} s")


def _kill(run: RunFolder) -> None:
    """Kill it; no process is left, and its memory is free at once."""
    pids = {one.pid for one in processes.of_run(run.path)}
    held, before = card.held_by(pids), card.used()
    control.kill(run)
    assert run.state.state == "stopped" and not processes.of_run(run.path)
    print("held by its processes:", held)
    if held is None:  # they cannot be seen (a container): right only if nothing else uses the card
        card.until(lambda: before - card.used() > 500 << 20, 10)
    else:
        assert held > 500 << 20
        card.until(lambda: card.held_by(pids) is None, 10)


def _sampled(run: RunFolder) -> None:
    """The supervisor wrote down what the card did meanwhile."""
    lines = (run.path / state.GPU_METRICS).read_text().splitlines()
    assert len(lines) >= 3
    one = json.loads(lines[-1])["gpus"][0]
    assert one["index"] == 0 and 0 < one["used"] < one["total"]
