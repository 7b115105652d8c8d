"""The preflight of a run that is planned, and what of it the run keeps.

Above run and config, so that they need not know each other.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from engine.config.checks.findings import ERROR, WARNING, Finding
from engine.config.preflight import Progress, Report, preflight
from engine.i18n import _
from engine.joined.own_runs import OwnRuns
from engine.joined.rows import Rows
from engine.run import reach
from engine.run.planning import LaunchPlan
from engine.run.state import Expected
from engine.settings import Settings
from engine.workspace import Workspace


def look(plan: LaunchPlan, settings: Settings, progress: Progress | None = None) -> Report:
    """Check config and data as `plan` would use them; see `preflight`. Takes seconds."""
    workspace = Workspace(plan.workspace)
    return preflight(
        plan.config,
        settings=settings,
        gpus=plan.gpus,
        elsewhere=plan.launcher == "slurm",
        processes=plan.processes,
        deepspeed=plan.deepspeed or None,
        work_dir=plan.dir,
        data=Rows(settings, workspace.cache),
        past=OwnRuns(workspace),
        progress=progress,
        also=[*_shares(plan), *_unseen(plan, settings)],
    )


def _shares(plan: LaunchPlan) -> Iterator[Finding]:
    """Whether there is a GPU for each process, and a process for each GPU."""
    each, gpus = plan.processes // plan.nodes, len(plan.gpus)
    if not gpus or each == gpus:
        return
    what = _("GPUs: {gpus}, processes: {processes}").format(gpus=gpus, processes=each)
    if each > gpus:
        why = _("Each process takes a GPU of its own: the last ones would find none.")
    else:
        why = _("Each process takes one GPU: the others would stand idle, and be held.")
    todo = _("Leave the number of processes empty: then it is one for each GPU.")
    yield Finding(ERROR if each > gpus else WARNING, "processes-gpus", what, why, todo)


def _unseen(plan: LaunchPlan, settings: Settings) -> Iterator[Finding]:
    found = reach.unseen(plan, settings)
    if found:
        paths, kinds = map(str, found), sorted(set(found.values()))
        yield Finding(
            WARNING,
            "disk-unshared",
            _("The other machines may not see {paths}").format(paths=", ".join(paths)),
            _("That is on a disk of this machine's own ({kinds}).").format(kinds=", ".join(kinds)),
            _("All nodes must have it under the same path: put it on a disk that they share."),
        )


def expecting(plan: LaunchPlan, report: Report | None) -> LaunchPlan:
    """`plan` with the GPU memory that `report` tells: the run's record keeps it."""
    needed = report.estimate if report is not None and plan.gpus else None
    if needed is None:
        return plan
    expected = Expected(needed.gpu_bytes, needed.allocated_bytes)
    return msgspec.structs.replace(plan, expected=expected)
