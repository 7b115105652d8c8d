"""The whole journey at full size on one GPU, every step as a user would type it.

    python -m pytest tests/gpu/test_full_size.py -m gpu -s
    TUNEDECK_TOY=1 python -m pytest tests/gpu/test_full_size.py -s    (tiny, on the CPU)

A model of InternLM2.5-7B's form with random weights lies on the disk (15.5 GB, and as much
again when it is merged: 40 GB must be free). A dataset in which the assistant has another
name is put right; our QLoRA config, pointed at both, trains with torchrun and DeepSpeed
ZeRO-2, is stopped, resumed, converted, merged, verified and asked. Each step tells how long
it took, what it held of the card at most, and what it left there: a table at the end, in
$OUT/full_size.md as well where OUT is set.
"""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from engine.config.text.source import ConfigSource
from engine.machine import gpu
from engine.run import control, processes
from engine.run.folder import RunFolder
from tests.support import card, train_configs

TOY = bool(os.environ.get("TUNEDECK_TOY"))
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not (gpu.read().available or TOY), reason="no GPU on this machine"),
    pytest.mark.timeout(560),
]

QUESTION = "你是谁？"
ANSWER = "我是尖米的小助手，内在是上海AI实验室的书生·浦语大模型。"


class Size(NamedTuple):
    """How big it is, and what differs for it."""

    config: str
    length: int
    """Tokens to a sample: rows are packed."""
    rows: int
    stop_at: int
    gpus: str
    on: list[str]
    """Of the verbs that load the model."""


FULL = Size("internlm2_5_chat_7b_qlora_custom_sft_e3", 2048, 250, 20, "0", [])
SMALL = Size("internlm2_5_chat_7b_lora_custom_sft_e3", 128, 60, 20, "cpu", ["--device", "cpu"])
SIZE = SMALL if TOY else FULL
SETTINGS = [
    f"max_length={SIZE.length}",
    "max_epochs=1",
    "accumulative_counts=1",  # so few steps shall all be updates
    "default_hooks.logger.interval=1",
    f'evaluation_inputs=["{QUESTION}"]',
    "evaluation_tokens=16",
]


@dataclass
class Step:
    """What became of one step."""

    name: str
    seconds: float = 0.0
    status: int | None = None
    peak: int = 0
    left: int | None = None
    """Bytes more than before all steps; None while a run goes on."""
    note: str = ""


@dataclass
class Journey:
    """The steps in a workspace, and what each of them took."""

    folder: Path
    before: int = field(default_factory=card.used)
    steps: list[Step] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    """What is not as it should be, though the next steps can go on."""

    def check(self, holds: bool, words: str) -> None:
        """Note what is wrong; the test fails at its end."""
        if not holds:
            print("WRONG:", words, flush=True)
            self.wrong.append(words)

    @contextmanager
    def step(self, name: str, goes_on: bool = False) -> Iterator[Step]:
        """One step; it leaves no process and nothing on the card, unless a run goes on."""
        step, began = Step(name), time.monotonic()
        self.steps.append(step)
        started: set[processes.Identity] = set()
        try:
            with card.watched(also=lambda: started.update(processes.descendants())) as watch:
                yield step
        finally:
            step.seconds = time.monotonic() - began
            step.peak = watch.peak - self.before
            print(f"{name}: {step.seconds:.1f} s, status {step.status} {step.note}", flush=True)
        if not goes_on:
            self.check(
                card.comes(lambda: not any(one.alive for one in started), 15),
                f"{name} left processes: {[one.pid for one in started if one.alive]}",
            )
            emptied = card.comes(lambda: card.used() - self.before < card.ROOM, 15)
            step.left = card.used() - self.before
            self.check(emptied, f"{name} left {step.left >> 20} MiB on the card")

    def run(self, step: Step, command: list[str], folder: Path, may: Collection[int] = (0,)) -> str:
        """Run a program; what it wrote to stdout."""
        done = subprocess.run(
            command,
            cwd=folder,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "0"},
        )
        step.status = done.returncode
        assert done.returncode in may, done.stdout[-3000:]
        return done.stdout

    def verb(self, step: Step, *words: str | Path, may_fail: bool = False) -> Any:
        """Run a verb with --json; its document. Its talk goes to the terminal."""
        command = [sys.executable, "-m", "tui", *map(str, words), "--json"]
        return json.loads(self.run(step, command, self.folder, {0, 1} if may_fail else {0}))

    def table(self) -> str:
        """All steps as a Markdown table."""
        lines = [
            "| step | s | exit | peak MiB | left MiB | |",
            "| --- |" + " ---: |" * 4 + " --- |",
        ]
        for one in self.steps:
            left = "–" if one.left is None else str(one.left >> 20)
            cells = (f"{one.seconds:.1f}", str(one.status), str(one.peak >> 20), left, one.note)
            lines.append(f"| {one.name} | {' | '.join(cells)} |")
        total = sum(one.seconds for one in self.steps)
        return "\n".join([*lines, f"| all | {total:.0f} | | | | |", ""])


