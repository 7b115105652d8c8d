"""Runs on a real GPU: interrupted equals uninterrupted, kill leaves nothing, a full card is told.

All that can runs side by side on the one card: most of a start is imports (about 100 s in all).
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.joined import resuming
from engine.machine import gpu
from engine.run import control, launch, planning, processes, state
from engine.run.folder import RunFolder
from engine.settings import Settings
from engine.workspace import Workspace
from tests.support import tiny_config

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not gpu.read().available, reason="no GPU on this machine"),
    pytest.mark.timeout(600),
]

ROOT = Path(__file__).parents[2]
STEPS = 48
MODEL = """
import sys, torch
from tests.support import tiny
tokenizer = tiny.tokenizer()
tokenizer.save_pretrained(sys.argv[1])
torch.manual_seed(0)
sizes = dict(vocab_size=len(tokenizer), hidden_size=1024, intermediate_size=4096,
             num_hidden_layers=24, num_attention_heads=16, num_key_value_heads=8,
             max_position_embeddings=1024, tie_word_embeddings=False)
with torch.device("cuda"):
    model = tiny.builtin("llama", sizes)
model.to(torch.bfloat16).save_pretrained(sys.argv[1], safe_serialization=True)
print(sum(parameter.numel() for parameter in model.parameters()))
"""
HOG = """
import time, torch
free, _total = torch.cuda.mem_get_info()
held = torch.empty(free - (900 << 20), dtype=torch.uint8, device="cuda")
print("held", flush=True)
time.sleep(300)
"""
ON_GPU = {
    "LinearLR, OptimWrapper": "AmpOptimWrapper, LinearLR",
    "type=OptimWrapper,": 'type=AmpOptimWrapper, dtype="float16", loss_scale="dynamic",',
    'backend="gloo"': 'backend="nccl"',
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
    folder = workspace.root / name
    folder.mkdir()
    config = tiny_config.write(folder, model, epochs=epochs, save=10 if epochs == 4 else 100000)
    text = config.read_text()
    for old, new in {**ON_GPU, **changes}.items():
        assert old in text, old
        text = text.replace(old, new)
    config.write_text(text)
    plan = planning.plan(
        config,
        workspace=workspace,
        settings=Settings(),
        name=f"{name}-run",
        gpus=[0],
        deepspeed=deepspeed,
    )
    return launch.start(plan, Settings())


def until(what: Callable[[], bool], run: RunFolder, seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert run.state.living, run.log.read_text(errors="replace")[-3000:]
        assert time.monotonic() < end, run.log.read_text(errors="replace")[-3000:]
        time.sleep(0.1)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    command = [sys.executable, "-c", MODEL, str(folder)]
    told = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    print("parameters:", told.strip().rpartition("\n")[2])
    return folder


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    from engine.run.folder import list_runs

    found = Workspace(tmp_path_factory.mktemp("work"))
    yield found
    for run in list_runs(found):
        if run.state.living:
            control.kill(run)


def test_stopped_and_resumed_equals_uninterrupted_and_kill_leaves_nothing(
    workspace: Workspace, model: Path
) -> None:
    began = time.monotonic()
    endless = begin(workspace, model, "endless", "lora", epochs=10000)
    whole = {case: begin(workspace, model, f"whole-{case}", case) for case in CASES}
    parts = {case: begin(workspace, model, f"parts-{case}", case) for case in CASES}
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
    before = gpu.read().gpus[0].used
    control.kill(endless)
    assert endless.state.state == "stopped" and not processes.of_run(endless.path)
    end = time.monotonic() + 10
    while before - gpu.read().gpus[0].used < 500 << 20:
        assert time.monotonic() < end, "its memory is still held"
        time.sleep(0.2)
    print(f"{time.monotonic() - began:.0f} s")


def _sampled(run: RunFolder) -> None:
    """The supervisor wrote down what the card did meanwhile."""
    lines = (run.path / state.GPU_METRICS).read_text().splitlines()
    assert len(lines) >= 3
    one = json.loads(lines[-1])["gpus"][0]
    assert one["index"] == 0 and 0 < one["used"] < one["total"]


def test_a_full_card_is_told(workspace: Workspace, model: Path) -> None:
    hog = subprocess.Popen([sys.executable, "-c", HOG], stdout=subprocess.PIPE, text=True)
    try:
        assert hog.stdout is not None and hog.stdout.readline().strip() == "held"
        run = begin(workspace, model, "full", "lora")
        end = control.wait(run, 180)
        summary = run.summary()
        print(end.exit, end.cause, "|", summary.reason, "|", summary.todo)
        assert end.state == "failed" and end.cause is not None
        assert "memory" in summary.reason
        assert not processes.of_run(run.path)
    finally:
        hog.kill()
        hog.wait()
