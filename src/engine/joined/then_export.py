"""After a run that succeeded: its last checkpoint becomes a checked model.

    python .../bootstrap.py engine.joined.then_export RUN_FOLDER

The run's supervisor starts it where that was asked for at launch, and waits for it. The
app shows it as it shows an export that was started by hand.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec

from engine import i18n
from engine.errors import Problem
from engine.export import job, plan
from engine.export.exporter import Exporter
from engine.i18n import _
from engine.joined import dataset_questions
from engine.run.folder import RunFolder
from engine.settings import Settings
from engine.workspace import Workspace


def export(folder: Path) -> job.Job | None:
    """Export the last whole checkpoint of the run in `folder`; None when it is done already.

    Raises `Problem` when there is none, or when it cannot be exported.
    """
    run = RunFolder(folder)
    record = run.record
    last = run.last_checkpoint()
    if record is None or last is None:
        raise Problem(_("The run {name} has no checkpoint to export").format(name=run.name))
    workspace = Workspace(Path(record.workspace))
    found = plan.plan(last.path, workspace)
    if not found.left:
        return None
    rows = dataset_questions.of_config(plan.config_text(found), workspace.root)
    settings = Settings(interpreter="" if record.python == sys.executable else record.python)
    order = plan.order(found, found.left, workspace=workspace, settings=settings, rows=rows)
    with job.begun(workspace, order) as (begun, _lock):
        Exporter(begun.folder).run()
    return begun


def main() -> None:
    """Export; what goes wrong before a job begins is for the supervisor's log."""
    i18n.use(os.environ.get("TUNEDECK_LANGUAGE", ""))
    try:
        done = export(Path(sys.argv[1]))
    except Problem as problem:
        sys.exit(str(problem))
    state = done.state if done is not None else None
    if state is not None and state.status != "done":
        said = msgspec.json.encode(state.said).decode() if state.said else ""
        sys.exit(f"{state.step}: {state.status} {said}")


if __name__ == "__main__":
    main()
