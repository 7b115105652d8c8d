"""Exports that go on without the app: killed, cancelled, failed, and at the end of a run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import psutil
import pytest

from engine import files
from engine.errors import Problem
from engine.export import job, plan
from engine.export.job import Job, Order, State, Step
from engine.export.plan import Choices
from engine.export.verify import Verified
from engine.run import control, launch, planning
from engine.run.folder import RunFolder
from engine.settings import Settings
from engine.workspace import Workspace
from tests.export.conftest import load, save, sums_hold
from tests.support.run_files import write_run

WHOLE = """
import sys, torch
from safetensors.torch import load_file
base, out = sys.argv[1:]
weights = {"llm." + name: value for name, value in load_file(base + "/model.safetensors").items()}
text = f"model = dict(llm=dict(pretrained_model_name_or_path={base!r}))"
torch.save({"state_dict": weights, "meta": {"cfg": text, "iter": 3}}, out)
open(out + ".py", "w").write(text)
"""
CONFIG = """
model = dict(
    llm=dict(pretrained_model_name_or_path="models/named"), lora=dict(r=8, lora_alpha=16)
)
"""
TRAINER = """#!/bin/sh
case "$*" in *engine.train.entry*)
    for one; do test "$last" = --work-dir && run=$one; last=$one; done
    cp {source}/iter_12.pth {source}/*.py {source}/trainer.json "$run"
    echo "$run/iter_12.pth" > "$run/last_checkpoint"
    exit 0
esac
exec {python} "$@"
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


@pytest.fixture
def checkpoint(workspace: Workspace, trained_run: RunFolder) -> Path:
    folder = workspace.runs / "assistant-01"
    shutil.copytree(trained_run.path, folder)
    return folder / "iter_12.pth"


def begin(workspace: Workspace, checkpoint: Path, *steps: Step, base: Path | None = None) -> Job:
    found = plan.plan(checkpoint, workspace, base)
    order = plan.order(found, steps, workspace=workspace, settings=Settings())
    return job.start(workspace, order)


def until(holds: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def ended(one: Job) -> State:
    until(lambda: not one.running)
    state = one.state
    assert state is not None
    return state


def process(one: Job) -> int:
    [found] = [
        each.pid
        for each in psutil.process_iter(["cmdline"])  # None of a zombie
        if str(one.folder) in (each.info["cmdline"] or ())
    ]
    return found


@pytest.mark.slow
def test_killed_in_the_middle_it_leaves_no_half_model_and_can_be_begun_again(
    workspace: Workspace, checkpoint: Path, tiny_model: Path
) -> None:
    base = shutil.copytree(tiny_model, workspace.models / "base")
    weights = load(base / "model.safetensors")
    weights |= {f"extra.{number}": np.zeros(1 << 23, "f4") for number in range(16)}
    save(base / "model.safetensors", weights)
    begun = begin(workspace, checkpoint, "convert", "merge", base=base)
    with pytest.raises(Problem, match="is being exported already"):
        begin(workspace, checkpoint, "convert", base=base)
    until(lambda: any(one.suffix == ".part" for one in workspace.models.iterdir()))
    os.kill(process(begun), signal.SIGKILL)
    lost = ended(begun)
    assert (lost.status, lost.step) == ("lost", "merge")
    found = plan.plan(checkpoint, workspace, base)
    assert found.converted and not found.is_merged and found.left == ("merge", "verify")

    done = ended(begin(workspace, checkpoint, "merge", base=base))
    assert (done.status, done.result) == ("done", str(found.merged)), done
    assert done.done == done.total > 16 << 25
    sums_hold(found.merged)
    assert sorted(one.name for one in workspace.models.iterdir()) == [
        "assistant-01-iter_12",
        "base",
    ]


def test_what_was_merged_onto_a_chosen_base_is_verified_against_it(workspace: Workspace) -> None:
    """Also by a window that was not there when it was chosen."""
    run = write_run(workspace, "run-01", "finished", step=4, saved=(4,))
    (run / "config.py").write_text(CONFIG)
    bases = [workspace.models / name for name in ("named", "chosen")]
    for base in bases:
        base.mkdir(parents=True)
        (base / "config.json").write_text("{}")
    checkpoint = run / "iter_4.pth"
    assert plan.plan(checkpoint, workspace).base == bases[0]
    chosen = plan.plan(checkpoint, workspace, bases[1])
    for steps in (("convert",), ("merge",)):
        order = plan.order(chosen, steps, workspace=workspace, settings=Settings())
        with job.begun(workspace, order):
            pass
        used = "merge" in steps  # converting to an adapter needs no base
        assert plan.plan(checkpoint, workspace).base == bases[used]
    shutil.rmtree(bases[1])
    assert plan.plan(checkpoint, workspace).base == bases[0]


@pytest.mark.slow
def test_choices_hold_and_a_failure_is_kept_in_words(
    workspace: Workspace, checkpoint: Path, tiny_model: Path
) -> None:
    plan.choose(workspace, Choices(dtype="fp16", device="cpu", out="./finished"))
    found = plan.plan(checkpoint, workspace)
    assert found.merged == workspace.root / "finished" / "assistant-01-iter_12"
    done = ended(begin(workspace, checkpoint, "convert", "merge"))
    assert done.status == "done"
    kinds = {str(one.dtype) for one in load(found.merged / "model.safetensors").values()}
    assert kinds == {"float16"}
    failed = ended(begin(workspace, checkpoint, "merge"))
    assert failed.status == "failed" and failed.said is not None
    assert "exists already" in failed.said.what
    order = job.of(workspace, checkpoint).order
    assert order is not None and order.dtype == "fp16"
    for one in job.of(workspace, checkpoint).folder.iterdir():
        assert one.stat().st_mode & 0o077 == 0, "what we write is the user's alone"


def test_who_is_quicker_than_a_process_that_is_done_waits_for_it(workspace: Workspace) -> None:
    order, left = Order(str(workspace.runs / "iter_3.pth"), ("merge",)), threading.Event()
    with job.begun(workspace, order) as (before, lock):
        with pytest.raises(Problem, match="already"), job.begun(workspace, order):
            pass
        files.write_json(before.folder / job.STATE, State("done", "merge", time.time()))
        held = os.dup(lock)
        leaving = threading.Timer(0.3, lambda: (left.set(), os.close(held)))
        leaving.start()
    with job.begun(workspace, order) as (after, _lock):
        assert after.running and left.is_set()
    leaving.join()


@pytest.mark.slow
def test_a_whole_model_is_converted_loaded_and_asked(
    workspace: Workspace, tiny_model: Path
) -> None:
    (workspace.runs / "whole").mkdir(parents=True)
    checkpoint = workspace.runs / "whole" / "iter_3.pth"
    subprocess.run([sys.executable, "-c", WHOLE, tiny_model, checkpoint], check=True)
    found = plan.plan(checkpoint, workspace)
    assert found.whole and found.left == ("convert", "verify")
    done = ended(begin(workspace, checkpoint, "convert", "verify"))
    assert done.status == "done", done
    found = plan.plan(checkpoint, workspace)
    assert found.left == () and found.verified is not None
    assert found.verified.alone and found.verified.agree and len(found.verified.prompts) == 4
    assert (found.merged / "tokenizer.json").is_file()


@pytest.mark.slow
def test_a_run_exports_what_it_made_when_it_has_succeeded(
    workspace: Workspace, trained_run: RunFolder, tmp_path: Path
) -> None:
    python = tmp_path / "python"
    python.write_text(TRAINER.format(source=trained_run.path, python=sys.executable))
    python.chmod(0o755)
    assert trained_run.config is not None
    settings = Settings(interpreter=str(python))
    wanted = planning.plan(
        trained_run.config, workspace=workspace, settings=settings, gpus=[], name="after",
        then_export=True,
    )  # fmt: skip
    run = launch.start(wanted, settings)
    assert control.wait(run, 60).state == "finished"
    begun = job.of(workspace, run.path / "iter_12.pth")
    until(lambda: begun.state is not None and not begun.running, seconds=120)
    assert begun.state is not None and begun.state.status == "done", begun.state
    found = plan.plan(run.path / "iter_12.pth", workspace)
    assert found.left == () and found.verified is not None
    verified: Verified = found.verified
    assert verified.agree and not verified.alone
    asked = {one.prompt for one in verified.prompts}
    assert len(asked) >= 6, "the run's questions, the dataset's, and some more"
    # The tiny tokenizer's template is not XTuner's: servers would ask otherwise.
    assert verified.templates is not None and not verified.templates.why
    assert msgspec.json.decode((run.path / "run.json").read_bytes())["then_export"] is True