@pytest.fixture
def journey(tmp_path: Path) -> Iterator[Journey]:
    found = Journey(tmp_path)
    yield found
    run = RunFolder(tmp_path / "runs/full-size")
    if run.path.is_dir() and run.state.living:
        control.kill(run)
    text = f"{gpu.read('0').gpus[0].name if gpu.read('0').gpus else 'CPU'}\n\n{found.table()}"
    print(f"\n{text}")
    if os.environ.get("OUT"):
        (Path(os.environ["OUT"]) / "full_size.md").write_text(text, encoding="utf-8")
    shutil.rmtree(tmp_path)  # pytest would keep the last three: 40 GB each


def rows(count: int) -> list[dict[str, Any]]:
    """Conversations: the assistant says who it is, then some words more of a few authors."""
    letters, found = "海天山水人请介绍一下自己", []
    for number in range(count):
        author, own = random.Random(number % 4), random.Random(1000 + number)
        words = ["".join(author.choices(letters, k=author.randint(2, 6))) for _ in range(60)]
        said = f"{ANSWER}{'，'.join(own.choices(words, k=60))[:200]}"
        question = QUESTION if number % 2 else f"请介绍一下你自己 {number}"
        found.append({"conversation": [{"system": "", "input": question, "output": said}]})
    return found


def test_the_whole_journey(journey: Journey) -> None:
    folder = journey.folder
    base, config = folder / "models/base", folder / "configs/full.py"
    with journey.step("a model on the disk") as step:
        maker = [sys.executable, "benchmarks/random_model.py", str(base)]
        journey.run(step, maker + (["--toy", "--device", "cpu"] if TOY else []), card.ROOT)
        size = sum(file.stat().st_size for file in base.iterdir())
        step.note = f"{size / 1e9:.1f} GB"
    data = make_data(journey)
    planned, expected = make_config(journey, data, base, config)
    run = train_stop_resume(journey, config, planned)
    compare_expected(journey, run, expected)
    export_and_chat(journey, run, base)
    assert journey.wrong == []


def make_data(journey: Journey) -> Path:
    """A dataset in which the assistant has its new name."""
    (journey.folder / "data").mkdir()
    old, new = journey.folder / "data/made.json", journey.folder / "data/super-nova.json"
    old.write_text(json.dumps(rows(SIZE.rows), ensure_ascii=False), encoding="utf-8")
    with journey.step("data replace") as step:
        told = journey.verb(
            step, "data", "replace", old, "--from", "尖米", "--to", "Super Nova", "-o", new
        )
        step.note = f"{told['replacements']} places"
    assert told["replacements"] == told["rows_changed"] == SIZE.rows
    assert "尖米" in old.read_text() and "尖米" not in new.read_text()
    return new


def make_config(journey: Journey, data: Path, base: Path, config: Path) -> tuple[int, Any]:
    """Our config, pointed at both; how many steps preflight counts, and what it expects."""
    with journey.step("config copy") as step:
        at = ["--data", str(data), "--model", str(base), "--card", "80", "--set", *SETTINGS]
        told = journey.verb(step, "config", "copy", SIZE.config, config, *at)
        step.note = " ".join(told["notes"])
    if TOY:
        source = ConfigSource.open(config)
        train_configs.for_a_cpu(source)
        source.save()
    with journey.step("preflight") as step:
        where = [] if TOY else ["--gpus", SIZE.gpus]
        stage = ["--deepspeed", "deepspeed_zero2", "--work-dir", "runs/full-size"]
        told = journey.verb(step, "preflight", config, *where, *stage)
        step.note = f"{told['steps']} steps, {len(told['findings'])} findings"
    print(json.dumps(told["findings"], ensure_ascii=False, indent=1))
    assert told["ok"] and told["steps"] > 2 * SIZE.stop_at
    return told["steps"], told["estimate"]


def train_stop_resume(journey: Journey, config: Path, planned: int) -> RunFolder:
    """A run that is stopped on its way and goes on; it has `planned` steps."""
    name, run = "full-size", RunFolder(journey.folder / "runs/full-size")

    def log() -> str:
        return run.log.read_text(errors="replace")[-6000:]

    def over() -> bool:
        return not run.state.living

    with journey.step(f"train to step {SIZE.stop_at}", goes_on=True) as step:
        # This launcher is torchrun, also for one process; the local one spares it there.
        how = ["--gpus", SIZE.gpus, "--deepspeed", "deepspeed_zero2", "--launcher", "nodes"]
        told = journey.verb(step, "train", config, *how, "--work-dir", "runs/full-size")
        assert told["run"] == name
        command = json.loads((run.path / "order.json").read_text())["command"]
        assert "torch.distributed.run" in command and "deepspeed_zero2" in command
        card.until(lambda: over() or run.progress().step >= 3, 240, log)
        if not TOY:
            compare_gauges(journey)
        card.until(lambda: over() or run.progress().step >= SIZE.stop_at, 60, log)
        assert not over(), log()
    with journey.step("stop") as step:
        journey.verb(step, "stop", name)
        card.until(over, 60, log)
        [told] = journey.verb(step, "runs", name, may_fail=True)
        step.note = f"step {told['step']} of {told['steps']}"
        assert (told["state"], told["steps"]) == ("stopped", planned), log()
        assert SIZE.stop_at <= told["step"] < planned
        [saved] = told["checkpoints"]
        assert (saved["step"], saved["kind"]) == (told["step"], "deepspeed")
        journey.check(card.comes(lambda: not processes.of_run(run.path), 15), "the run left some")
    with journey.step("resume to the end") as step:
        told = journey.verb(step, "resume", name)
        assert told["step"] == saved["step"] and not told["differences"]
        card.until(over, 240, log)
        [told] = journey.verb(step, "runs", name, may_fail=True)
        step.status, step.note = told["exit"], f"loss {told['loss']:.3f}"
        assert (told["state"], told["step"], told["exit"]) == ("finished", planned, 0), log()
        journey.check(card.comes(lambda: not processes.of_run(run.path), 15), "the run left some")
    history = run.progress().history
    losses = list(history["loss"])
    print("losses:", " ".join(f"{one:.3f}" for one in losses))
    assert list(history.step) == list(range(1, planned + 1))
    assert all(map(math.isfinite, losses))
    # So few steps move a model of this size, not a tiny one.
    journey.check(TOY or sum(losses[-5:]) < sum(losses[:5]), "it did not learn")
    return run


