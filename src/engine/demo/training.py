"""The demo's training: a run like any other, started or found again, and waited for."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from engine import text
from engine.demo.ledger import Ledger
from engine.errors import Failed
from engine.i18n import _
from engine.machine.devices import GpuId
from engine.run import launch, planning
from engine.run.folder import RunFolder
from engine.settings import Settings
from engine.workspace import Workspace

STARTED = "train-started"
_LOOK = 0.5
"""Seconds between two looks at the run."""


class Trained(msgspec.Struct, frozen=True):
    """A run that finished."""

    folder: Path
    checkpoint: Path
    steps: int
    first_loss: float
    last_loss: float


def train(
    config: Path,
    *,
    workspace: Workspace,
    settings: Settings,
    gpus: list[GpuId] | None,
    deepspeed: str | None,
    book: Ledger,
    inputs: str,
    progress: Callable[[int, int, str], None],
) -> Trained:
    """Train with `config` and wait. Raises `Failed` when the run does not finish.

    A run that was started from the same `inputs` and still runs, or has
    finished, is taken up: interrupting the demo does not interrupt it.
    """
    run = _earlier(book, inputs)
    if run is None:
        plan = planning.plan(
            config, workspace=workspace, settings=settings, gpus=gpus, deepspeed=deepspeed
        )
        run = launch.start(plan, settings)
        book.note(STARTED, inputs, run=str(run.path))
    _wait(run, progress)
    return _finished(run)


def _earlier(book: Ledger, inputs: str) -> RunFolder | None:
    entry = book.done(STARTED, inputs)
    if entry is None or not Path(entry.facts["run"]).is_dir():
        return None
    run = RunFolder(Path(entry.facts["run"]))
    now = run.state
    return run if now.living or (now.state == "finished" and run.checkpoints()) else None


def _wait(run: RunFolder, progress: Callable[[int, int, str], None]) -> None:
    while run.state.living:
        at = run.progress()
        words = _("starting")
        if at.loss is not None:
            words = _("step {step} of {steps}, loss {loss:.3f}").format(
                step=at.step, steps=at.steps or "?", loss=at.loss
            )
            if at.eta:
                words += " · " + _("{time} to go").format(time=text.duration(at.eta))
        progress(at.step, at.steps or 0, words)
        time.sleep(_LOOK)


def _finished(run: RunFolder) -> Trained:
    summary = run.summary()
    whole = [one for one in run.checkpoints() if one.complete]
    if summary.state != "finished" or not whole:
        raise Failed(
            _("The demo's training ended as {state}").format(state=summary.state),
            summary.reason,
            summary.todo or _("Its log: {path}").format(path=run.log),
        )
    losses = run.progress().history["loss"]
    return Trained(run.path, whole[-1].path, summary.step, losses[0], losses[-1])
