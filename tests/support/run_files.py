"""Run folders as a run leaves them, for tests that only look."""

from __future__ import annotations

import json
import math
import os
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

from engine import files
from engine.machine.devices import GpuId
from engine.run import state
from engine.run.processes import Identity
from engine.run.state import Cause, Expected, Facts, RunRecord, RunState, Word
from engine.workspace import Workspace

START = "20261124_210407"


def write_run(
    workspace: Workspace,
    name: str,
    word: Word,
    *,
    step: int = 0,
    steps: int = 100,
    saved: tuple[int, ...] = (),
    cause: Cause | None = None,
    created: float | None = None,
    log: str = "",
    gradient: bool = True,
    expected: Expected | None = None,
    gpus: Sequence[GpuId] = (),
) -> Path:
    """Make ``runs/NAME``. A run in progress is supervised by the test's own process."""
    folder = files.private_folder(workspace.runs / name)
    now = created if created is not None else time.time()
    living = word in state.LIVING
    files.write_json(
        folder / state.RECORD,
        RunRecord(
            run=name,
            created=now,
            user="me",
            host="here",
            source=str(workspace.configs / "assistant.py"),
            config="config/assistant.py",
            config_hash=f"hash of {name}",
            workspace=str(workspace.root),
            python="python",
            gpus=list(gpus),
            processes=1,
            deepspeed="",
            command=["python", "train", name],
            environment={},
            versions={},
            expected=expected,
        ),
    )
    files.write_json(
        folder / state.STATE,
        RunState(
            word,
            changed=now,
            supervisor=Identity.of(os.getpid()) if living else None,
            started=now,
            ended=None if living else now + 95,
            exit=None if living else int(word == "failed"),
            cause=cause,
        ),
    )
    files.write_json(folder / state.FACTS, Facts(first=0, steps=steps, started=now))
    (folder / state.LOG).write_text("", encoding="utf-8")
    (folder / START / "vis_data").mkdir(parents=True, exist_ok=True)
    add_steps(folder, 0, step, gradient=gradient, steps=steps)
    if log:
        add_log(folder, log)
    for number in saved:
        with zipfile.ZipFile(folder / f"iter_{number}.pth", "w") as checkpoint:
            checkpoint.writestr("archive/data.pkl", b"")
    return folder


def add_steps(
    folder: Path,
    first: int,
    last: int,
    *,
    gradient: bool = True,
    steps: int = 100,
    memory: int | None = None,
) -> None:
    """Append the steps after `first` up to `last` to scalars and log, as XTuner writes them."""
    with (folder / START / "vis_data" / "scalars.json").open("a", encoding="utf-8") as scalars:
        for step in range(first + 1, last + 1):
            point = {"lr": 2e-4, "data_time": 0.01, "loss": loss_at(step), "time": 0.5}
            point |= {"grad_norm": 0.5 + 1 / step} if gradient else {}
            point |= {"memory": memory} if memory is not None else {}
            scalars.write(json.dumps({**point, "iter": step, "step": step}) + "\n")
    lines = [
        f"11/24 21:04:{step % 60:02} - mmengine - INFO - Iter(train) [{step}/{steps}]  "
        f"lr: 2.0000e-04  eta: 0:00:10  time: 0.5000  data_time: 0.0100  loss: {loss_at(step):.4f}"
        for step in range(first + 1, last + 1)
    ]
    if lines:
        add_log(folder, "\n".join(lines))


def loss_at(step: int) -> float:
    """The loss of a run that learns."""
    return 0.5 + 2.5 * math.exp(-step / 30)


def add_log(folder: Path, text: str) -> None:
    """Append whole lines to the raw log."""
    with (folder / state.LOG).open("a", encoding="utf-8") as log:
        log.write(text + "\n")


def gpu_sample(
    step: int | None, used: int, total: int = 25_769_803_776, **more: float
) -> dict[str, object]:
    """A sample of one card, as the supervisor takes it."""
    card = {"index": 0, "used": used, "total": total, "util": 98, "temperature": 71}
    return {"time": time.time(), "step": step, "gpus": [card | {"power": 412.5} | more]}


def add_gpu_samples(folder: Path, *samples: dict[str, object]) -> None:
    """Append samples to those of the run in `folder`."""
    path = folder / state.GPU_METRICS
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(sample) + "\n" for sample in samples)