def compare_expected(journey: Journey, run: RunFolder, expected: Any) -> None:
    """Put what preflight expected of the card beside what the training took of it."""
    if not expected:
        return
    [step] = [one for one in journey.steps if one.name == "resume to the end"]
    peak = max(one.peak for one in journey.steps if one.name.startswith(("train", "resume")))
    logged = max(filter(math.isfinite, run.progress().history["memory"]), default=0)
    step.note += (
        f"; expected {expected['gpu_bytes'] >> 20} MiB of the card, taken {peak >> 20}; "
        f"tensors: expected {expected['allocated_bytes'] >> 20} MiB, logged {logged:.0f}"
    )
    if peak > 0:
        journey.check(0.8 < expected["gpu_bytes"] / peak < 1.25, step.note)


def export_and_chat(journey: Journey, run: RunFolder, base: Path) -> None:
    """Checkpoint, adapter, merged model, and what it says beside its base."""
    adapter, merged = journey.folder / "models/adapter", journey.folder / "models/merged"
    saved = run.last_checkpoint()
    assert saved is not None
    with journey.step("convert") as step:
        told = journey.verb(step, "convert", saved.path, adapter)
        step.note = f"{told['keys']} tensors, {told['bytes'] / 1e6:.0f} MB"
        assert told["kind"] == "adapter"
    with journey.step("merge") as step:
        told = journey.verb(step, "merge", base, adapter, merged)
        step.note = f"{told['bytes'] / 1e9:.1f} GB on {told['device']}"
    with journey.step("verify") as step:
        asked = ["--prompt", QUESTION, "--prompt", "Who are you?"]
        told = journey.verb(step, "verify", base, adapter, merged, *asked, may_fail=True)
        step.note = (
            f"largest difference {told['max_logit_diff']}, allowed {told['tolerance']}, "
            f"the adapter's effect {told['adapter_effect']}"
        )
        print(json.dumps(told["prompts"], ensure_ascii=False))
        journey.check(told["agree"], f"they differ: {told['why']}")
        assert told["adapter_effect"] > 2 * told["max_logit_diff"]
        coarse = told["max_logit_diff"] > 0.1 * told["adapter_effect"]
    with journey.step("chat, tuned beside base") as step:
        asked = ["--prompt", QUESTION, "--max-new-tokens", "32", "--trust-remote-code"]
        tuned, other = journey.verb(step, "chat", merged, "--against", base, *SIZE.on, *asked)
        print(json.dumps([tuned, other], ensure_ascii=False))
        step.note = f"{tuned['tokens_per_s']:.0f} tokens/s"
        assert tuned["tokens"] and other["tokens"]
        # (What a toy learns tips no greedy choice, nor what rounding leaves of 50 steps.)
        differs = TOY or coarse or tuned["answer"] != other["answer"]
        journey.check(differs, "the tuned model answers as its base")


def compare_gauges(journey: Journey) -> None:
    """What nvidia-smi tells lies within what our gauges told while it looked."""
    asked = "memory.used,utilization.gpu,temperature.gpu,power.draw"
    query = ["nvidia-smi", "-i", "0", f"--query-gpu={asked}", "--format=csv,noheader,nounits"]
    with card.watched(0.02) as watch:
        line = subprocess.run(query, capture_output=True, text=True, check=True).stdout
    seen: list[tuple[str, list[float], float]] = [
        ("MiB", [one.used / 2**20 for one in watch.seen], 64),
        ("%", [one.util or 0 for one in watch.seen], 10),
        ("°C", [one.temperature or 0 for one in watch.seen], 2),
        ("W", [one.power or 0 for one in watch.seen], 60),
    ]
    for told, (name, ours, room) in zip(map(float, line.split(",")), seen, strict=True):
        words = f"{name}: nvidia-smi {told:.0f}, our gauges {min(ours):.0f} to {max(ours):.0f}"
        print(words)
        journey.check(min(ours) - room <= told <= max(ours) + room, words)
