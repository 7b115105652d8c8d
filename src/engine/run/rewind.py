"""Going back to a checkpoint: its config, what was saved after it, what is written down."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import msgspec

from engine import files
from engine.run import inputs, state
from engine.run.checkpoints import Checkpoint
from engine.run.folder import RunFolder
from engine.run.planning import LaunchPlan
from engine.run.state import RunRecord

FOLDER = "set-aside"
"""Where later checkpoints go, by the number of the attempt that goes on without them."""


def config_of(run: RunFolder, checkpoint: Checkpoint) -> Path | None:
    """The frozen config that `checkpoint` was trained with.

    A resume with other settings keeps the older config beside the new one, with
    the number of the last attempt that ran it: ``assistant.2.py``.
    """
    frozen = run.config
    if run.record is None or frozen is None:
        return frozen
    attempt = _attempt_of(run, checkpoint)
    kept = re.compile(re.escape(frozen.stem) + r"\.(\d+)" + re.escape(frozen.suffix))
    older = {
        int(found[1]): path
        for path in frozen.parent.iterdir()
        if (found := kept.fullmatch(path.name)) and int(found[1]) >= attempt
    }
    return older[min(older)] if older else frozen


def later(run: RunFolder, checkpoint: Checkpoint) -> list[Checkpoint]:
    """The run's checkpoints after `checkpoint`, half written ones too."""
    return [one for one in run.checkpoints() if one.step > checkpoint.step]


def set_aside(run: RunFolder, checkpoint: Checkpoint, attempt: int) -> None:
    """Move the checkpoints after `checkpoint` away, so that `attempt` can go on from it.

    They belong to another course of the training: left in place, the next resume
    would take one of them for its newest, and DeepSpeed would write into their folders.
    """
    moving = later(run, checkpoint)
    if not moving:
        return
    folder = files.private_folder(run.path / FOLDER / str(attempt))
    for one in moving:
        one.path.rename(folder / one.path.name)
    # XTuner's own note of the newest; nothing of ours believes it.
    (run.path / "last_checkpoint").write_text(str(checkpoint.path), encoding="utf-8")


def record(plan: LaunchPlan, before: RunRecord) -> None:
    """Write down what a resume does in another way than the start did."""
    frozen = plan.dir / before.config
    config_hash = hashlib.sha256(frozen.read_bytes()).hexdigest()
    # What was reckoned holds for these settings on so many cards.
    alike = (config_hash, plan.processes) == (before.config_hash, before.processes)
    changed = msgspec.structs.replace(
        before,
        config_hash=config_hash,
        expected=before.expected if alike and plan.gpus else None,
        gpus=plan.gpus,
        processes=plan.processes,
        command=plan.command,
        environment=plan.env,
    )
    files.write_json(plan.dir / state.RECORD, changed)
    inputs.write(plan.dir, frozen, plan.workspace)


def _attempt_of(run: RunFolder, checkpoint: Checkpoint) -> int:
    """The attempt that saved `checkpoint`; the present one where no event tells."""
    attempt = 1
    found = None
    for event in run.events():
        if event.event == "start":
            attempt = event.attempt or attempt
        elif event.event == "checkpoint" and event.path == checkpoint.path.name:
            found = attempt
    return found or attempt
