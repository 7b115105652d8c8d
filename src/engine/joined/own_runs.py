"""A workspace's finished runs, for `engine.config.preflight`: told by the run part."""

from __future__ import annotations

import math
import platform
from collections.abc import Iterator

from engine.config.memory.past import PastRun
from engine.errors import Problem
from engine.run.folder import RunFolder
from engine.run.listing import list_runs
from engine.workspace import Workspace


class OwnRuns:
    """See `engine.config.memory.past.Past`."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def runs(self) -> Iterator[PastRun]:
        """Finished runs that this machine made, newest first; each is read when it is asked for."""
        for run in list_runs(self._workspace):
            try:
                found = _past(run)
            except Problem:  # its files were changed: it tells nothing
                continue
            if found is not None:
                yield found


def _past(run: RunFolder) -> PastRun | None:
    record, config = run.record, run.config
    if record is None or config is None or record.host != platform.node():
        return None
    state = run.written_state()
    if state is None or state.state != "finished":
        return None
    at = run.progress()
    memory = max(filter(math.isfinite, at.history["memory"]), default=0)
    return PastRun(
        name=run.name,
        config=config,
        gpus=record.gpus,
        deepspeed=record.deepspeed,
        processes=record.processes,
        peak=int(memory * 1024**2) or None,
        step_seconds=at.step_time,
    )
