"""What an export keeps of the training that it comes from: run, step, versions, losses.

A checkpoint lies in the folder of its run. What the record there says travels with the
adapter (`NAME`); the losses are many, and are read from the run's folder when a card is
written, if it is still there.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from engine.weight_files import read_json

NAME = "training.json"
_RECORD = "run.json"  # the run's own, where it is one of ours
_LOSSES = "*/vis_data/scalars.json"  # XTuner writes one at every start


class Training(NamedTuple):
    """Where a model comes from; "" and {} where the run is not one of ours."""

    checkpoint: str
    step: int | None
    run: str
    workspace: str
    """The folder that relative paths of the config start from."""
    versions: dict[str, str]
    """Of the libraries that trained it."""

    def text(self) -> str:
        """As `NAME` has it."""
        return json.dumps(self._asdict(), indent=2, ensure_ascii=False) + "\n"


def of(checkpoint: Path, step: int | None) -> Training:
    """What is known of the training that saved `checkpoint` at `step`."""
    path = checkpoint.absolute()
    return _made({**read_json(path.parent / _RECORD), "checkpoint": str(path), "step": step})


def read(adapter: Path) -> Training | None:
    """What the folder of an adapter says; None when it says nothing."""
    told = read_json(adapter / NAME)
    return _made(told) if told.get("checkpoint") else None


def losses(trained: Training) -> list[tuple[int, float]]:
    """Step and loss up to the checkpoint, as far as the run's folder is still there.

    After a resume the steps that were lost come again, and the later ones count.
    """
    found: dict[int, float] = {}
    for file in sorted(Path(trained.checkpoint).parent.glob(_LOSSES)):
        with suppress(OSError), file.open("rb") as lines:
            for line in lines:
                with suppress(ValueError, KeyError, TypeError):  # the last one may be torn
                    told = json.loads(line)
                    found[int(told["step"])] = float(told["loss"])
    end = trained.step or max(found, default=0)
    return [(step, found[step]) for step in sorted(found) if step <= end]


def _made(told: dict[str, Any]) -> Training:
    step, versions = told.get("step"), told.get("versions")
    return Training(
        checkpoint=str(told.get("checkpoint") or ""),
        step=step if isinstance(step, int) else None,
        run=str(told.get("run") or ""),
        workspace=str(told.get("workspace") or ""),
        versions={str(name): str(one) for name, one in versions.items()}
        if isinstance(versions, dict)
        else {},
    )
