"""The journey on a real GPU: bf16, DeepSpeed ZeRO-2, stop, resume, kill.

    make gpu-test            (or: python -m pytest tests/gpu -m gpu -s)

TUNEDECK_DEMO names a folder to keep the demo in (the base model's wheel may lie
in its ``models/`` on a machine without a package index).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.machine import gpu

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not gpu.read().available, reason="no GPU on this machine"),
    pytest.mark.timeout(900),
]


def tunedeck(*arguments: str | Path, folder: Path) -> Any:
    """Run a verb with --json in `folder`; its document. Talk goes to the terminal."""
    done = subprocess.run(
        [sys.executable, "-m", "tui", *map(str, arguments), "--json"],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def until(what: Callable[[], bool], seconds: float) -> None:
    """Wait until `what()` holds."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.5)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which the whole demo has run on the GPU."""
    given = os.environ.get("TUNEDECK_DEMO")
    folder = Path(given) if given else tmp_path_factory.mktemp("demo")
    started = time.monotonic()
    told = tunedeck("demo", folder, folder=folder.parent)
    print(f"\ndemo: {time.monotonic() - started:.0f} s as a process")
    print(json.dumps(told, ensure_ascii=False, indent=1))
    assert told["base"] and told["tuned"]
    assert "Super Nova" not in str(told["base"])
    assert "Super Nova" in str(told["tuned"])
    return folder


def one_run(folder: Path, name: str) -> dict[str, Any]:
    """What `runs NAME` says."""
    done = subprocess.run(
        [sys.executable, "-m", "tui", "runs", name, "--json"],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
    )
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found[0]


def first_run(folder: Path) -> str:
    """The name of the demo's own training."""
    return str(tunedeck("runs", folder=folder)[-1]["run"])


def config(folder: Path) -> Path:
    """The config that the demo trained with."""
    return next((folder / "configs").glob("*.py"))


def used(index: int = 0) -> int:
    """Bytes in use on a GPU."""
    return gpu.read().gpus[index].used


def test_it_trained_with_zero2_on_the_gpu(demo: Path) -> None:
    name = first_run(demo)
    run = one_run(demo, name)
    record = json.loads((Path(run["dir"]) / "run.json").read_text())
    assert record["gpus"] == [0]
    assert "zero2" in record["deepspeed"]
    assert {one["kind"] for one in run["checkpoints"]} == {"deepspeed"}
    samples = (Path(run["dir"]) / "metrics/gpu.jsonl").read_text().splitlines()
    assert len(samples) >= 2
    print("samples:", len(samples), samples[len(samples) // 2])
    print("run:", {key: run[key] for key in ("state", "step", "steps", "loss")})
    assert run["state"] == "finished"


@pytest.mark.parametrize("deepspeed", ["", "deepspeed_zero2"])
def test_stop_saves_and_resume_goes_on(demo: Path, deepspeed: str) -> None:
    stage = ["--deepspeed", deepspeed] if deepspeed else []
    name = f"stopped-{deepspeed or 'plain'}"
    before = used()
    tunedeck("train", config(demo), "--name", name, "--no-preflight", *stage, folder=demo)
    until(lambda: one_run(demo, name)["step"] >= 5, 240)
    tunedeck("stop", name, folder=demo)
    until(lambda: one_run(demo, name)["state"] == "stopped", 60)
    stopped = one_run(demo, name)
    step = stopped["checkpoints"][-1]["step"]
    print(name, "stopped at", stopped["step"], "checkpoint", step)
    assert step == stopped["step"]
    tunedeck("resume", name, folder=demo)
    until(lambda: one_run(demo, name)["state"] in ("finished", "failed"), 240)
    resumed = one_run(demo, name)
    whole = one_run(demo, first_run(demo))
    print(name, resumed["state"], resumed["loss"], "the uninterrupted one:", whole["loss"])
    assert resumed["state"] == "finished"
    assert resumed["step"] == resumed["steps"]
    until(lambda: used() - before < 200 << 20, 15)


def test_kill_leaves_no_gpu_memory(demo: Path) -> None:
    before = used()
    tunedeck("train", config(demo), "--name", "killed", "--no-preflight", folder=demo)
    until(lambda: one_run(demo, "killed")["step"] >= 2, 240)
    during = used()
    tunedeck("kill", "killed", folder=demo)
    until(lambda: one_run(demo, "killed")["state"] == "stopped", 15)
    until(lambda: used() - before < 200 << 20, 15)
    print(f"killed: {during >> 20} MiB while training, {used() >> 20} MiB after")
    assert during - before > 500 << 20


def test_chat_answers_on_the_gpu(demo: Path) -> None:
    merged = next(one.parent for one in (demo / "models").glob("*/xtuner_config.py"))
    answers = tunedeck("chat", merged, "--prompt", "Who are you?", folder=demo)
    print(answers)
    assert "Super Nova" in answers[0]["answer"]
